# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The values of single rows, kept beside a result, and what resampling them says of the figures."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from evaluation.intervals import resampled
from evaluation.misses import describe
from evaluation.task import Score
from unime.data.data_files import SUGARCREPE_STEMS
from unime.data.example import Example
from unime.files import write_atomically

SPEARMAN_COLUMNS = ("cosine", "human")


def rows_file(output: Path, name: str) -> Path:
    """Where the rows of a data set are kept."""
    return output / "rows" / f"{name}.json"


def write_rows(path: Path, score: Score, examples: Sequence[Example]) -> None:
    """Keep `values`, by metric a number per row, and `failures`, the rows in which the model is most wrong."""
    values = {name: np.asarray(rows, dtype=float).tolist() for name, rows in score.values.items()}
    content = {"values": values, "failures": describe(score.misses, examples)}
    write_atomically(path, json.dumps(content, ensure_ascii=False) + "\n")


def read_values(path: Path) -> dict[str, list[float]] | None:
    """By metric, the values of the rows; None if they are not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["values"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


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
