# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 2: hard negative enhanced instruction tuning (UniME, arXiv 2504.17432, section 3.3, Eq. 4)."""

import torch
from transformers import TrainerCallback

from modeling_unime import UniMEProcessor
from modeling_unime.example import Example

from .chunks import make_chunks
from .data.pairs import Pair, PairDataset
from .distributed import gather_rows
from .embedding_trainer import EmbeddingTrainer
from .hard_negative_config import HardNegativeConfig
from .losses import HardNegativeInfoNCELoss, InfoNCELoss


class PairCollator:
    """Query-candidate pairs to model inputs in chunks. What occurs twice in a batch is embedded once.

    Args:
        processor: makes the model inputs.
        dataset: opens the pairs' images.
        chunk_size: inputs (queries and candidates) per chunk.
        use_row_negatives: add the rows' own negatives to the candidates (default True).
        max_length: tokens an input may have (default: the processor's).
    """

    def __init__(
        self,
        processor: UniMEProcessor,
        dataset: PairDataset,
        chunk_size: int,
        use_row_negatives: bool = True,
        max_length: int | None = None,
    ):
        self.processor = processor
        self.dataset = dataset
        self.chunk_size = chunk_size
        self.use_row_negatives = use_row_negatives
        self.max_length = max_length

    def __call__(self, pairs: list[Pair]) -> dict:
        """Batch with `chunks` of U distinct inputs, and where each query, positive and negative stands among them."""
        queries = [(pair, pair.query) for pair in pairs]
        positives = [(pair, pair.positive) for pair in pairs]
        negatives = [(pair, example) for pair in pairs for example in pair.negatives] if self.use_row_negatives else []
        groups = [pair.group for pair in pairs]
        if self.use_row_negatives:
            groups += [group for pair in pairs for group in pair.negative_groups]

        owners: dict[tuple, tuple[Pair, Example]] = {}
        for pair, example in queries + positives + negatives:
            owners.setdefault((pair.store, example), (pair, example))
        ordered = sorted(owners.items(), key=lambda item: _cost(item[1][1]))
        position = {key: index for index, (key, _) in enumerate(ordered)}

        def positions(entries: list[tuple[Pair, Example]]) -> torch.Tensor:
            return torch.tensor([position[pair.store, example] for pair, example in entries], dtype=torch.long)

        return {
            "chunks": make_chunks([owner for _, owner in ordered], self.chunk_size, self._process),
            "query_positions": positions(queries),  # (n,)
            "positive_positions": positions(positives),  # (n,)
            "negative_positions": positions(negatives),  # (e,)
            "positive_groups": torch.tensor(groups[: len(pairs)], dtype=torch.long),  # (n,)
            "negative_groups": torch.tensor(groups[len(pairs) :], dtype=torch.long),  # (e,)
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


class EpochOfPairs(TrainerCallback):
    """Tell the data set which epoch begins: with a fractional weight each epoch has other rows of a source.

    Accelerate tells only some samplers, and the data set only in runs of one process.
    """

    def __init__(self, dataset: PairDataset):
        self.dataset = dataset

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.dataset.set_epoch(int(state.epoch))


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
        self.add_callback(EpochOfPairs(self.train_dataset))
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

    def batch_loss(self, embeddings: torch.Tensor, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        queries = gather_rows(embeddings[batch["query_positions"]])  # (N, D)
        positives = gather_rows(embeddings[batch["positive_positions"]])  # (N, D)
        negatives = gather_rows(embeddings[batch["negative_positions"]])  # (E, D)
        groups = torch.cat([gather_rows(batch["positive_groups"]), gather_rows(batch["negative_groups"])])  # (N + E,)
        loss = self.loss(queries, torch.cat([positives, negatives]), group_ids=groups)
        return loss, {
            **self.loss.statistics,
            "effective_batch": torch.tensor(len(queries)),
            "candidates": torch.tensor(len(groups)),
        }
