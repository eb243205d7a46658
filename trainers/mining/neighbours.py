# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The most similar candidates of each row, without those that are likely false negatives, searched in shards."""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from evaluation.encoder import pick_device
from trainers.mining.arguments import MiningArguments
from trainers.mining.pool import Pool, Search
from trainers.mining.search import Neighbours
from trainers.mining.search import search as exact_search
from unime.shards import Arrays, Shards, digest

# Pairs that one shard excludes at most: where thousands of rows share a query (the name of a class), each of them
# excludes all positives of the others.
MAX_EXCLUDED = 1 << 24

SearchFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Neighbours]  # of queries, limits, excluded


class RowNeighbours(NamedTuple):
    """What the search found for n rows.

    Attributes:
        rows: (n,) rows of the data set.
        positive_similarities: (n,) float32.
        similarities: (n, k) float32, falling; -inf where there are fewer than k.
        candidates: (n, k) numbers of the pool's candidates; -1 where there are fewer than k.
        above_limit: (n,) how many candidates are too similar.
    """

    rows: np.ndarray
    positive_similarities: np.ndarray
    similarities: np.ndarray
    candidates: np.ndarray
    above_limit: np.ndarray


def find_neighbours(
    pool: Pool,
    search: Search,
    vectors: tuple[np.ndarray, np.ndarray],
    identity: object,
    arguments: MiningArguments,
    shards: Shards,
) -> Iterator[RowNeighbours]:
    """Search, or read what an earlier run has found.

    Args:
        pool: what there is.
        search: which rows among which candidates.
        vectors: of the pool's queries, (queries, D), and candidates, (candidates, D); float32, unit length.
        identity: what the vectors depend on beside the contents, ready for JSON.
        arguments: how to search, and what is too similar: by `false_negative_margin` more than the positive (UniME, arXiv
            2504.17432, Eq. 3), or above `max_similarity` (UniME-V2).
        shards: where results are kept.

    Yields:
        Neighbours, shard by shard, in the order of the rows: the best `rank_to` of what is neither known to be right nor
        too similar.
    """
    query_vectors, candidate_vectors = vectors
    known = [pool.known(row) for row in search.rows]
    parts = list(_cut([len(entry) for entry in known], arguments.shard_size))
    options = [arguments.false_negative_margin, arguments.max_similarity, arguments.rank_to]
    common = digest(identity, options, [pool.candidate_digests[i] for i in search.candidates])
    keys = []
    for part in parts:
        rows = search.rows[part]
        asked = [
            pool.query_digests[pool.query_of_row[row]] + pool.candidate_digests[pool.positive_of_row[row]]
            for row in rows
        ]
        keys.append(digest(common, asked, _pairs(search, known[part]).tobytes()))

    @cache  # made at its first use: not if nothing is left to search
    def search_function() -> SearchFunction:
        whole = len(search.candidates) == len(candidate_vectors)
        return make_search(candidate_vectors if whole else candidate_vectors[search.candidates], arguments)

    def compute(number: int) -> Arrays:
        part = parts[number]
        rows = search.rows[part]
        queries = query_vectors[pool.query_of_row[rows]]  # (n, D)
        positives = np.einsum("nd,nd->n", queries, candidate_vectors[pool.positive_of_row[rows]])  # (n,)
        limits = positives + np.float32(arguments.false_negative_margin)
        if arguments.max_similarity is not None:
            limits = np.minimum(limits, np.float32(arguments.max_similarity))
        tensors = map(torch.from_numpy, (queries, limits, _pairs(search, known[part])))
        found = search_function()(*tensors)
        numbers = found.numbers.cpu().numpy()
        return {
            "positive_similarities": positives,
            "similarities": found.similarities.cpu().numpy(),
            "candidates": np.where(numbers < 0, -1, search.candidates[numbers]),
            "above_limit": found.above_limit.cpu().numpy(),
        }

    shards.ensure("neighbours", keys, compute)
    for part, arrays in zip(parts, shards.read("neighbours", keys), strict=True):
        yield RowNeighbours(rows=search.rows[part], **arrays)


def make_search(candidates: np.ndarray, arguments: MiningArguments) -> SearchFunction:
    """The search that the options name, among candidates (m, D)."""
    device, tensor = pick_device(arguments.device), torch.from_numpy(candidates)
    return lambda queries, limits, excluded: exact_search(
        queries.to(device), tensor, arguments.rank_to, limits, excluded
    )


def _pairs(search: Search, known: Sequence[np.ndarray]) -> np.ndarray:
    """(e, 2) int64: place of each row, and places among the search's candidates of what is known to be right for it."""
    rows = np.repeat(np.arange(len(known)), [len(entry) for entry in known])
    candidates = np.concatenate(known)
    places = np.searchsorted(search.candidates, candidates).clip(max=len(search.candidates) - 1)
    here = search.candidates[places] == candidates  # those of other sources are not
    return np.stack([rows[here], places[here]], axis=1).astype(np.int64)


def _cut(excluded: Sequence[int], shard_size: int) -> Iterator[slice]:
    """Rows of each shard: `shard_size` of them, or fewer that exclude `MAX_EXCLUDED` pairs."""
    start = total = 0
    for row, count in enumerate(excluded):
        if row - start == shard_size or (row > start and total + count > MAX_EXCLUDED):
            yield slice(start, row)
            start, total = row, 0
        total += count
    yield slice(start, len(excluded))
