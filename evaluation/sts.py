# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Semantic textual similarity: Spearman's correlation of cosines with human scores.

Rows hold `sentence1`, `sentence2` and a number in `score` (STS-B, 0 to 5) or `relatedness` (SICK, 1 to 5); only its
order matters. Sentences get the paper's own prompt ("Summary above sentence in one word:").
"""

import math
from typing import Any

import numpy as np

from evaluation.metrics.spearman.spearman import spearman
from evaluation.similarities import Similarities
from evaluation.task import Row, RowError, Score, Task, make_example, require

SCORE_FIELDS = ("score", "relatedness")


class STSTask(Task):
    """Pairs of sentences, each with a human score. See the top of the file."""

    form = "sts"
    fields = {"sentence1", "sentence2"}
    accepts = "sentence1, sentence2 and score or relatedness (STS)"
    headline = ("spearman",)
    sides = ("sentences", "sentences")

    @classmethod
    def recognises(cls, values: dict[str, Any]) -> bool:
        return super().recognises(values) and any(name in values for name in SCORE_FIELDS)

    def parse_row(self, values: dict[str, Any]) -> Row:
        first, second = (
            make_example(f"field {name!r}", require(values, name, str, "sentence"))
            for name in ("sentence1", "sentence2")
        )
        return Row(first, [second], _human_score(values))

    def measure(self, similarities: Similarities) -> Score:
        pairs = zip(self.queries, self.candidates, strict=True)
        cosines = np.array([similarities.scores(first, second)[0] for first, second in pairs])  # (N,)
        return Score({"spearman": spearman(cosines, np.array(self.labels), self.name)}, chance={"spearman": 0.0})


def _human_score(values: dict[str, Any]) -> float:
    name = next((name for name in SCORE_FIELDS if name in values), None)
    if name is None:
        raise RowError(f"field {' or '.join(map(repr, SCORE_FIELDS))} (human score) is missing")
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RowError(f"field {name!r} (human score) must be a number, got {type(value).__name__}")
    try:
        number = float(value)  # CSV gives text
    except (ValueError, OverflowError) as error:
        raise RowError(f"field {name!r} (human score) must be a number, got {str(value)[:60]!r}") from error
    if not math.isfinite(number):
        raise RowError(f"field {name!r} (human score) must be finite, got {value!r}")
    return number
