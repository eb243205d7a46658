# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 1: textual discriminative knowledge distillation (UniME, arXiv 2504.17432, section 3.2, Eq. 2)."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers.utils import logging

from modeling_unime import UniMEProcessor
from trainers.chunks import ChunkLimits
from trainers.data.tokens import TokenizedTexts
from trainers.distillation_config import DistillationConfig
from trainers.embedding_trainer import EmbeddingTrainer
from trainers.losses import SimilarityDistillationLoss
from trainers.shares import WHOLE_BATCH, Share, chunks_of_share

logger = logging.get_logger(__name__)


class TextDataset(Dataset):
    """Token ids of texts, each with the row of its vector among the teacher's.

    Args:
        tokens: the ids of N texts.
        teacher_rows: (N,) row of each text's vector, for `teacher_vectors.take` (default: 0 .. N-1).
    """

    def __init__(self, tokens: TokenizedTexts, teacher_rows: Sequence[int] | None = None):
        self.tokens = tokens
        self.teacher_rows = range(len(tokens)) if teacher_rows is None else teacher_rows

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray]:
        return int(self.teacher_rows[index]), self.tokens[index]


class DistillationCollator:
    """Token ids of a global batch to model inputs in chunks, with the teacher's vectors in the same order.

    Args:
        processor: pads.
        teacher_vectors: `TeacherVectors`, or any object whose `take(rows)` gives (n, D_teacher) float32.
        limits: how large a chunk may be.
        share: which of the texts this rank embeds (default: all).
    """

    def __init__(self, processor: UniMEProcessor, teacher_vectors, limits: ChunkLimits, share: Share = WHOLE_BATCH):
        self.processor = processor
        self.teacher_vectors = teacher_vectors
        self.limits = limits
        self.share = share

    def __call__(self, items: list[tuple[int, np.ndarray]]) -> dict:
        items = sorted(items, key=lambda item: (len(item[1]), item[0]))
        teacher = torch.from_numpy(self.teacher_vectors.take(np.array([row for row, _ in items])))  # (N, D_teacher)
        chunks = chunks_of_share(
            items, self.share, self.limits, prepare=lambda item: item[1], length=len, process=self.processor.pad
        )
        return {**chunks, "teacher": teacher}


class DistillationTrainer(EmbeddingTrainer):
    """Train the student to arrange the texts of a batch as the teacher does.

    The similarity matrix spans the whole batch of all ranks: per-device batch x ranks, whatever the chunk size.
    Gradient accumulation does not enlarge it.

    Args:
        args: a [`DistillationConfig`].
        train_dataset: a [`TextDataset`].
        data_collator: a [`DistillationCollator`].
    """

    def __init__(self, model=None, args: DistillationConfig | None = None, **kwargs):
        super().__init__(model=model, args=args, **kwargs)
        self._told_of_rounding = False
        self.loss = SimilarityDistillationLoss(
            temperature=args.temperature,
            include_self=args.include_self,
            direction=args.direction,
            teacher_temperature=args.teacher_temperature,
            states=self._states_dtype(),
            block_size=args.loss_block_size,
        )

    def batch_loss(self, embeddings: torch.Tensor, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = self.loss(embeddings, batch["teacher"])
        return loss, {**self.loss.statistics, "effective_batch": torch.tensor(len(embeddings))}

    def _states_dtype(self) -> torch.dtype:
        """The coarsest type in which the student's states are computed."""
        mixed = torch.float16 if self.args.fp16 else torch.bfloat16 if self.args.bf16 else torch.float32
        dtypes = {parameter.dtype for parameter in self.model.parameters() if parameter.is_floating_point()}
        return max(dtypes | {mixed}, key=lambda dtype: torch.finfo(dtype).eps)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and say once when the loss is so small that rounding is all there is to see in it."""
        super().log(logs, start_time)
        seen = not logs.get("loss", math.inf) < logs.get("resolution", -math.inf)
        if seen or self._told_of_rounding or not self.is_world_process_zero():
            return
        self._told_of_rounding = True
        advice = "leave out the diagonal (include_self: false) or " if self.args.include_self else ""
        logger.warning(
            f"the distillation loss is {logs['loss']:.1e}; below {logs['resolution']:.1e} nothing but rounding is seen in "
            f"it, and it cannot tell whether the student learns. To see a difference, {advice}raise the temperature "
            f"({self.args.temperature}). (Said once.)"
        )
