# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
from evaluation.metrics import ranking


class MRR(ranking.RankingMetric):
    """Mean reciprocal rank: the mean over rows of 1 / the rank of the best right candidate."""

    @staticmethod
    def row_values(ranks):
        return {"mrr": [1 / row[0] for row in ranks]}
