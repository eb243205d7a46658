# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""From a folder, a Hub name or a model to a model that is ready to train, and its processor."""

from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel
from transformers.utils import logging

from evaluation.dual_encoder import DualEncoderModel, DualEncoderProcessor, is_dual_encoder
from modeling_unime import UniMEModel, UniMEProcessor
from trainers.embedding_config import EmbeddingTrainingConfig
from trainers.engines import engine_of, split_for_zero3, without_sharding
from trainers.lora import freeze_for_training, hold_in_float32
from trainers.quantization import quantize_llm

logger = logging.get_logger(__name__)


def load_model(path_or_repo: str | Path, args: EmbeddingTrainingConfig) -> PreTrainedModel:
    """A UniME model, a multimodal LLM without its head, or CLIP, on the CPU; its weights are loaded strictly.

    Raises:
        WeightsMismatchError: a weight is missing or unexpected.
        ValueError: an option has no meaning for the model.
    """
    options = {} if args.attn_implementation is None else {"attn_implementation": args.attn_implementation}
    if not is_dual_encoder(path_or_repo):
        return UniMEModel.from_backbone(str(path_or_repo), args.attention, dtype=args.dtype, **options)
    return DualEncoderModel.load(path_or_repo, dtype=args.dtype, **options)


def load_processor(model: str | Path | PreTrainedModel, args: EmbeddingTrainingConfig):
    """The processor of a folder or Hub name, at the resolution that the options ask for.

    Raises:
        ValueError: the model is an object, which has none.
    """
    if not isinstance(model, str | Path):
        raise ValueError(
            "processing_class is needed beside a model object or model_init: give UniMEProcessor.from_backbone(...)"
        )
    if is_dual_encoder(model):
        return DualEncoderProcessor.load(model)
    processor = UniMEProcessor.from_backbone(str(model))
    if args.image_resolution is not None:
        processor.image_resolution = args.image_resolution
    return processor


def prepare_model(
    model: str | Path | PreTrainedModel, args: EmbeddingTrainingConfig, peft_config: PeftConfig | None = None
) -> torch.nn.Module:
    """The model, loaded if need be, with all frozen but what is trained: LoRA on the LLM, the LLM, or CLIP's towers.

    Args:
        model: folder, Hub name, or a model, which is changed in place.
        args: the stage's options.
        peft_config: LoRA other than `args` say.

    Raises:
        ValueError: options that do not go together with the model; names them.
    """
    with without_sharding(args):
        if isinstance(model, str | Path):
            model = load_model(model, args)
        if isinstance(model, DualEncoderModel):
            check_dual_encoder_options(args, peft_config)
            model.logit_scale.requires_grad_(False)  # the loss has a temperature of its own
            trained = model
        elif not isinstance(model, UniMEModel):  # LoRA that the caller has put on it, or a model of the caller's own
            trained = model
        else:
            if args.quantization == "4bit":
                dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32
                quantize_llm(model, dtype)
                model.to(args.device)
            torch.manual_seed(args.seed)  # LoRA starts from random numbers
            trained = freeze_for_training(model, peft_config)
    one_dtype = isinstance(model, UniMEModel) and not isinstance(trained, PeftModel) and model.family.one_dtype
    hold_in_float32(trained, whole=one_dtype)
    sizes = [(weight.numel(), weight.requires_grad) for weight in trained.parameters()]
    count, total = sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)
    logger.warning(f"training {count:,} of {total:,} parameters ({100 * count / total:.1f} %)")
    if engine_of(args) == "zero3":
        split_for_zero3(trained, args)
    return trained


def check_dual_encoder_options(
    args: EmbeddingTrainingConfig, peft_config: PeftConfig | None = None, name: str = "the model"
) -> None:
    """Refuse options that mean nothing to CLIP.

    Raises:
        ValueError: names the option.
    """
    if args.lora_rank or peft_config is not None:
        raise ValueError(
            f"{name} is CLIP, whose towers are trained whole: set lora_rank to 0, and give no peft_config"
        )
    for option in ("image_resolution", "attention"):
        if getattr(args, option) is not None:
            raise ValueError(f"{name} is CLIP, which has no choice of {option}: leave the option out")
