# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import numpy as np

from evaluation.metrics import ranking


class PrecisionAt1(ranking.RankingMetric):
    """Precision@1: the share of rows whose first candidate is a right one."""

    @staticmethod
    def of_ranks(ranks):
        return {"precision@1": float(np.mean([row[0] == 1 for row in ranks]))}
