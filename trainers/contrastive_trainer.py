# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What contrastive training shares in both stages: batches in which nothing is embedded twice, and the loss on them."""

from collections.abc import Callable, Hashable, Sequence

import torch

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
    make_chunks: Callable[[list], dict],
) -> dict:
    """Global batch of [`ContrastiveTrainer`]. What occurs twice in it, in whatever role, is embedded once.

    Args:
        queries: N inputs, of any kind.
        positives: N inputs; i belongs to query i.
        negatives: E further candidates.
        positive_groups: N numbers, equal for contents that are equal.
        negative_groups: E numbers out of the same.
        key: input -> what tells whether two are the same.
        cost: input -> what it costs, as far as every rank can tell: inputs are dealt to the ranks in this order.
        make_chunks: the U distinct inputs in that order -> this rank's part (see `trainers.shares.chunks_of_share`).

    Returns:
        What `make_chunks` gives, and where each query and candidate stands among the distinct inputs.
    """
    distinct: dict[Hashable, object] = {}
    for entry in (*queries, *positives, *negatives):
        distinct.setdefault(key(entry), entry)
    ordered = sorted(distinct.items(), key=lambda item: cost(item[1]))
    position = {name: index for index, (name, _) in enumerate(ordered)}

    def positions(entries: Sequence) -> torch.Tensor:
        return torch.tensor([position[key(entry)] for entry in entries], dtype=torch.long)

    return {
        **make_chunks([entry for _, entry in ordered]),
        "query_positions": positions(queries),  # (N,)
        "candidate_positions": positions([*positives, *negatives]),  # (N + E,)
        "groups": torch.tensor([*positive_groups, *negative_groups], dtype=torch.long),  # (N + E,)
    }


class ContrastiveTrainer(EmbeddingTrainer):
    """Base of trainers that find each query's positive among the candidates of the whole batch of all ranks.

    A batch comes from `contrastive_batch`; a subclass sets `loss`, called with queries, candidates (the positives
    first) and `group_ids`. Candidates identical in content to the query's positive are never its negatives.
    """

    def apply_loss(self, queries: torch.Tensor, candidates: torch.Tensor, batch: dict) -> torch.Tensor:
        """Loss of a batch's queries (N, D) and candidates (N + E, D)."""
        return self.loss(queries, candidates, group_ids=batch["groups"])

    def batch_loss(self, embeddings: torch.Tensor, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        queries, candidates = embeddings[batch["query_positions"]], embeddings[batch["candidate_positions"]]
        loss = self.apply_loss(queries, candidates, batch)
        return loss, {
            **self.loss.statistics,
            "effective_batch": torch.tensor(len(queries)),
            "candidates": torch.tensor(len(candidates)),
            "distinct_inputs": torch.tensor(len(embeddings)),
        }
