# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Bootstrap intervals over the rows of a data set, and over the mean of several sets.

A score is a mean over rows that could have been others. Resampling the rows says how far it would have moved. Two runs
on the same rows are resampled together, so that what makes a row easy for both cancels out of the difference.
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np

DRAWS = 2000
LEVEL = 0.95
BLOCK = 64  # draws that are held at the same time: 64 x 25,000 rows are 12 MB


def resampled(
    rows: np.ndarray, name: str, statistic: Callable[[np.ndarray], float] | None = None, draws: int = DRAWS
) -> np.ndarray:
    """A statistic of a data set under resampling of its rows, with replacement.

    Args:
        rows: (N,) one value a row, or (N, C) several.
        name: Of the data set. It seeds the draws, so that two runs on one data set are resampled alike.
        statistic: Of (N,) or (N, C) rows. Default: the mean, which is computed without copies.
        draws: How many.

    Returns:
        (draws,) values of the statistic; (draws, C) means of several columns.
    """
    rows = np.asarray(rows, dtype=np.float64)
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    if statistic is not None:
        return np.array([statistic(rows[generator.integers(len(rows), size=len(rows))]) for _ in range(draws)])
    values = []
    for start in range(0, draws, BLOCK):
        chosen = generator.integers(len(rows), size=(min(BLOCK, draws - start), len(rows)))  # (B, N)
        values.append(rows[chosen].mean(axis=1))
    return np.concatenate(values)


def interval(draws: np.ndarray, level: float = LEVEL) -> list[float]:
    """The middle part of what was drawn, as [low, high]."""
    tail = (1 - level) / 2
    return [float(bound) for bound in np.quantile(draws, (tail, 1 - tail))]


def mean_of_sets(draws: Sequence[np.ndarray]) -> np.ndarray:
    """(draws,) unweighted means over data sets, whose rows are resampled independently of each other."""
    return np.mean(np.stack(draws), axis=0)
