# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The most similar candidates of each row, without those that are likely false negatives."""

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch

from trainers.mining.options import MiningOptions
from trainers.mining.pool import Pool, Search
from trainers.mining.search import search as search_exactly
from unime.distributed import LongWaitGroup

ROWS = 4096  # of one call of the search
# Pairs that one call excludes at most: where thousands of rows share a query (the name of a class), each of them excludes
# all positives of the others.
MAX_EXCLUDED = 1 << 24


class Found(NamedTuple):
    """What the search found for n rows."""

    rows: np.ndarray  # (n,) rows of the data set
    positive_similarities: np.ndarray  # (n,) float32
    similarities: np.ndarray  # (n, k) float32, falling; -inf where there are fewer than k
    neighbours: np.ndarray  # (n, k) rows whose positives the candidates are; -1 where there are fewer than k
    above_limit: np.ndarray  # (n,) how many candidates are too similar


def find_neighbours(
    pool: Pool, vectors: tuple[np.ndarray, np.ndarray], options: MiningOptions, device: torch.device
) -> Found:
    """The best `range_max` candidates of each row, in the order of the rows, of what is neither known to be right nor too
    similar; the processes of a run share the rows. `vectors` are the queries' and the candidates', of unit length."""
    with LongWaitGroup() as ranks:
        own = [
            part
            for search in pool.searches(by_source=options.pool == "source")
            for part in _search(pool, search, search.rows[ranks.rank :: ranks.size], vectors, options, device)
        ]
        found = Found(*map(np.concatenate, zip(*chain(*ranks.gather(own)), strict=True)))
    order = found.rows.argsort()
    return Found(*(values[order] for values in found))


def _search(
    pool: Pool,
    search: Search,
    rows: np.ndarray,
    vectors: tuple[np.ndarray, np.ndarray],
    options: MiningOptions,
    device: torch.device,
) -> Iterator[Found]:
    """Some rows of a search, part by part."""
    query_vectors, candidate_vectors = vectors
    whole = len(search.candidates) == len(candidate_vectors)
    candidates = torch.from_numpy(candidate_vectors if whole else candidate_vectors[search.candidates])
    most = max((len(pool.known(row)) for row in rows), default=1)
    size = min(ROWS, max(1, MAX_EXCLUDED // most))
    for part in (rows[start : start + size] for start in range(0, len(rows), size)):
        queries = query_vectors[pool.query_of_row[part]]  # (n, D)
        positives = np.einsum("nd,nd->n", queries, candidate_vectors[pool.positive_of_row[part]])  # (n,)
        tensors = map(torch.from_numpy, (queries, _limits(positives, options), _excluded(pool, search, part)))
        queries, limits, excluded = tensors
        best = search_exactly(queries.to(device), candidates, options.range_max, limits, excluded)
        numbers = best.numbers.cpu().numpy()
        neighbours = np.where(numbers < 0, -1, search.places[numbers])
        yield Found(part, positives, best.similarities.cpu().numpy(), neighbours, best.above_limit.cpu().numpy())


def _limits(positives: np.ndarray, options: MiningOptions) -> np.ndarray:
    """The greatest similarity (n,) that a candidate may have, by that of the positive."""
    limits = np.full_like(positives, np.inf)
    if options.absolute_margin is not None:
        limits = np.minimum(limits, positives - np.float32(options.absolute_margin))
    if options.relative_margin is not None:
        limits = np.minimum(limits, positives - np.abs(positives) * np.float32(options.relative_margin))
    if options.max_score is not None:
        limits = np.minimum(limits, np.float32(options.max_score))
    return limits


def _excluded(pool: Pool, search: Search, rows: np.ndarray) -> np.ndarray:
    """(e, 2) int64: place of each row, and places among the search's candidates of what is known to be right for it."""
    known = [pool.known(row) for row in rows]
    numbers = np.repeat(np.arange(len(known)), [len(entry) for entry in known])
    candidates = np.concatenate(known)
    places = np.searchsorted(search.candidates, candidates).clip(max=len(search.candidates) - 1)
    here = search.candidates[places] == candidates  # those of other sources are not
    return np.stack([numbers[here], places[here]], axis=1).astype(np.int64)
