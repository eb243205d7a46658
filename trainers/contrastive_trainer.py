# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What contrastive training shares in both stages: batches in which nothing is embedded twice, and the gathered loss."""

from collections.abc import Callable, Hashable, Sequence

import torch

from .chunks import make_chunks
from .distributed import gather_rows
from .embedding_trainer import EmbeddingTrainer


def contrastive_batch(
    queries: Sequence,
    positives: Sequence,
    negatives: Sequence,
    positive_groups: Sequence[int],
    negative_groups: Sequence[int],
    *,
    key: Callable[[object], Hashable],
    cost: Callable[[object], object],
    process: Callable[[Sequence], dict],
    chunk_size: int,
) -> dict:
    """Batch of [`ContrastiveTrainer`]. What occurs twice in it, in whatever role, is embedded once.

    Args:
        queries: n inputs, of any kind.
        positives: n inputs; i belongs to query i.
        negatives: e further candidates.
        positive_groups: n numbers, equal for contents that are equal, on all ranks.
        negative_groups: e numbers out of the same.
        key: input -> what tells whether two are the same.
        cost: input -> order in which they are put into chunks, so that a chunk holds little padding.
        process: inputs of a chunk -> model inputs.
        chunk_size: inputs per chunk.

    Returns:
        `chunks` of U distinct inputs, and where each query, positive and negative stands among them.
    """
    distinct: dict[Hashable, object] = {}
    for entry in (*queries, *positives, *negatives):
        distinct.setdefault(key(entry), entry)
    ordered = sorted(distinct.items(), key=lambda item: cost(item[1]))
    position = {name: index for index, (name, _) in enumerate(ordered)}

    def positions(entries: Sequence) -> torch.Tensor:
        return torch.tensor([position[key(entry)] for entry in entries], dtype=torch.long)

    return {
        "chunks": make_chunks([entry for _, entry in ordered], chunk_size, process),
        "query_positions": positions(queries),  # (n,)
        "positive_positions": positions(positives),  # (n,)
        "negative_positions": positions(negatives),  # (e,)
        "positive_groups": torch.tensor(positive_groups, dtype=torch.long),  # (n,)
        "negative_groups": torch.tensor(negative_groups, dtype=torch.long),  # (e,)
    }


class ContrastiveTrainer(EmbeddingTrainer):
    """Base of trainers that find each query's positive among the candidates of the whole batch of all ranks.

    A batch comes from `contrastive_batch`; a subclass sets `loss`, called with queries, candidates (the positives
    first) and `group_ids`. Candidates identical in content to the query's positive are never its negatives.
    """

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
