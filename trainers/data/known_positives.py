# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which candidates the data call a positive of a query, in whatever row: they are not its negatives."""

from collections.abc import Sequence

import numpy as np
import torch


class KnownPositives:
    """The positives of every query, from the numbers (R,) of both; of queries with `several` alone."""

    def __init__(self, queries: np.ndarray, positives: np.ndarray, several: bool = False):
        pairs = np.unique(np.stack([queries, positives], axis=1).astype(np.int64), axis=0)  # (p, 2), rising
        if several:
            _, place, counts = np.unique(pairs[:, 0], return_inverse=True, return_counts=True)
            pairs = pairs[counts[place] > 1]
        self._queries, self._positives = np.ascontiguousarray(pairs.T)  # or every search would copy them

    def of(self, query: int) -> np.ndarray:
        """Numbers of a query's positives, (p,), rising."""
        first, end = np.searchsorted(self._queries, [query, query + 1])
        return self._positives[first:end]


def mask_known(known: Sequence[Sequence[int]], candidates: Sequence[int]) -> torch.Tensor | None:
    """Which of M candidates of a batch are another positive of a query than that of its row, which is candidate i of query i.

    `known` are the numbers of each query's positives. (N, M) boolean, or None where nothing is, as in most batches.
    """
    places: dict[int, list[int]] = {}
    for column, candidate in enumerate(candidates):
        places.setdefault(candidate, []).append(column)
    found = [
        (row, column)
        for row, positives in enumerate(known)
        for positive in positives
        if positive != candidates[row]
        for column in places.get(positive, ())
    ]
    if not found:
        return None
    mask = torch.zeros(len(known), len(candidates), dtype=torch.bool)
    mask[tuple(torch.tensor(found).T)] = True
    return mask
