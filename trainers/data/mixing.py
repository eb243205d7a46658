# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which rows of several sources one epoch sees."""

import math
from collections.abc import Sequence

import numpy as np


def rows_per_epoch(rows: int, weight: float) -> int:
    """How many rows of a source one epoch sees: weight x rows, rounded half up, at least one."""
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f"A weight is {weight}. Use positive numbers; leave out a source that is not wanted.")
    return max(1, math.floor(weight * rows + 0.5)) if rows else 0


def mix_rows(row_counts: Sequence[int], weights: Sequence[float], seed: int, epoch: int) -> np.ndarray:
    """The rows of one epoch, source after source.

    Every row of a source comes floor(weight) times. What is left of the weight is a choice from a shuffle of the
    source, which goes on in the next epoch where the last one stopped: with weight 0.5 two epochs see every row once.
    Row numbers run on from source to source; epochs count from 0.
    """
    parts = []
    first = 0
    for source, (rows, weight) in enumerate(zip(row_counts, weights, strict=True)):
        wanted = rows_per_epoch(rows, weight)
        whole, rest = divmod(wanted, rows) if rows else (0, 0)
        parts += [np.arange(first, first + rows)] * whole
        if rest:
            shuffle = np.random.default_rng((seed, source)).permutation(rows)
            places = (epoch * rest + np.arange(rest)) % rows
            parts.append(first + np.sort(shuffle[places]))
        first += rows
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)  # (rows of the epoch,)
