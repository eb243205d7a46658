# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Precision@1: the share of rows whose first candidate is a right one."""

from collections.abc import Sequence

import numpy as np

from evaluation.metrics import ranking


def precision_at_1(ranks: Sequence[np.ndarray]) -> float:
    """Share of rows with a right candidate in the first place, of ranks as `ranking.right_ranks` gives them."""
    return float(np.mean([row[0] == 1 for row in ranks]))


class PrecisionAt1(ranking.RankingMetric):
    """Precision@1: the share of rows whose first candidate is a right one."""

    def of_ranks(self, ranks: list[np.ndarray]) -> dict[str, float]:
        """See `RankingMetric`."""
        return {"precision@1": precision_at_1(ranks)}
