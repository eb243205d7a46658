# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Accuracy over pairs of candidates, one right and one wrong, as SugarCrepe is scored."""

from collections.abc import Sequence

import numpy as np

from evaluation.metrics import ranking
from evaluation.similarities import MetricError


def paired_accuracy(ranks: Sequence[np.ndarray]) -> float:
    """Share of pairs whose right candidate scores higher, of ranks as `ranking.right_ranks` gives them."""
    return float(np.mean([row[0] == 1 for row in ranks]))


class PairedAccuracy(ranking.RankingMetric):
    """The share of pairs whose right candidate scores higher than the wrong one."""

    def of_ranks(self, ranks: list[np.ndarray]) -> dict[str, float]:
        """See `RankingMetric`."""
        return {"accuracy": paired_accuracy(ranks)}

    def _compute(self, predictions, references, ties: str = "against") -> dict[str, float]:
        for row, (scores, right) in enumerate(zip(predictions, references, strict=True)):
            if len(scores) != 2 or len(right) != 1:
                raise MetricError(f"row {row} has {len(scores)} candidates, {len(right)} of them right; not 2 and 1")
        return super()._compute(predictions, references, ties)
