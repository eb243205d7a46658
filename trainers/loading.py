# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""From a folder, a Hub name or a model to a model that is ready to train, and from there to the finished model."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel
from transformers.utils import logging

from evaluation.dual_encoder import DualEncoderModel, DualEncoderProcessor, is_dual_encoder
from modeling_unime import UniMEModel, UniMEProcessor
from trainers.embedding_config import EmbeddingTrainingConfig
from trainers.engines import SPLITS_WEIGHTS, engine_of, split_for_zero3, without_sharding
from trainers.lora import copy_trained, freeze_for_training, hold_in_float32, merge_trained, quantize_llm
from unime.data.image_sizes import ImageSizes

logger = logging.get_logger(__name__)


def load_model(path_or_repo: str | Path, args: EmbeddingTrainingConfig) -> PreTrainedModel:
    """A UniME model, a multimodal LLM without its head, or CLIP, on the CPU; its weights are loaded strictly."""
    options = {} if args.attn_implementation is None else {"attn_implementation": args.attn_implementation}
    if not is_dual_encoder(path_or_repo):
        trusted = args.trust_remote_code
        return UniMEModel.from_backbone(str(path_or_repo), args.attention, trusted, dtype=args.dtype, **options)
    return DualEncoderModel.load(path_or_repo, dtype=args.dtype, **options)


def load_processor(model: str | Path | PreTrainedModel | None, args: EmbeddingTrainingConfig):
    """The processor of a folder or Hub name, at the resolution that the options ask for."""
    if not isinstance(model, str | Path):
        raise ValueError(
            "processing_class is needed beside a model object or model_init: give UniMEProcessor.from_backbone(...)"
        )
    if is_dual_encoder(model):
        return DualEncoderProcessor.load(model)
    processor = UniMEProcessor.from_backbone(str(model), trust_remote_code=args.trust_remote_code)
    if args.image_resolution is not None:
        processor.image_resolution = args.image_resolution
    return processor


def picture_sizes(processor, args: EmbeddingTrainingConfig) -> ImageSizes | None:
    """Which sizes of pictures a processor can take; None: all, as CLIP resizes every one to a square."""
    return ImageSizes(lambda: processor, args.max_length) if isinstance(processor, UniMEProcessor) else None


def prepare_model(
    model: str | Path | PreTrainedModel, args: EmbeddingTrainingConfig, peft_config: PeftConfig | None
) -> torch.nn.Module:
    """The model, loaded if need be, with all frozen but what is trained: LoRA, or else the LLM, or CLIP's towers."""
    with without_sharding(args):
        if isinstance(model, str | Path):
            model = load_model(model, args)
        trained = model  # CLIP, LoRA that the caller has put on it, or a model of the caller's own
        if isinstance(model, DualEncoderModel):
            check_dual_encoder_options(args, peft_config)
            model.logit_scale.requires_grad_(False)  # the loss has a temperature of its own
        elif isinstance(model, UniMEModel):
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
    """Refuse options that mean nothing to CLIP."""
    if args.lora_rank or peft_config is not None:
        raise ValueError(
            f"{name} is CLIP, whose towers are trained whole: set lora_rank to 0, and give no peft_config"
        )
    for option in ("image_resolution", "attention"):
        if getattr(args, option) is not None:
            raise ValueError(f"{name} is CLIP, which has no choice of {option}: leave the option out")


class FinishedModel:
    """The finished model: what training started from (`source`, read again), with the trained weights put in.

    However an engine holds the weights while training, this is put together on the CPU of the main process. All that was
    not trained is bit-equal to the source.
    """

    def __init__(
        self, source: str | Path | PreTrainedModel, args: EmbeddingTrainingConfig, peft_config: PeftConfig | None
    ):
        self.path = source if isinstance(source, str | Path) else None
        self.args = args
        self.peft_config = peft_config
        if self.path is None:
            if engine_of(args) in SPLITS_WEIGHTS or args.quantization != "none":
                raise ValueError(
                    "a model object cannot be split over processes or quantised, since the finished model needs it whole: "
                    "save it, and give the folder"
                )
            self.dtypes = {name: weight.dtype for name, weight in source.named_parameters()}

    def build(self, model: torch.nn.Module, trained: Mapping[str, torch.Tensor]) -> PreTrainedModel:
        """The finished model, of the model as it is trained and of its trained weights by name, whole."""
        with without_sharding(self.args):
            if self.path is None:
                return self._without_training(model)
            source = load_model(self.path, self.args)
            if isinstance(source, DualEncoderModel):
                source.logit_scale.requires_grad_(False)
                copy_trained(source, trained)
                return source
            return merge_trained(source, trained, self.peft_config)

    def _without_training(self, model: torch.nn.Module) -> PreTrainedModel:
        """A copy of a model that every process holds whole, LoRA added to its weights."""
        finished = copy.deepcopy(model).to("cpu")
        if isinstance(finished, PeftModel):
            finished = finished.merge_and_unload()
        for name, weight in finished.named_parameters():
            weight.data = weight.data.to(self.dtypes[name])
        return finished
