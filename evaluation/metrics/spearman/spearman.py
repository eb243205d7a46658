# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Spearman's rank correlation, ties by average rank."""

import datasets
import evaluate
import numpy as np
from scipy.stats import spearmanr

from evaluation.similarities import ConstantEmbeddingsError, MetricError

INPUTS = """
Args:
    predictions: Scores of the model.
    references: Scores by people; only their order matters.
"""


def spearman(predicted: np.ndarray, expected: np.ndarray, what: str = "scores") -> float:
    """Correlation of (N,) with (N,) scores, -1..1.

    Raises:
        MetricError: Fewer than three pairs, a score that is NaN, or one side constant: the correlation is then undefined.
    """
    if len(predicted) < 3:
        raise MetricError(f"{what}: Spearman's correlation needs at least 3 pairs, got {len(predicted)}")
    for name, values in (("predicted", predicted), ("expected", expected)):
        if not np.isfinite(values).all():
            raise MetricError(f"{what}: a {name} score is NaN or infinite")
        if np.ptp(values) == 0:
            error = ConstantEmbeddingsError if name == "predicted" else MetricError
            raise error(f"{what}: all {name} scores are the same, so the correlation is undefined")
    return float(spearmanr(predicted, expected).statistic)


class Spearman(evaluate.Metric):
    """Spearman's rank correlation, ties by average rank."""

    def _info(self) -> evaluate.MetricInfo:
        names = ("predictions", "references")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({name: datasets.Value("float64") for name in names}),
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        return {"spearman": spearman(np.asarray(predictions), np.asarray(references))}
