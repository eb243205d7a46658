# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""CLIP as a baseline of stage 2: both towers trained on the same rows, by the same losses."""

from collections.abc import Mapping

import torch
from transformers import TrainingArguments
from transformers.utils import logging

from evaluation.dual_encoder import DualEncoderModel, DualEncoderProcessor

from .lora import copy_trained, hold_in_float32
from .run import ModelArguments

logger = logging.get_logger(__name__)


def check_dual_encoder_options(arguments: ModelArguments, config: TrainingArguments) -> None:
    """Refuse options that mean nothing to CLIP.

    Raises:
        ValueError: names the option.
    """
    if config.push_to_hub:
        raise ValueError(f"{arguments.model} is CLIP, a baseline, and push_to_hub pushes UniME models: leave it out")
    if arguments.lora_rank:
        raise ValueError(f"{arguments.model} is CLIP, whose towers are trained whole: set lora_rank to 0")
    for name in ("image_resolution", "attention"):
        if getattr(arguments, name) is not None:
            raise ValueError(f"{arguments.model} is CLIP, which has no choice of {name}: leave the option out")


def _load(arguments: ModelArguments) -> DualEncoderModel:
    options = {} if arguments.attn_implementation is None else {"attn_implementation": arguments.attn_implementation}
    model = DualEncoderModel.load(arguments.model, dtype=arguments.dtype, **options)
    model.logit_scale.requires_grad_(False)
    return model


def load_dual_encoder(arguments: ModelArguments) -> tuple[DualEncoderModel, DualEncoderProcessor]:
    """(model ready to train, processor); its learned temperature is not used, and stays as it is."""
    model = _load(arguments)
    hold_in_float32(model)
    logger.warning(f"training {model.num_parameters(only_trainable=True):,} parameters, both towers of CLIP")
    return model, DualEncoderProcessor.load(arguments.model)


def whole_dual_encoder(arguments: ModelArguments, trained: Mapping[str, torch.Tensor]) -> DualEncoderModel:
    """The model that training started from, read again, with the trained weights put in."""
    model = _load(arguments)
    copy_trained(model, trained)
    return model
