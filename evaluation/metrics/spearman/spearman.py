# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import datasets
import evaluate
import numpy as np
from scipy.stats import spearmanr

from evaluation.similarities import ConstantEmbeddingsError, MetricError


class Spearman(evaluate.Metric):
    """Spearman's rank correlation, ties by average rank."""

    @staticmethod
    def of_scores(predicted: np.ndarray, expected: np.ndarray, what: str = "scores") -> dict[str, float]:
        """The correlation of the model's (N,) with people's (N,) scores."""
        if len(predicted) < 3:
            raise MetricError(f"{what}: Spearman's correlation needs at least 3 pairs, got {len(predicted)}")
        for name, values in (("predicted", predicted), ("expected", expected)):
            if not np.isfinite(values).all():
                raise MetricError(f"{what}: a {name} score is NaN or infinite")
            if np.ptp(values) == 0:
                error = ConstantEmbeddingsError if name == "predicted" else MetricError
                raise error(f"{what}: all {name} scores are the same, so the correlation is undefined")
        return {"spearman": float(spearmanr(predicted, expected).statistic)}

    def _info(self) -> evaluate.MetricInfo:
        names = ("predictions", "references")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="Args: predictions: scores of the model. references: scores by people.",
            features=datasets.Features({name: datasets.Value("float64") for name in names}),
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        return self.of_scores(np.asarray(predictions), np.asarray(references))
