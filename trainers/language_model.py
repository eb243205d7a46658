# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Loads the LLM of a multimodal model without its vision tower, for stage 1, which trains on texts alone.

The paper takes the LLM out of the model for stage 1 (UniME, arXiv 2504.17432, section 3.2). Here its weights alone are
read, into the backbone's own class without the other modules: tokens get their positions and reach the LLM exactly as
in the whole model. The finished model is the whole one with the trained weights put in (`run.train_and_save`).
"""

import torch
from torch import nn

from modeling_unime import UniMEModel
from modeling_unime.modeling_unime import STRICT_LOADING, check_loading, no_loading_report


def load_language_model(path_or_repo: str, attention: str | None = None, **options) -> UniMEModel:
    """A model that embeds texts as the whole one does, and holds the weights of its LLM only.

    Args:
        path_or_repo: folder or Hub id of a UniME model or of a multimodal LLM of a supported family.
        attention: as for `UniMEModel.from_backbone`.
        options: passed to `from_pretrained`: `dtype`, `attn_implementation`, ...

    Raises:
        ValueError: for a family that is not supported.
        WeightsMismatchError: when a weight of the whole model, tower included, is missing or unexpected.
    """
    # Names and shapes of all weights are checked on the meta device, where they take no memory.
    whole = UniMEModel.from_backbone(path_or_repo, attention=attention, **options, device_map="meta")
    backbone_class = _keep_only(type(whole.model), whole.family.language_model)
    with no_loading_report():
        backbone, info = backbone_class.from_pretrained(
            path_or_repo,
            config=whole.config.backbone,
            key_mapping=whole.family.key_mapping,
            **STRICT_LOADING,
            **options,
        )
    check_loading(path_or_repo, info | {"unexpected_keys": ()})  # the tower's, which are all known
    for module, _ in _way_to(backbone, whole.family.language_model):
        for name, _ in list(module.named_parameters(recurse=False)):  # of the whole picture, e.g. its line breaks
            setattr(module, name, None)
    with torch.device("meta"):
        model = UniMEModel(whole.config)
    model.set_backbone(backbone)
    return model.eval()


def _way_to(module: nn.Module, path: str) -> list[tuple[nn.Module, str]]:
    """The modules above the one at a dotted path, each with the name of the next."""
    way = []
    for name in path.split("."):
        way.append((module, name))
        module = getattr(module, name)
    return way


def _keep_only(model_class: type, path: str) -> type:
    """The class without all modules that do not lie on the way to one.

    It has the name and the module of the original, by which the library finds its renaming of stored weights.
    """

    def build(self, config):
        model_class.__init__(self, config)
        for module, next_name in _way_to(self, path):
            for name, _ in list(module.named_children()):
                if name != next_name:
                    setattr(module, name, None)

    return type(model_class.__name__, (model_class,), {"__init__": build, "__module__": model_class.__module__})
