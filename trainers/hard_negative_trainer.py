# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 2: hard negative enhanced instruction tuning (UniME, arXiv 2504.17432, section 3.3, Eq. 4)."""

import torch

from modeling_unime import UniMEProcessor
from modeling_unime.example import Example

from .batch_sampler import GlobalBatchSampler
from .chunks import make_chunks
from .data.pairs import Pair, PairDataset
from .embedding_trainer import EmbeddingTrainer
from .hard_negative_config import HardNegativeConfig
from .losses import HardNegativeInfoNCELoss, InfoNCELoss
from .shares import places_after_gathering, share_of


class PairCollator:
    """Query-candidate pairs of a global batch to model inputs in chunks. What occurs twice in it is embedded once.

    Args:
        processor: makes the model inputs.
        dataset: opens the pairs' images.
        chunk_size: inputs (queries and candidates) per chunk.
        use_row_negatives: add the rows' own negatives to the candidates (default True).
        max_length: tokens an input may have (default: the processor's).
        rank: which share of the distinct inputs to make (default 0).
        world_size: number of shares (default 1).
    """

    def __init__(
        self,
        processor: UniMEProcessor,
        dataset: PairDataset,
        chunk_size: int,
        use_row_negatives: bool = True,
        max_length: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.processor = processor
        self.dataset = dataset
        self.chunk_size = chunk_size
        self.use_row_negatives = use_row_negatives
        self.max_length = max_length
        self.rank = rank
        self.world_size = world_size

    def __call__(self, pairs: list[Pair]) -> dict:
        """The batch: `chunks` of this rank's inputs, and where everything stands among the U distinct inputs of all."""
        queries = [(pair, pair.query) for pair in pairs]
        candidates = [(pair, pair.positive) for pair in pairs]
        groups = [pair.group for pair in pairs]
        if self.use_row_negatives:
            candidates += [(pair, example) for pair in pairs for example in pair.negatives]
            groups += [group for pair in pairs for group in pair.negative_groups]

        owners: dict[tuple, tuple[Pair, Example]] = {}
        for pair, example in queries + candidates:
            owners.setdefault((pair.store, example), (pair, example))
        ordered = sorted(owners.items(), key=lambda item: _cost(item[1][1]))
        position = {key: index for index, (key, _) in enumerate(ordered)}
        own = share_of([owner for _, owner in ordered], self.rank, self.world_size)

        def positions(entries: list[tuple[Pair, Example]]) -> torch.Tensor:
            return torch.tensor([position[pair.store, example] for pair, example in entries], dtype=torch.long)

        return {
            "chunks": make_chunks(own, self.chunk_size, self._process),
            "places": places_after_gathering(len(ordered), self.world_size),  # (U,)
            "query_positions": positions(queries),  # (N,)
            "candidate_positions": positions(candidates),  # (M,), the positives first
            "groups": torch.tensor(groups, dtype=torch.long),  # (M,)
        }

    def _process(self, part: list[tuple[Pair, Example]]) -> dict:
        return self.processor(
            text=[example.text for _, example in part],
            images=[self.dataset.open_image(pair, example) for pair, example in part],
            instruction=[example.instruction for _, example in part],
            max_length=self.max_length,
        )


def _cost(example: Example) -> tuple[bool, int]:
    """Inputs of like cost stand together, so that a chunk holds little padding."""
    return example.image is not None, len(example.text or "")


class HardNegativeTrainer(EmbeddingTrainer):
    """Contrastive training on query-candidate pairs.

    Candidates of a query are the positives and row negatives of the whole batch of all ranks. Candidates identical in
    content to the query's positive are never its negatives.

    Args:
        args: a [`HardNegativeConfig`].
        train_dataset: a [`PairDataset`].
        data_collator: a [`PairCollator`].
    """

    def __init__(self, model=None, args: HardNegativeConfig | None = None, **kwargs):
        super().__init__(model=model, args=args, **kwargs)
        if args.loss_type == "info_nce":
            self.loss = InfoNCELoss(temperature=args.temperature, block_size=args.loss_block_size)
        else:
            self.loss = HardNegativeInfoNCELoss(
                temperature=args.temperature,
                num_hard_negatives=args.num_hard_negatives,
                false_negative_margin=args.false_negative_margin,
                short_rows=args.short_rows,
                block_size=args.loss_block_size,
            )

    def make_batch_sampler(self) -> GlobalBatchSampler:
        return GlobalBatchSampler(
            len(self.train_dataset),
            self.global_batch_size,
            self.data_seed,
            self.train_dataset.source_indices,
            self.args.source_block_size,
        )

    def batch_loss(self, embeddings: torch.Tensor, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        queries, candidates = embeddings[batch["query_positions"]], embeddings[batch["candidate_positions"]]
        loss = self.loss(queries, candidates, group_ids=batch["groups"])
        return loss, {
            **self.loss.statistics,
            "effective_batch": torch.tensor(len(queries)),
            "candidates": torch.tensor(len(candidates)),
            "distinct_inputs": torch.tensor(len(embeddings)),
        }
