# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The judge's scores of each row's candidates and positive, in shards; each distinct pair is judged once."""

from collections.abc import Callable

import numpy as np

from evaluation.fingerprint import model_identity
from trainers.mining.judge import QUESTION, Judge, JudgePrompt, Side
from trainers.mining.pool import Pool
from unime.shards import Arrays, Shards, digest


class PairScores:
    """Scores by query and candidate.

    Args:
        pairs: (P, 2) query and candidate, in rising order.
        scores: (P,).
    """

    def __init__(self, pairs: np.ndarray, scores: np.ndarray):
        self.span = int(pairs[:, 1].max(initial=0)) + 1
        self.keys = pairs[:, 0] * self.span + pairs[:, 1]
        self.scores = scores

    def of(self, query: int, candidates: np.ndarray) -> np.ndarray:
        """Scores of some of a query's candidates, (c,)."""
        return self.scores[np.searchsorted(self.keys, query * self.span + candidates)]


def judge_pairs(
    pool: Pool,
    pairs: np.ndarray,
    prompt: JudgePrompt,
    identity: object,
    shards: Shards,
    shard_size: int,
    get_judge: Callable[[], Judge],
) -> PairScores:
    """Judge pairs, or read what an earlier run has judged.

    Args:
        pool: queries and candidates.
        pairs: (P, 2) query and candidate, any number of times each.
        prompt: how the judge is asked.
        identity: what else the scores depend on, ready for JSON.
        shards: where scores are kept.
        shard_size: pairs of a shard.
        get_judge: loads the judge; called only if something is to be judged.

    Returns:
        The scores.
    """
    pairs = np.unique(pairs, axis=0)  # (P, 2)
    judged = [model_identity(prompt.folder), QUESTION, prompt.turn, prompt.processor.image_resolution, identity]
    sides: list[dict[int, tuple[Side, str]]] = [{}, {}]
    contents = ((pool.queries, pool.query_digests), (pool.candidates, pool.candidate_digests))
    for which, (examples, digests) in enumerate(contents):
        for number in np.unique(pairs[:, which]).tolist():
            side = prompt.side(examples[number])
            # The text as it is asked with counts, so that another limit costs only what it cuts differently.
            sides[which][number] = side, digest(digests[number], side.text)
    parts = np.split(pairs, range(shard_size, len(pairs), shard_size))
    keys = [
        digest(judged, [sides[0][query][1] + sides[1][candidate][1] for query, candidate in part.tolist()])
        for part in parts
    ]

    def compute(number: int) -> Arrays:
        asked = [(sides[0][query][0], sides[1][candidate][0]) for query, candidate in parts[number].tolist()]
        return {"scores": get_judge().scores(asked)}

    shards.ensure("scores", keys, compute)
    scores = [arrays["scores"] for arrays in shards.read("scores", keys)]
    return PairScores(pairs, np.concatenate(scores))
