# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Recall@k: the share of rows with a right candidate among the first k, as caption retrieval is reported."""

from collections.abc import Sequence

import numpy as np

from evaluation.metrics import ranking


def recall_at_k(ranks: Sequence[np.ndarray], k: int) -> float:
    """Share of rows with a right candidate among the first k, of ranks as `ranking.right_ranks` gives them."""
    return float(np.mean([row[0] <= k for row in ranks]))


class RecallAtK(ranking.RankingMetric):
    """Recall@k: the share of rows with a right candidate, any of them, among the first k (default 10)."""

    def of_ranks(self, ranks: list[np.ndarray], k: int = 10) -> dict[str, float]:
        """See `RankingMetric`."""
        return {f"recall@{k}": recall_at_k(ranks, k)}
