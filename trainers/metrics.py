# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What training and evaluation tell: retrieval inside a batch, and means over the rows of many batches by source."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch

BLOCK = 1024  # queries compared at a time


@torch.no_grad()
def positive_ranks(
    queries: torch.Tensor,
    candidates: torch.Tensor,
    group_ids: torch.Tensor,
    never_negative: torch.Tensor | None = None,
) -> torch.Tensor:
    """The place (N,) of each positive, 1 for the best; a tie with a candidate of other content counts against it.

    Args:
        queries: (N, D), unit length.
        candidates: (M, D), unit length, M >= N; candidate i is the positive of query i.
        group_ids: (M,), equal for candidates of equal content.
        never_negative: (N, M), what else is no wrong answer (default: nothing).
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
    """The place (N,) that the student gives to each text's nearest neighbour by the teacher, 1 for the best.

    `student` (N, D) is of unit length, `teacher` (N, D_teacher) of any length above 0. The only text of a batch has 1.
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


class SourceMeans:
    """Means of statistics over the rows of several batches, of all and by source."""

    def __init__(self):
        self._sums: dict[tuple[str, str], float] = defaultdict(float)  # by source and statistic
        self._counts: dict[tuple[str, str], int] = defaultdict(int)

    def add(self, sources: Sequence[str], rows: Mapping[str, torch.Tensor]) -> None:
        """Take in statistics (N,) of N rows by name, and each row's source; what is not finite, a row does not have."""
        numbers = {name: number for number, name in enumerate(dict.fromkeys(sources))}
        index = torch.tensor([numbers[name] for name in sources])  # (N,)
        for statistic, values in rows.items():
            values = values.detach().double().cpu()  # (N,)
            finite = values.isfinite()
            sums = torch.zeros(len(numbers), dtype=torch.double).index_add_(0, index[finite], values[finite])
            counts = torch.bincount(index[finite], minlength=len(numbers))
            for name, number in numbers.items():
                self._sums[name, statistic] += sums[number].item()
                self._counts[name, statistic] += int(counts[number])

    def by_source(self) -> dict[str, float]:
        """By "source/statistic"."""
        return {f"{key[0]}/{key[1]}": self._sums[key] / count for key, count in self._counts.items() if count}

    def of_all(self) -> dict[str, float]:
        """By statistic, over the rows of all sources."""
        sums, counts = defaultdict(float), defaultdict(int)
        for (source, statistic), count in self._counts.items():
            sums[statistic] += self._sums[source, statistic]
            counts[statistic] += count
        return {statistic: sums[statistic] / count for statistic, count in counts.items() if count}
