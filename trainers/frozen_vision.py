# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A frozen vision tower runs once for each chunk of a step, not once in each pass of the gradient cache.

Vision tower and projector are not trained, so what they make of an image is the same in the second pass: it is kept from
the first. They also run as at inference, without dropout, whatever mode the rest is in.
"""

import contextlib
from collections.abc import Iterator

import torch
from peft import PeftModel
from torch import nn

from modeling_unime import UniMEModel


def modules_outside_the_llm(model: UniMEModel) -> list[nn.Module]:
    """Vision tower, projector and whatever else of the backbone does not lie on the way to the LLM."""
    module, outside = model.model, []
    for step in model.family.language_model.split("."):
        outside += [child for name, child in module.named_children() if name != step]
        module = getattr(module, step)
    return outside


class FrozenVision:
    """Takes the place of a backbone's `get_image_features`; of a model without an LLM, CLIP, nothing is frozen or kept."""

    def __init__(self, model: nn.Module):
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self._kept: dict[int, object] = {}
        self._key: int | None = None
        self.modules: list[nn.Module] = []
        if not isinstance(base, UniMEModel):
            return
        self.modules = modules_outside_the_llm(base)
        trained = [
            name for module in self.modules for name, weight in module.named_parameters() if weight.requires_grad
        ]
        if trained:
            raise ValueError(f"{trained[0]} is trained, so image features cannot be kept from pass to pass")
        self._compute = base.model.get_image_features
        base.model.get_image_features = self  # private: that forwards call it; none takes features

    def __call__(self, *args, **kwargs):
        """What the backbone's own method gives, computed or kept."""
        if self._key in self._kept:
            return self._kept[self._key]
        with torch.no_grad():
            features = self._compute(*args, **kwargs)
        if self._key is not None:
            self._kept[self._key] = features
        return features

    def freeze(self) -> None:
        """Put the modules into evaluation mode, after `model.train()`."""
        for module in self.modules:
            module.eval()

    @contextlib.contextmanager
    def keep(self, chunk: dict) -> Iterator[None]:
        """Keep the features of this chunk, or use those that were kept of the same object."""
        self._key = id(chunk)
        try:
            yield
        finally:
            self._key = None

    def forget(self) -> None:
        """Free the features, when a step ends."""
        self._kept.clear()
