# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What is kept of single rows, in `rows/NAME.json` beside a result: their values, and those in which a model is most wrong."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import nlargest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from evaluation.intervals import resampled
from evaluation.metrics.ranking import right_ranks
from evaluation.pictures import small_copy
from unime.data.data_files import SUGARCREPE_STEMS
from unime.data.example import Example
from unime.files import write_atomically

KEPT = 12  # of the worst rows
SPEARMAN_COLUMNS = ("cosine", "human")


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


def rows_file(output: Path, name: str) -> Path:
    """Where the rows of a data set are kept."""
    return output / "rows" / f"{name}.json"


def write_rows(
    path: Path, values: Mapping[str, Sequence[float]], misses: Sequence[Miss], examples: Sequence[Example]
) -> None:
    """Keep `values`, by metric a number per row, and `failures`, the rows in which the model is most wrong."""
    numbers = {name: np.asarray(rows, dtype=float).tolist() for name, rows in values.items()}
    content = {"values": numbers, "failures": describe(misses, examples)}
    write_atomically(path, json.dumps(content, ensure_ascii=False) + "\n")


def read_rows(output: Path, name: str) -> dict[str, Any]:
    """What `write_rows` has kept of a data set; nothing if it is not there."""
    try:
        content = json.loads(rows_file(output, name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def draw(name: str, values: dict[str, list[float]]) -> dict[str, np.ndarray]:
    """Each figure of a data set under resampling of its rows, (draws,), alike in all runs on these rows."""
    if values.keys() >= set(SPEARMAN_COLUMNS):
        columns = np.array([values[column] for column in SPEARMAN_COLUMNS]).T  # (N, 2)
        return {"spearman": resampled(columns, name, _spearman)}
    by_rows: dict[str | int, list[str]] = defaultdict(list)  # subsets are drawn independently of each other
    for metric, rows in values.items():
        by_rows[metric if metric in SUGARCREPE_STEMS else len(rows)].append(metric)
    found: dict[str, Any] = {}
    for key, metrics in by_rows.items():
        seed = f"{name}/{key}" if key in SUGARCREPE_STEMS else name
        drawn = resampled(np.array([values[metric] for metric in metrics]).T, seed)  # (draws, metrics)
        found |= dict(zip(metrics, drawn.T, strict=True))
    return found


def _spearman(pairs: np.ndarray) -> float:
    ranks = rankdata(pairs, axis=0)
    if not np.ptp(ranks, axis=0).all():
        return 0.0  # rows of which one side is all the same have no order
    return float(np.corrcoef(ranks.T)[0, 1])
