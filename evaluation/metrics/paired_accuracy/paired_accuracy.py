# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
from evaluation.metrics import ranking
from evaluation.similarities import MetricError


class PairedAccuracy(ranking.RankingMetric):
    """The share of pairs whose right candidate scores higher than the wrong one, as SugarCrepe is scored."""

    @staticmethod
    def row_values(ranks):
        return {"accuracy": [row[0] == 1 for row in ranks]}

    def _compute(self, predictions, references, ties: str = "against") -> dict[str, float]:
        for row, (scores, right) in enumerate(zip(predictions, references, strict=True)):
            if len(scores) != 2 or len(right) != 1:
                raise MetricError(f"row {row} has {len(scores)} candidates, {len(right)} of them right; not 2 and 1")
        return super()._compute(predictions, references, ties)
