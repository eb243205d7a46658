# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Ranks of right candidates, on which the ranking metrics stand, and the one rule for ties.

A wrong candidate that scores the same as a right one stands **before** it. (MMEB's own script takes the first maximum, so
that there a model that maps everything to one vector scores 100 %: that rule is `ties="published"`.)
"""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from evaluation.similarities import MetricError

TIES = ("against", "published")
INPUTS = """
Args:
    predictions: For each row, the scores of its candidates.
    references: For each row, the indices of its right candidates, at least one.
    ties: "against" (default): a tie of a right with a wrong candidate counts against it; "published": candidates that tie
        keep their order, as in MMEB's own script.
"""


def right_ranks(scores: np.ndarray, right: np.ndarray | Sequence[int], ties: str = "against") -> np.ndarray:
    """Ranks of a row's right candidates among all its candidates, from 1, in rising order.

    Args:
        scores: (C,) similarity of each candidate to the query.
        right: (R,) indices of the right candidates.
        ties: "against", or "published": candidates that tie keep their order.

    Raises:
        MetricError: A score is NaN, no candidate is right, or an index is none of a candidate.
    """
    scores, right = np.asarray(scores, dtype=np.float64), np.asarray(right, dtype=np.int64)
    if ties not in TIES:
        raise MetricError(f"ties is {ties!r}; use one of {', '.join(TIES)}")
    if np.isnan(scores).any():
        raise MetricError("a similarity is NaN; the embeddings are unusable")
    if not right.size or right.min() < 0 or right.max() >= len(scores):
        raise MetricError(f"a row with {len(scores)} candidates has the right ones {right.tolist()}")
    is_right = np.zeros(len(scores), dtype=bool)
    is_right[right] = True
    if ties == "published":
        return 1 + np.flatnonzero(is_right[np.argsort(-scores, kind="stable")])
    best_first = -np.sort(-scores[is_right])  # (R,)
    wrong_before = (scores[~is_right] >= best_first[:, None]).sum(axis=1)  # (R,)
    return wrong_before + np.arange(1, len(best_first) + 1)


def gains_by_rank(
    scores: np.ndarray, right: np.ndarray | Sequence[int], gains: np.ndarray | Sequence[float], ties: str = "against"
) -> np.ndarray:
    """What a row's right candidates are worth, (R,), in the order of `right_ranks`; of those that tie the least first.

    Args:
        scores: (C,) similarity of each candidate to the query.
        right: (R,) indices of the right candidates, each once.
        gains: (R,) what each of them is worth, above 0.
        ties: As in `right_ranks`.
    """
    right, gains = np.asarray(right, dtype=np.int64), np.asarray(gains, dtype=np.float64)
    if right.shape != gains.shape or not (gains > 0).all():
        raise MetricError(f"{len(right)} right candidates have the gains {gains.tolist()}; each needs one above 0")
    second = right if ties == "published" else gains
    return gains[np.lexsort((second, -np.asarray(scores, dtype=np.float64)[right]))]


class RankingMetric(evaluate.Metric):
    """A metric of the ranks of right candidates; a subclass says by `row_values` which."""

    @staticmethod
    def row_values(ranks: Sequence[np.ndarray], **options) -> dict[str, Sequence[float]]:
        """By the metric's name, the value of each row, of its ranks as `right_ranks` gives them; the evaluation calls this."""
        raise NotImplementedError

    @classmethod
    def of_ranks(cls, ranks: Sequence[np.ndarray], **options) -> dict[str, float]:
        """The metric by its name: the mean over rows."""
        return {name: float(np.mean(values)) for name, values in cls.row_values(ranks, **options).items()}

    def _info(self) -> evaluate.MetricInfo:
        rows = {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({name: datasets.Sequence(value) for name, value in rows.items()}),
        )

    def _compute(self, predictions, references, ties: str = "against", **options) -> dict[str, float]:
        rows = zip(predictions, references, strict=True)
        return self.of_ranks([right_ranks(scores, right, ties) for scores, right in rows], **options)
