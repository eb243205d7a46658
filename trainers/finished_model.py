# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The finished model: what training started from, with the trained weights put in.

However an engine holds the weights while training, this is put together on the CPU of the main process. All that was not
trained is bit-equal to the source.
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel

from evaluation.dual_encoder import DualEncoderModel
from trainers.embedding_config import EmbeddingTrainingConfig
from trainers.engines import SPLITS_WEIGHTS, engine_of, without_sharding
from trainers.loading import load_model
from trainers.lora import copy_trained, merge_trained


class FinishedModel:
    """Puts the finished model together.

    Args:
        source: folder or Hub name that is read again, or the model itself.
        args: the stage's options.
        peft_config: LoRA other than `args` say.

    Raises:
        ValueError: a model object is given to a run that does not hold it whole.
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
        """The finished model, on the CPU.

        Args:
            model: as it is trained, not wrapped by an engine.
            trained: its trained weights by name, whole.
        """
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
