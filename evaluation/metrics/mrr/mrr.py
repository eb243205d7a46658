# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""MRR: the mean over rows of 1 / the rank of the best right candidate."""

from collections.abc import Sequence

import numpy as np

from evaluation.metrics import ranking


def mrr(ranks: Sequence[np.ndarray]) -> float:
    """Mean reciprocal rank, of ranks as `ranking.right_ranks` gives them."""
    return float(np.mean([1 / row[0] for row in ranks]))


class MRR(ranking.RankingMetric):
    """Mean reciprocal rank: the mean over rows of 1 / the rank of the best right candidate."""

    def of_ranks(self, ranks: list[np.ndarray]) -> dict[str, float]:
        """See `RankingMetric`."""
        return {"mrr": mrr(ranks)}
