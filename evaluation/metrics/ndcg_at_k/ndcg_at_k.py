# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import numpy as np

from evaluation.metrics import ranking


class NDCGAtK(ranking.RankingMetric):
    """Normalised discounted cumulative gain of the first k candidates (default 10).

    Each right one is worth 1, or its own number in `gains`, given to `compute` row by row in the order of `references`.
    """

    @staticmethod
    def row_values(ranks, k: int = 10, gains=None):
        def gain(places: np.ndarray, worth: np.ndarray) -> float:
            return (worth[places <= k] / np.log2(1 + places[places <= k])).sum()

        gains = [np.ones(len(row)) for row in ranks] if gains is None else gains
        best = [gain(np.arange(1, len(worth) + 1), -np.sort(-worth)) for worth in gains]
        return {
            f"ndcg@{k}": [gain(*row) / ideal for row, ideal in zip(zip(ranks, gains, strict=True), best, strict=True)]
        }

    def _compute(self, predictions, references, ties: str = "against", gains=None, **options) -> dict[str, float]:
        if gains is not None:
            rows = zip(predictions, references, gains, strict=True)
            options["gains"] = [ranking.gains_by_rank(*row, ties) for row in rows]
        return super()._compute(predictions, references, ties, **options)
