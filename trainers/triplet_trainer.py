# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The baseline of stage 1: contrastive training on text triplets without a teacher (E5-V, arXiv 2407.12580)."""

from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from modeling_unime import UniMEProcessor
from trainers.chunks import ChunkLimits
from trainers.contrastive_trainer import ContrastiveTrainer, contrastive_batch
from trainers.data.known_positives import KnownPositives
from trainers.data.tokens import TokenizedTexts
from trainers.distillation_config import DistillationConfig
from trainers.losses import InfoNCELoss
from trainers.shares import WHOLE_BATCH, Share, chunks_of_share


class NumberedText(NamedTuple):
    """Token ids of a text, (L,), and its number in the data set, the same for the same text on all ranks."""

    number: int
    ids: np.ndarray


class TripletDataset(Dataset):
    """Query, positive and, where there is one, hard negative of each row.

    Args:
        tokens: the distinct texts.
        rows: (N, 3) numbers of the texts, -1 for no hard negative, as `trainers.data.triplets.load_triplets` gives.
    """

    def __init__(self, tokens: TokenizedTexts, rows: np.ndarray):
        self.tokens = tokens
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def known_positives(self) -> KnownPositives:
        """The positives of queries that several rows have."""
        return KnownPositives(self.rows[:, 0], self.rows[:, 1])

    def __getitem__(self, index: int) -> list[NumberedText]:
        numbers = self.rows[index].tolist()
        return [NumberedText(number, self.tokens[number]) for number in numbers if number >= 0]


class TripletCollator:
    """Triplets of a global batch to model inputs in chunks. A text that occurs twice in it is embedded once.

    Args:
        processor: pads.
        limits: how large a chunk may be.
        share: which of the distinct texts this rank embeds (default: all).
        known_positives: of all rows (`TripletDataset.known_positives`), never negatives of their queries (default: only
            the row's own positive is none).
    """

    def __init__(
        self,
        processor: UniMEProcessor,
        limits: ChunkLimits,
        share: Share = WHOLE_BATCH,
        known_positives: KnownPositives | None = None,
    ):
        self.processor = processor
        self.limits = limits
        self.share = share
        self.known_positives = known_positives

    def __call__(self, triplets: list[list[NumberedText]]) -> dict:
        positives = [triplet[1] for triplet in triplets]
        negatives = [text for triplet in triplets for text in triplet[2:]]
        return contrastive_batch(
            [triplet[0] for triplet in triplets],
            positives,
            negatives,
            [text.number for text in positives],
            [text.number for text in negatives],
            [triplet[0].number for triplet in triplets],
            self.known_positives,
            key=lambda text: text.number,
            cost=lambda text: len(text.ids),
            make_chunks=self._make_chunks,
        )

    def _make_chunks(self, texts: list[NumberedText]) -> dict:
        return chunks_of_share(
            texts, self.share, self.limits, prepare=lambda text: text.ids, length=len, process=self.processor.pad
        )


class TripletTrainer(ContrastiveTrainer):
    """E5-V's loss: each query finds its positive among all positives and all hard negatives of the batch of all ranks.

    One direction, and a hard negative weighs as much as any other candidate. E5-V's code takes a copy of the positive
    for a negative; here it never is one. Nor is a positive that another row gives the same query, unless
    `exclude_known_positives` is off.

    Args:
        args: a [`DistillationConfig`] with `loss_type="contrastive"`.
        train_dataset: a [`TripletDataset`].
        data_collator: a [`TripletCollator`].
    """

    def __init__(self, model=None, args: DistillationConfig | None = None, **kwargs):
        super().__init__(model=model, args=args, **kwargs)
        self.loss = InfoNCELoss(temperature=args.temperature, block_size=args.loss_block_size)
