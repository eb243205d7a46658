# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 1: textual discriminative knowledge distillation (UniME, arXiv 2504.17432, section 3.2, Eq. 2)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from modeling_unime import UniMEProcessor

from .chunks import ChunkLimits, cut_chunks
from .distillation_config import DistillationConfig
from .embedding_trainer import EmbeddingTrainer
from .losses import SimilarityDistillationLoss
from .shares import places_after_gathering, share_of


class TextDataset(Dataset):
    """Texts, each with the row of its vector among the teacher's.

    Args:
        texts: N texts.
        teacher_rows: (N,) row of each text's vector, for `teacher_vectors.take` (default: 0 .. N-1).
    """

    def __init__(self, texts: Sequence[str], teacher_rows: Sequence[int] | None = None):
        self.texts = texts
        self.teacher_rows = range(len(texts)) if teacher_rows is None else teacher_rows

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[int, str]:
        return int(self.teacher_rows[index]), self.texts[index]


class DistillationCollator:
    """Texts to model inputs in chunks, with the teacher's vectors in the same order.

    Args:
        processor: makes the model inputs, with the paper's "Summary above sentence in one word:" prompt.
        teacher_vectors: `TeacherVectors`, or any object whose `take(rows)` gives (n, D_teacher) float32.
        limits: how large a chunk may be.
        max_length: tokens a text may have, prompt included (default: the processor's).
        rank: which share of the texts to make (default 0).
        world_size: number of shares (default 1).
    """

    def __init__(
        self,
        processor: UniMEProcessor,
        teacher_vectors,
        limits: ChunkLimits,
        max_length: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.processor = processor
        self.teacher_vectors = teacher_vectors
        self.limits = limits
        self.max_length = max_length
        self.rank = rank
        self.world_size = world_size

    def __call__(self, items: list[tuple[int, str]]) -> dict:
        items = sorted(items, key=lambda item: (len(item[1]), item[0]))  # neighbours in length share padding
        own = [text for _, text in share_of(items, self.rank, self.world_size)]
        lengths = [len(self.processor.tokenizer(text)["input_ids"]) for text in own]
        chunks = list(cut_chunks(lengths, self.limits))
        teacher = torch.from_numpy(self.teacher_vectors.take(np.array([row for row, _ in items])))  # (N, D_teacher)
        return {
            "chunks": [
                dict(self.processor(text=[own[index] for index in chunk], max_length=self.max_length))
                for chunk in chunks
            ],
            "own_places": torch.argsort(torch.tensor([index for chunk in chunks for index in chunk])),  # (n,)
            "places": places_after_gathering(len(items), self.world_size),  # (N,)
            "teacher": teacher,
        }


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
        self.loss = SimilarityDistillationLoss(
            temperature=args.temperature,
            include_self=args.include_self,
            direction=args.direction,
            block_size=args.loss_block_size,
        )

    def batch_loss(self, embeddings: torch.Tensor, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss = self.loss(embeddings, batch["teacher"])
        return loss, {**self.loss.statistics, "effective_batch": torch.tensor(len(embeddings))}
