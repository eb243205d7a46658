# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""NDCG@k with every right candidate worth the same: how many of the first k are right, and how far up."""

from collections.abc import Sequence

import numpy as np

from evaluation.metrics import ranking


def ndcg_at_k(ranks: Sequence[np.ndarray], k: int) -> float:
    """Mean over rows of the gain of the first k by the best possible one; a right candidate gains 1 / log2(1 + rank)."""

    def gain(row: np.ndarray) -> float:
        return float((1 / np.log2(1 + row[row <= k])).sum())

    return float(np.mean([gain(row) / gain(np.arange(1, len(row) + 1)) for row in ranks]))


class NDCGAtK(ranking.RankingMetric):
    """Normalised discounted cumulative gain of the first k candidates (default 10), each right one worth 1."""

    def of_ranks(self, ranks: list[np.ndarray], k: int = 10) -> dict[str, float]:
        """See `RankingMetric`."""
        return {f"ndcg@{k}": ndcg_at_k(ranks, k)}
