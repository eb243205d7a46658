# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Semantic textual similarity: Spearman's correlation of cosines with human scores.

Rows hold `sentence1`, `sentence2` and a number in `score` (STS-B, 0 to 5) or `relatedness` (SICK, 1 to 5); only its
order matters. Sentences get the paper's own prompt ("Summary above sentence in one word:").
"""

import math
from typing import Any

import numpy as np

from evaluation.metrics import Similarities, spearman
from evaluation.task import ParsedRow, RowError, Score, Task, require, require_content
from unime.data.example import Example

SCORE_FIELDS = ("score", "relatedness")


class STSTask(Task):
    """Pairs of sentences with a human score. See the top of the file."""

    form = "sts"
    accepts = "sentence1, sentence2 and score or relatedness (STS)"
    headline = ("spearman",)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.pairs: list[np.ndarray] = []
        self.expected: list[float] = []

    @classmethod
    def recognises(cls, values: dict[str, Any]) -> bool:
        """See `Task.recognises`."""
        return {"sentence1", "sentence2"} <= values.keys() and any(name in values for name in SCORE_FIELDS)

    def parse_row(self, values: dict[str, Any]) -> ParsedRow:
        """See `Task.parse_row`."""
        sentences = [
            require_content(Example.from_fields(require(values, name, str, "sentence"), None), f"field {name!r}")
            for name in ("sentence1", "sentence2")
        ]
        return ParsedRow(sentences, _human_score(values))

    def keep(self, numbers: np.ndarray, extra: float) -> None:
        """See `Task.keep`."""
        self.pairs.append(numbers)
        self.expected.append(extra)

    def score(self, embeddings: np.ndarray) -> Score:
        """See `Task.score`."""
        similarities = Similarities(embeddings, self.name)
        self.check_not_constant(embeddings, np.stack(self.pairs), "sentences")
        predicted = np.array([similarities.scores(first, [second])[0] for first, second in self.pairs])  # (N,)
        return Score(
            metrics={"spearman": spearman(predicted, np.array(self.expected), self.name)}, chance={"spearman": 0.0}
        )


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
