# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""How the cosines of right and of wrong candidates lie, over a sample of a data set's rows."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from evaluation.similarities import Similarities

ROWS, WRONG, BINS = 200, 64, 40  # rows at most, wrong candidates of a row at most, bins


def spread(items: np.ndarray, count: int) -> np.ndarray:
    """At most so many items, evenly over the whole."""
    return items[np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]


def histogram(similarities: Similarities, rows: Iterable[tuple[int, np.ndarray, np.ndarray]]) -> dict[str, Any] | None:
    """Counts of cosines in equal bins from `low` to `high`, of rows as (query, right ones, wrong ones) of the contents."""
    values: dict[str, list[np.ndarray]] = {"right": [], "wrong": []}
    for query, right, wrong in rows:
        values["right"].append(similarities.scores(query, right))
        if len(wrong):
            values["wrong"].append(similarities.scores(query, spread(wrong, WRONG)))
    if not values["right"] or not values["wrong"]:
        return None
    joined = {name: np.concatenate(parts) for name, parts in values.items()}
    every = np.concatenate(list(joined.values()))
    low, high = float(every.min()), float(every.max())
    if low == high:
        return None
    counts = {name: np.histogram(part, BINS, (low, high))[0].tolist() for name, part in joined.items()}
    return {"rows": len(values["right"]), "low": low, "high": high, **counts}
