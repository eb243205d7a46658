# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which of a row's neighbours become its negatives: by similarity, rank, the judge's word, and a step or chance."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from trainers.mining.arguments import MiningArguments
from trainers.mining.judging import PairScores
from trainers.mining.neighbours import RowNeighbours
from trainers.mining.pool import Pool


class Negatives(NamedTuple):
    """The negatives of a row.

    Attributes:
        candidates: (c,) numbers of the pool's candidates, the most similar first.
        positive_score: the judge's score of the positive; None without a judge.
        scores: (c,) the judge's scores of the negatives; None without a judge.
    """

    candidates: np.ndarray
    positive_score: float | None
    scores: np.ndarray | None


def least_similarity(arguments: MiningArguments) -> float:
    """The cosine below which a candidate is too easy."""
    return -np.inf if arguments.min_similarity is None else arguments.min_similarity


def in_range(found: RowNeighbours, arguments: MiningArguments) -> np.ndarray:
    """Which neighbours have a rank to choose from and are similar enough, (n, k) bool."""
    inside = (found.candidates >= 0) & (found.similarities >= least_similarity(arguments))
    inside[:, : arguments.rank_from - 1] = False
    return inside


def sample_by_step(count: int, wanted: int, step: int) -> np.ndarray:
    """Every step-th of `count` places, then from the second on, and so forth until there are enough (UniME-V2).

    Returns:
        (min(wanted, count),) places, rising.
    """
    order = [place for offset in range(min(step, count)) for place in range(offset, count, step)]
    return np.sort(np.array(order[:wanted], dtype=np.int64))


def sample_by_chance(count: int, wanted: int, seed: tuple[int, ...]) -> np.ndarray:
    """A choice of `count` places.

    Returns:
        (min(wanted, count),) places, rising.
    """
    return np.sort(np.random.default_rng(seed).choice(count, size=min(wanted, count), replace=False))


def summarise(counts: Counter) -> dict[str, float]:
    """Counts ready for JSON, with means in place of the sums of similarities."""
    summary = dict(counts)
    for what, number in (("positive", "rows"), ("negative", "negatives")):
        total = summary.pop(f"{what}_similarity", 0.0)
        summary[f"mean_{what}_similarity"] = round(total / counts[number], 6) if counts[number] else None
    return summary


class Selector:
    """Chooses the negatives of rows, and counts what was left out and why.

    Args:
        pool: the rows.
        arguments: limits, ranks and the way of sampling.
        scores: the judge's; None without a judge.
        judge_margin: a candidate is left out when its score exceeds the positive's minus this (beta of UniME-V2).

    Attributes:
        counts: for each source what was counted, sums of similarities among it.
    """

    def __init__(self, pool: Pool, arguments: MiningArguments, scores: PairScores | None, judge_margin: float):
        self.pool = pool
        self.arguments = arguments
        self.scores = scores
        self.judge_margin = judge_margin
        self.counts: dict[str, Counter] = {source.name: Counter() for source in pool.dataset.sources}
        self._lines = pool.dataset.table["line"].to_numpy()
        self._own_negatives = pc.list_value_length(pool.dataset.table["negatives"]).to_numpy()

    def select(self, found: RowNeighbours) -> Iterator[Negatives]:
        """The negatives of each row of a shard, in turn."""
        for i, inside in enumerate(in_range(found, self.arguments)):
            row = int(found.rows[i])
            counts = self.counts[self.pool.dataset.sources[self.pool.sources[row]].name]
            candidates, similarities = found.candidates[i][inside], found.similarities[i][inside]
            positive_score = scores = None
            if self.scores is not None:
                query, positive = self.pool.query_of_row[row], self.pool.positive_of_row[row]
                positive_score = float(self.scores.of(query, np.array([positive]))[0])
                scores = self.scores.of(query, candidates)
                kept = scores <= positive_score - self.judge_margin
                counts["judged_right"] += int((~kept).sum())
                candidates, similarities, scores = candidates[kept], similarities[kept], scores[kept]
            places = self._sample(len(candidates), row)
            counts["rows"] += 1
            counts["negatives"] += len(places)
            counts["short_rows"] += len(places) < self.arguments.num_negatives
            counts["rows_without_negatives"] += len(places) == 0
            counts["replaced_negatives"] += int(self._own_negatives[row])
            counts["known_to_be_right"] += len(self.pool.known(row)) - 1  # beside the row's own positive
            counts[self._limit_of(found.positive_similarities[i])] += int(found.above_limit[i])
            below = found.similarities[i] < least_similarity(self.arguments)
            counts["below_min_similarity"] += int((below & (found.candidates[i] >= 0)).sum())
            counts["positive_similarity"] += float(found.positive_similarities[i])
            counts["negative_similarity"] += float(similarities[places].sum())
            yield Negatives(candidates[places], positive_score, None if scores is None else scores[places])

    def total(self) -> Counter:
        """The counts of all sources together."""
        total = Counter()
        for counts in self.counts.values():
            total.update(counts)
        return total

    def _limit_of(self, positive_similarity: float) -> str:
        """Which of the two upper limits of similarity a row has."""
        largest = self.arguments.max_similarity
        by_margin = largest is None or positive_similarity + self.arguments.false_negative_margin <= largest
        return "above_margin" if by_margin else "above_max_similarity"

    def _sample(self, count: int, row: int) -> np.ndarray:
        """Places of a row's negatives among `count` candidates, rising."""
        wanted = self.arguments.num_negatives
        if self.arguments.sampling == "step":
            return sample_by_step(count, wanted, self.arguments.step)
        return sample_by_chance(count, wanted, (self.arguments.seed, self.pool.sources[row], self._lines[row]))
