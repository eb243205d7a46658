# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""`pipeline("feature-extraction", model=folder, trust_remote_code=True)` for UniME.

The library's own class calls the tokenizer alone, whose texts lack the prompt: the vectors would be of the right shape
and wrong. The configuration names this one, which goes through the processor.
"""

import torch
from transformers.pipelines.base import Pipeline

from .pictures import is_picture


class UniMEFeatureExtractionPipeline(Pipeline):
    """Texts (always taken as such), pictures in any form but a string, or dictionaries with "text" and "image"."""

    _load_processor = True
    _load_image_processor = _load_video_processor = _load_feature_extractor = _load_tokenizer = False

    def _sanitize_parameters(self, instruction=None, max_length=None, return_tensors=None):
        given = {"instruction": instruction, "max_length": max_length}
        given = {name: value for name, value in given.items() if value is not None}
        return given, {}, {} if return_tensors is None else {"return_tensors": return_tensors}

    def preprocess(self, inputs, instruction: str | None = None, max_length: int | None = None) -> dict:
        if isinstance(inputs, str) or not is_picture(inputs):
            inputs = {"text": inputs}
        elif not (isinstance(inputs, dict) and {"text", "image"} & set(inputs)):
            inputs = {"image": inputs}
        return self.processor(
            text=[inputs.get("text")], images=[inputs.get("image")], instruction=instruction, max_length=max_length
        )

    def _forward(self, model_inputs):
        return self.model(**model_inputs)

    def postprocess(self, model_outputs, return_tensors: bool = False) -> torch.Tensor | list[list[float]]:
        """(1, D), unit length."""
        return model_outputs.embeddings if return_tensors else model_outputs.embeddings.tolist()
