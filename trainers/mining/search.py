# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Exact search for the most similar candidates, in blocks, at about the cost of the matrix products alone.

Design decisions:

- A block of similarities lives until the next one; memory does not grow with queries x candidates.
- No top-k of a block, which would cost a quarter of the product. The maxima of runs of `RUN` similarities, which cost a
  hundredth of it, are compared with each query's k-th best so far. Only runs that hold something better are looked at,
  and soon these are few.
- On a CPU each thread has queries of its own. What follows a product is too short to be shared among threads, which would
  wait for each other longer than they work.
- What is above a query's limit (a likely false negative) and what is excluded by number is left out before the k best
  are taken, so that k remain wherever there are k.
- Equal similarities are ordered by the number of the candidate, whatever the sizes of the blocks.
"""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

RUN = 64  # similarities that share a maximum


class Neighbours(NamedTuple):
    """The best candidates of n queries."""

    similarities: Tensor  # (n, k) float32, falling; -inf where there are fewer than k
    numbers: Tensor  # (n, k) int64, of the candidates; -1 where there are fewer than k
    above_limit: Tensor  # (n,) int64, candidates left out because they are above the query's limit


def search(
    queries: Tensor,
    candidates: Tensor,
    k: int,
    limits: Tensor,
    excluded: Tensor,
    query_block: int | None = None,
    candidate_block: int | None = None,
) -> Neighbours:
    """Find the k most similar candidates of each query that are neither excluded nor above the query's limit.

    Args:
        queries: (n, D) float32, unit length. Their device is where everything is computed.
        candidates: (M, D) float32, unit length, on any device: a block at a time goes to that of the queries.
        k: candidates wanted for each query.
        limits: (n,) float32: a candidate whose similarity is greater is left out; inf for no limit.
        excluded: (e, 2) int64, pairs (query, candidate) that are left out, in any order.
        query_block, candidate_block: sides of a product; None: what suits the device.
    """
    excluded = excluded[excluded[:, 1].argsort()].to(queries.device)
    limits = limits.to(queries.device)
    on_cpu = queries.device.type == "cpu"
    query_block = query_block or (1024 if on_cpu else 4096)
    candidate_block = candidate_block or (4096 if on_cpu else 32768)
    threads = torch.get_num_threads() if on_cpu else 1
    size = min(query_block, math.ceil(len(queries) / threads))

    def search_part(start: int) -> Neighbours:
        own = (excluded[:, 0] >= start) & (excluded[:, 0] < start + size)
        here = excluded[own] - torch.tensor([start, 0], device=excluded.device)
        return _search_part(
            queries[start : start + size], candidates, k, limits[start : start + size], here, candidate_block
        )

    starts = range(0, len(queries), size)
    if threads == 1:
        parts = list(map(search_part, starts))
    else:
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                parts = list(pool.map(search_part, starts))
        finally:
            torch.set_num_threads(threads)  # for threads to come; this one has kept its number
    return Neighbours(*map(torch.cat, zip(*parts, strict=True)))


def _search_part(
    queries: Tensor, candidates: Tensor, k: int, limits: Tensor, excluded: Tensor, candidate_block: int
) -> Neighbours:
    """The search of the queries of one block."""
    n, device = len(queries), queries.device
    best = Neighbours(
        torch.full((n, k), -torch.inf, device=device),
        torch.full((n, k), -1, dtype=torch.int64, device=device),
        torch.zeros(n, dtype=torch.int64, device=device),
    )
    numbers = excluded[:, 1].contiguous()
    for first in range(0, len(candidates), candidate_block):
        block = candidates[first : first + candidate_block].to(device)  # (b, D)
        scores = _similarities(queries, block)  # (n, runs, RUN)
        bounds = torch.searchsorted(numbers, numbers.new_tensor([first, first + len(block)])).tolist()
        rows, columns = excluded[slice(*bounds)].T
        scores.view(n, -1)[rows, columns - first] = -torch.inf

        cut = best.similarities[:, -1].clone()  # (n,) what is not greater is not among the best
        unfilled = (best.numbers[:, -1] < 0).nonzero()[:, 0]
        if len(unfilled):
            cut[unfilled] = _first_cut(scores[unfilled], limits[unfilled], k)
        rows, columns, values = _greater(scores, cut)
        fits = values <= limits[rows]
        best.above_limit.add_(torch.bincount(rows[~fits], minlength=n))
        _merge(best, rows[fits], columns[fits] + first, values[fits])
    return best


def _similarities(queries: Tensor, block: Tensor) -> Tensor:
    """(n, runs, RUN) similarities of a block, filled up with -inf."""
    missing = -len(block) % RUN
    if missing:
        block = torch.cat([block, block.new_zeros(missing, block.shape[1])])
    scores = queries @ block.T  # (n, b)
    if missing:
        scores[:, -missing:] = -torch.inf
    return scores.view(len(queries), -1, RUN)


def _first_cut(scores: Tensor, limits: Tensor, k: int) -> Tensor:
    """A value (n,) below the k-th best of scores (n, runs, RUN); -inf where fewer than k are within the limit."""
    scores = scores.masked_fill(scores > limits[:, None, None], -torch.inf)
    peaks = scores.amax(-1) if scores.shape[1] >= k else scores.flatten(1)  # k maxima are k scores, and a shorter list
    if peaks.shape[1] < k:
        return torch.full_like(limits, -torch.inf)
    kth = peaks.topk(k).values[:, -1]
    return torch.nextafter(kth, torch.full_like(kth, -torch.inf))


def _greater(scores: Tensor, cut: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and values of the scores (n, runs, RUN) above their row's cut (n,), by row and then by column."""
    runs = scores.shape[1]
    found = (scores.amax(-1) > cut[:, None]).flatten().nonzero()[:, 0]  # (r,)
    values = scores.view(-1, RUN).index_select(0, found)  # (r, RUN)
    which = (values > cut[found // runs, None]).flatten().nonzero()[:, 0]  # (s,)
    place = found[which // RUN]  # (s,)
    return place // runs, place % runs * RUN + which % RUN, values.flatten()[which]


def _merge(best: Neighbours, rows: Tensor, numbers: Tensor, values: Tensor) -> None:
    """Bring new candidates, sorted by row and number, all greater in number than those before, into the best."""
    k = best.numbers.shape[1]
    active, place, counts = torch.unique_consecutive(rows, return_inverse=True, return_counts=True)
    if not len(active):
        return
    offsets = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[place]
    width = k + int(counts.max())
    similarities = values.new_full((len(active), width), -torch.inf)  # (a, k + most new)
    joined = numbers.new_full((len(active), width), -1)
    similarities[:, :k], joined[:, :k] = best.similarities[active], best.numbers[active]
    similarities[place, k + offsets], joined[place, k + offsets] = values, numbers
    similarities, order = similarities.sort(dim=1, descending=True, stable=True)  # stable: the lower number first
    best.similarities[active] = similarities[:, :k]
    best.numbers[active] = joined.gather(1, order[:, :k])
