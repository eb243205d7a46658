# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Retrieval inside a batch: the place of each query's positive among the batch's candidates."""

from collections import defaultdict
from collections.abc import Sequence

import torch

BLOCK = 1024  # queries compared at a time


@torch.no_grad()
def positive_ranks(
    queries: torch.Tensor,
    candidates: torch.Tensor,
    group_ids: torch.Tensor,
    never_negative: torch.Tensor | None = None,
) -> torch.Tensor:
    """The place of each positive, 1 for the best; a tie with a candidate of other content counts against it.

    Args:
        queries: (N, D), unit length.
        candidates: (M, D), unit length, M >= N; candidate i is the positive of query i.
        group_ids: (M,), equal for candidates of equal content.
        never_negative: (N, M), what else is no wrong answer (default: nothing).

    Returns:
        (N,) int64.
    """
    ranks = []
    for first in range(0, len(queries), BLOCK):
        rows = torch.arange(first, min(first + BLOCK, len(queries)), device=queries.device)  # (B,)
        similarities = queries[rows].float() @ candidates.float().T  # (B, M)
        positive = similarities.gather(1, rows.unsqueeze(1))  # (B, 1)
        wrong = group_ids.unsqueeze(0) != group_ids[rows].unsqueeze(1)  # (B, M)
        if never_negative is not None:
            wrong &= ~never_negative[rows]
        ranks.append(1 + ((similarities >= positive) & wrong).sum(dim=1))
    return torch.cat(ranks)


@torch.no_grad()
def neighbour_ranks(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The place that the student gives to each text's nearest neighbour by the teacher, 1 for the best.

    Args:
        student: (N, D), unit length.
        teacher: (N, D_teacher), of any length above 0.

    Returns:
        (N,) int64; 1 for the only text of a batch.
    """
    if len(student) == 1:
        return torch.ones(1, dtype=torch.long, device=student.device)
    teacher = torch.nn.functional.normalize(teacher.float(), dim=1)
    ranks = []
    for first in range(0, len(student), BLOCK):
        rows = torch.arange(first, min(first + BLOCK, len(student)), device=student.device)  # (B,)
        place = torch.arange(len(rows), device=student.device)  # (B,)
        wanted, found = teacher[rows] @ teacher.T, student[rows].float() @ student.float().T  # (B, N)
        wanted[place, rows] = found[place, rows] = -torch.inf  # a text is no neighbour of itself
        nearest = wanted.argmax(dim=1, keepdim=True)  # (B, 1)
        ranks.append((found >= found.gather(1, nearest)).sum(dim=1))
    return torch.cat(ranks)


class RetrievalMetrics:
    """Means over the rows of several batches, of all and by source.

    Example:
        >>> metrics = RetrievalMetrics()
        >>> metrics.add(torch.tensor([1, 2]), torch.tensor([0.5, 1.5]), ["a", "b"])
        >>> metrics.means()["accuracy@1"], metrics.means()["b/mrr"]
        (0.5, 0.5)
    """

    def __init__(self):
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, ranks: torch.Tensor, losses: torch.Tensor, sources: Sequence[str]) -> None:
        """Take in a batch: ranks (N,), losses (N,) and the name of each row's source."""
        for rank, loss, source in zip(ranks.tolist(), losses.tolist(), sources, strict=True):
            for name, value in (("loss", loss), ("accuracy@1", float(rank == 1)), ("mrr", 1 / rank)):
                for key in (name, f"{source}/{name}"):
                    self._sums[key] += value
                    self._counts[key] += 1

    def means(self) -> dict[str, float]:
        """`loss`, `accuracy@1` and `mrr`, and where there are several sources the same as "source/name"."""
        means = {key: total / self._counts[key] for key, total in self._sums.items()}
        several = sum(key.endswith("/mrr") for key in means) > 1
        return {key: value for key, value in means.items() if several or "/" not in key}
