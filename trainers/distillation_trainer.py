# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 1: textual discriminative knowledge distillation (UniME, arXiv 2504.17432, section 3.2, Eq. 2)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from evaluation.dual_encoder import is_dual_encoder
from trainers.collators import TextCollator
from trainers.data.text_dataset import TextDataset, make_text_dataset
from trainers.distillation_config import DistillationConfig
from trainers.embedding_trainer import EmbeddingTrainer
from trainers.losses import SimilarityDistillationLoss
from trainers.metrics import neighbour_ranks
from trainers.teachers.load import load_teacher
from trainers.teachers.vectors import teacher_vectors

logger = logging.get_logger(__name__)


class DistillationTrainer(EmbeddingTrainer):
    """Train the student to arrange the texts of a batch as the teacher does.

    Example::

        from trainers import DistillationConfig, DistillationTrainer

        args = DistillationConfig(output_dir="my-stage-1", per_device_train_batch_size=8, max_steps=2, report_to="none")
        trainer = DistillationTrainer("my-backbone", args, train_dataset=texts, teacher="nvidia/NV-Embed-v2")
        trainer.train()
        trainer.save_model()

    The similarity matrix spans the whole batch of all ranks: per-device batch x ranks, whatever the chunk size.
    Gradient accumulation does not enlarge it.

    Args:
        model: folder or Hub name of a UniME model or a multimodal LLM, or a [`UniMEModel`].
        args: a [`DistillationConfig`].
        train_dataset: a `datasets.Dataset` with columns of texts or lists of texts, a list of such rows, or a list of
            texts. A text that occurs twice counts once.
        eval_dataset: the same, for `evaluate()`: `eval_loss`, and the place that the student gives to the text which is
            nearest for the teacher, among the texts of a batch, as `eval_accuracy@1` and `eval_mrr`.
        teacher: a model's folder or name, Parquet files of vectors (see [`load_teacher`]), the name of a column with
            vectors (see [`encode_teacher`]), a `SentenceTransformer` or a [`Teacher`].
        text_columns: columns with texts (default: those of a known name, else the only column of texts).
        compute_metrics: gets `predictions`, the vectors (N, D) of the student and (N, D_teacher) of the teacher.
        options: see [`EmbeddingTrainer`] and `transformers.Trainer`.

    Raises:
        ValueError, TypeError: options, data or teacher cannot be used; names them.
    """

    config_class = DistillationConfig

    def __init__(
        self,
        model=None,
        args: DistillationConfig | None = None,
        *,
        teacher: Any = None,
        text_columns: Sequence[str] | None = None,
        **options,
    ):
        if isinstance(model, str | Path) and is_dual_encoder(model):
            raise ValueError(f"{model} is CLIP, whose text tower is no LLM: stage 1 needs a multimodal LLM")
        self.teacher, self.text_columns = teacher, text_columns
        super().__init__(model, args, **options)
        self._warned_precision = False

    def make_dataset(self, data: Any, name: str, args: DistillationConfig, processor) -> TextDataset:
        if isinstance(data, TextDataset):
            return data
        return make_text_dataset(data, name, self.teacher, self.text_columns, processor, args)

    def finish_dataset(self, dataset: TextDataset, args: DistillationConfig) -> TextDataset:
        """The model is loaded before the teacher encodes, for hours: a bad one shows at once."""
        if dataset.vectors is None:
            if isinstance(self.teacher, str | Path):
                self.teacher = load_teacher(self.teacher, device=str(args.device))
            dataset.vectors = teacher_vectors(dataset.texts, self.teacher, args.teacher_cache)
        return dataset

    def make_loss(self, args: DistillationConfig) -> SimilarityDistillationLoss:
        return SimilarityDistillationLoss(
            temperature=args.temperature,
            include_self=args.include_self,
            direction=args.direction,
            teacher_temperature=args.teacher_temperature,
            states=self._states_dtype(),
        )

    def make_collator(self, args: DistillationConfig, processor) -> TextCollator:
        return TextCollator(processor, args.chunk_limits, args.rank_slice)

    def batch_loss(self, embeddings: torch.Tensor, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = self.loss(embeddings, batch["teacher"])
        return loss, {**self.loss.statistics, "effective_batch": torch.tensor(len(embeddings))}

    def score_batch(self, embeddings: torch.Tensor, batch: dict, loss: torch.Tensor):
        ranks = neighbour_ranks(embeddings, batch["teacher"])  # (N,)
        return loss.expand(len(embeddings)), ranks, ["texts"] * len(embeddings), (embeddings, batch["teacher"])

    def _states_dtype(self) -> torch.dtype:
        """The coarsest type in which the student's states are computed."""
        mixed = torch.float16 if self.args.fp16 else torch.bfloat16 if self.args.bf16 else torch.float32
        dtypes = {parameter.dtype for parameter in self.model.parameters() if parameter.is_floating_point()}
        return max(dtypes | {mixed}, key=lambda dtype: torch.finfo(dtype).eps)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and say once when the loss is so small that rounding is all there is to see in it."""
        super().log(logs, start_time)
        seen = not logs.get("loss", math.inf) < logs.get("resolution", -math.inf)
        if seen or self._warned_precision or not self.is_world_process_zero():
            return
        self._warned_precision = True
        advice = "leave out the diagonal (include_self: false) or " if self.args.include_self else ""
        logger.warning(
            f"the distillation loss is {logs['loss']:.1e}; below {logs['resolution']:.1e} nothing but rounding is seen in "
            f"it, and it cannot tell whether the student learns. To see a difference, {advice}raise the temperature "
            f"({self.args.temperature}). (Said once.)"
        )
