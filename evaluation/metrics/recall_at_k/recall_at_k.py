# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
from evaluation.metrics import ranking


class RecallAtK(ranking.RankingMetric):
    """Recall@k: the share of rows with a right candidate, any of them, among the first k (default 10)."""

    @staticmethod
    def row_values(ranks, k: int = 10):
        return {f"recall@{k}": [row[0] <= k for row in ranks]}
