# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import numpy as np

from evaluation.metrics import ranking


class NDCGAtK(ranking.RankingMetric):
    """Normalised discounted cumulative gain of the first k candidates (default 10), each right one worth 1."""

    @staticmethod
    def of_ranks(ranks, k: int = 10):
        def gain(row: np.ndarray) -> float:
            return (1 / np.log2(1 + row[row <= k])).sum()

        return {f"ndcg@{k}": float(np.mean([gain(row) / gain(np.arange(1, len(row) + 1)) for row in ranks]))}
