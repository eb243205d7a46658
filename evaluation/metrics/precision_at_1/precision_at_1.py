# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
from evaluation.metrics import ranking


class PrecisionAt1(ranking.RankingMetric):
    """Precision@1: the share of rows whose first candidate is a right one."""

    @staticmethod
    def row_values(ranks):
        return {"precision@1": [row[0] == 1 for row in ranks]}
