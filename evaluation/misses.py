# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The rows in which a model is most wrong, for people to look at."""

from collections.abc import Iterable, Sequence
from heapq import nlargest
from typing import Any, NamedTuple

import numpy as np

from evaluation.charts import small_copy
from evaluation.metrics.ranking import right_ranks
from unime.data.example import Example

KEPT = 12


class Miss(NamedTuple):
    """A row whose best wrong candidate is not below its best right one; by how much, and the numbers of the contents."""

    margin: float
    row: int
    query: int
    right: int
    wrong: int
    right_score: float
    wrong_score: float


def rank_rows(
    rows: Iterable[tuple[int, np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[list[np.ndarray], list[Miss]]:
    """Ranks of the right candidates of each row, see `right_ranks`, and the worst misses, the worst first.

    Args:
        rows: of each row its query, its candidates (C,), their scores (C,), and the places of the right ones (R,).
    """
    ranks, found = [], []
    for number, (query, candidates, scores, right) in enumerate(rows):
        ranks.append(right_ranks(scores, right))
        if ranks[-1][0] > 1:
            found.append(_miss(number, query, candidates, scores, right))
    return ranks, nlargest(KEPT, found)


def _miss(number: int, query: int, candidates: np.ndarray, scores: np.ndarray, right: np.ndarray) -> Miss:
    best = right[np.argmax(scores[right])]
    wrong = np.ones(len(scores), dtype=bool)
    wrong[right] = False
    top = scores[wrong].max()
    place = np.flatnonzero(wrong & (scores == top))[0]
    numbers = map(int, (number, query, candidates[best], candidates[place]))
    return Miss(float(top - scores[best]), *numbers, float(scores[best]), float(top))


def describe(found: Sequence[Miss], examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Misses ready for JSON: texts as they are, images by the paths that the rows give and as thumbnails."""

    def parts(number: int) -> dict[str, str | None]:
        example = examples[number]
        image = example.image if isinstance(example.image, str | None) else "(in the row)"
        small = {} if example.image is None else {"thumbnail": small_copy(example.open())}
        return {"text": example.text, "image": image, **small}

    return [
        {
            "row": miss.row,
            **{side: parts(getattr(miss, side)) for side in ("query", "right", "wrong")},
            "right_score": miss.right_score,
            "wrong_score": miss.wrong_score,
        }
        for miss in found
    ]
