# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What contrastive training shares in both stages: batches in which nothing is embedded twice, and the loss on them."""

from collections.abc import Callable, Hashable, Sequence

import torch

from trainers.data.known_positives import KnownPositives
from trainers.embedding_trainer import EmbeddingTrainer


def contrastive_batch(
    queries: Sequence,
    positives: Sequence,
    negatives: Sequence,
    positive_groups: Sequence[int],
    negative_groups: Sequence[int],
    query_numbers: Sequence[int] = (),
    known_positives: KnownPositives | None = None,
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
        query_numbers: N numbers, equal for queries that are equal; needed with `known_positives`.
        known_positives: what the data call positives of each query, which are then never its negatives (default: only its
            row's own positive).
        key: input -> what tells whether two are the same.
        cost: input -> what it costs, as far as every rank can tell: inputs are dealt to the ranks in this order.
        make_chunks: the U distinct inputs in that order -> this rank's part (see `trainers.shares.chunks_of_share`).

    Returns:
        What `make_chunks` gives, where each query and candidate stands among the distinct inputs, and which candidates
        are further positives of which query, where any is.
    """
    distinct: dict[Hashable, object] = {}
    for entry in (*queries, *positives, *negatives):
        distinct.setdefault(key(entry), entry)
    ordered = sorted(distinct.items(), key=lambda item: cost(item[1]))
    position = {name: index for index, (name, _) in enumerate(ordered)}

    def positions(entries: Sequence) -> torch.Tensor:
        return torch.tensor([position[key(entry)] for entry in entries], dtype=torch.long)

    groups = [*positive_groups, *negative_groups]
    mask = None if known_positives is None else known_positives.mask(query_numbers, groups)
    return {
        **make_chunks([entry for _, entry in ordered]),
        "query_positions": positions(queries),  # (N,)
        "candidate_positions": positions([*positives, *negatives]),  # (N + E,)
        "groups": torch.tensor(groups, dtype=torch.long),  # (N + E,)
        **({} if mask is None else {"other_positives": mask}),  # (N, N + E)
    }


class ContrastiveTrainer(EmbeddingTrainer):
    """Base of trainers that find each query's positive among the candidates of the whole batch of all ranks.

    A batch comes from `contrastive_batch`; a subclass sets `loss`, called with queries, candidates (the positives
    first), `group_ids` and `duplicate_mask`. Candidates identical in content to the query's positive are never its
    negatives, nor, unless `exclude_known_positives` is off, its positives of other rows.
    """

    def apply_loss(self, queries: torch.Tensor, candidates: torch.Tensor, batch: dict) -> torch.Tensor:
        """Loss of a batch's queries (N, D) and candidates (N + E, D)."""
        return self.loss(queries, candidates, group_ids=batch["groups"], duplicate_mask=batch.get("other_positives"))

    def batch_loss(self, embeddings: torch.Tensor, batch: dict) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        queries, candidates = embeddings[batch["query_positions"]], embeddings[batch["candidate_positions"]]
        loss = self.apply_loss(queries, candidates, batch)
        return loss, {
            **self.loss.statistics,
            "other_positives": batch["other_positives"].sum() if "other_positives" in batch else torch.tensor(0),
            "effective_batch": torch.tensor(len(queries)),
            "candidates": torch.tensor(len(candidates)),
            "distinct_inputs": torch.tensor(len(embeddings)),
        }
