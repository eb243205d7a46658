# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which of a row's neighbours become its negatives: by similarity, rank, the judge's word, and a step or chance."""

from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from trainers.mining.neighbours import Found
from trainers.mining.options import MiningOptions
from trainers.mining.pool import Pool


class Mined(NamedTuple):
    """The negatives of n rows."""

    rows: np.ndarray  # (n,) rows of the data set, rising
    negatives: np.ndarray  # (n, c) rows whose positives they are, the most similar first; -1 where a row has fewer
    scores: np.ndarray | None  # (n, 1 + c) the judge's of the positive and of each negative, NaN where there is none
    counts: dict[str, np.ndarray]  # (n,) each, sums of similarities among them


def in_range(found: Found, options: MiningOptions) -> np.ndarray:
    """Which neighbours have a rank to choose from and are similar enough, (n, k) bool."""
    inside = found.neighbours >= 0
    inside[:, : options.range_min] = False
    return inside if options.min_score is None else inside & (found.similarities >= options.min_score)


def sample(count: int, options: MiningOptions, seed: tuple[int, ...] = ()) -> np.ndarray:
    """The `num_negatives` of `count` places that the sampling strategy takes, or all if they are fewer, rising."""
    if options.sampling_strategy == "random":
        chosen = np.random.default_rng(seed).choice(count, size=min(options.num_negatives, count), replace=False)
    else:
        step = options.step if options.sampling_strategy == "step" else 1
        order = [place for offset in range(min(step, count)) for place in range(offset, count, step)]
        chosen = np.array(order[: options.num_negatives], dtype=np.int64)
    return np.sort(chosen)


def select(pool: Pool, found: Found, scores: np.ndarray | None, options: MiningOptions) -> Mined:
    """Choose the negatives of all rows, by the judge's scores (n, 1 + k) if there are any, and count what was left out."""
    possible = kept = in_range(found, options)
    if scores is not None:  # a candidate that the judge affirms nearly as much as the positive is right (UniME-V2)
        limits = scores[:, :1].astype(np.float64) - options.judge_margin
        kept = possible & (scores[:, 1:] <= limits)
    lines = pool.dataset.table["line"].to_numpy()
    columns = np.full((len(found.rows), options.num_negatives), -1)  # (n, c) places among the neighbours
    for number, row in enumerate(found.rows):
        places = np.flatnonzero(kept[number])
        chosen = sample(len(places), options, (options.seed, pool.sources[row], lines[row]))
        columns[number, : len(chosen)] = places[chosen]

    def taken(values: np.ndarray, absent: float) -> np.ndarray:
        return np.where(columns >= 0, np.take_along_axis(values, columns.clip(min=0), axis=1), absent)

    negatives = taken(found.neighbours, -1)
    amounts = (negatives >= 0).sum(axis=1)
    least = -np.inf if options.min_score is None else options.min_score
    counts = {
        "rows": np.ones_like(amounts),
        "negatives": amounts,
        "short_rows": amounts < options.num_negatives,
        "rows_without_negatives": amounts == 0,
        "replaced_negatives": pc.list_value_length(pool.dataset.table["negatives"]).to_numpy()[found.rows],
        "known_to_be_right": np.array([len(pool.known(row)) for row in found.rows])
        - 1,  # beside the row's own positive
        "too_similar": found.above_limit,
        "below_min_score": ((found.neighbours >= 0) & (found.similarities < least)).sum(axis=1),
        "judged_right": (possible & ~kept).sum(axis=1),
        "positive_similarity": found.positive_similarities,
        "negative_similarity": taken(found.similarities, 0.0).sum(axis=1),
    }
    if scores is not None:
        scores = np.concatenate([scores[:, :1], taken(scores[:, 1:], np.nan)], axis=1)
    return Mined(found.rows, negatives, scores, counts)


def summarise(counts: dict[str, np.ndarray], of: np.ndarray | slice = slice(None)) -> dict[str, float | None]:
    """Counts of some rows ready for JSON, with means in place of the sums of similarities."""
    summary = {name: values[of].sum().item() for name, values in counts.items()}
    for what, number in (("positive", "rows"), ("negative", "negatives")):
        total = summary.pop(f"{what}_similarity")
        summary[f"mean_{what}_similarity"] = round(total / summary[number], 6) if summary[number] else None
    return summary
