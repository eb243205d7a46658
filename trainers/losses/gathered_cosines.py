# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Cosines of every query with a few chosen candidates, (N, K), in memory that does not grow with K x D.

Gathering the candidates would make a tensor of N x K x D elements and keep it. Here forward and backward work through
blocks of a fixed size:

- The gradient of the queries is made a block of queries at a time.
- A candidate may be chosen by any number of queries. Its gradient is made a block of candidates at a time: the choices are
  sorted by candidate, so that those of a block stand together, and are summed in float32 (float64 for float64 inputs)
  before the one rounding to the candidates' own type. The sum is a matrix product and not a scattered addition, so that it
  has the same bits in every run on a GPU, too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainers.losses.unit_rows import UnitRows, row_slices

CANDIDATES_AT_A_TIME = 64  # the product that sums spends so many operations where one would do


class _GatheredCosines(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, queries: Tensor, candidates: Tensor, query_norms: Tensor, candidate_norms: Tensor, chosen: Tensor
    ) -> Tensor:
        ctx.save_for_backward(queries, candidates, query_norms, candidate_norms, chosen)
        queries, candidates = UnitRows(queries, query_norms), UnitRows(candidates, candidate_norms)
        cosines = torch.empty(chosen.shape, dtype=query_norms.dtype, device=chosen.device)  # (N, K)
        for rows in row_slices(len(chosen), chosen.shape[1] * queries.width):
            cosines[rows] = torch.bmm(candidates[chosen[rows]], queries[rows].unsqueeze(2)).squeeze(2)
        return cosines

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        queries, candidates, query_norms, candidate_norms, chosen = ctx.saved_tensors
        queries, candidates = UnitRows(queries, query_norms), UnitRows(candidates, candidate_norms)
        of_queries, of_candidates = ctx.needs_input_grad[:2]
        with torch.autocast(gradient.device.type, enabled=False):
            return (
                _query_gradient(queries, candidates, chosen, gradient) if of_queries else None,
                _candidate_gradient(queries, candidates, chosen, gradient) if of_candidates else None,
                None,
                None,
                None,
            )


def _query_gradient(queries: UnitRows, candidates: UnitRows, chosen: Tensor, gradient: Tensor) -> Tensor:
    """(N, D) in the queries' own type."""
    result = torch.empty_like(queries.embeddings)
    for rows in row_slices(len(chosen), chosen.shape[1] * queries.width):
        total = torch.bmm(gradient[rows].unsqueeze(1), candidates[chosen[rows]]).squeeze(1)  # (B, D)
        result[rows] = queries.pull_back(rows, total).to(result.dtype)
    return result


def _candidate_gradient(queries: UnitRows, candidates: UnitRows, chosen: Tensor, gradient: Tensor) -> Tensor:
    """(M, D) in the candidates' own type."""
    result = torch.empty_like(candidates.embeddings)
    sorted_chosen, order = chosen.flatten().sort(stable=True)  # (N * K,) each
    starts = torch.arange(0, len(candidates) + CANDIDATES_AT_A_TIME, CANDIDATES_AT_A_TIME, device=chosen.device)
    bounds = torch.searchsorted(sorted_chosen, starts).tolist()
    for block, first in enumerate(range(0, len(candidates), CANDIDATES_AT_A_TIME)):
        columns = slice(first, min(first + CANDIDATES_AT_A_TIME, len(candidates)))
        total = gradient.new_zeros(columns.stop - first, queries.width)  # (C, D)
        of_block = order[bounds[block] : bounds[block + 1]]
        for part in row_slices(len(of_block), max(queries.width, CANDIDATES_AT_A_TIME)):
            choices = of_block[part]  # (E,)
            weights = gradient.new_zeros(len(total), len(choices))  # (C, E), one entry in every column
            column = torch.arange(len(choices), device=choices.device)  # (E,)
            weights[chosen.flatten()[choices] - first, column] = gradient.flatten()[choices]
            total += weights @ queries[choices // chosen.shape[1]]
        result[columns] = candidates.pull_back(columns, total).to(result.dtype)
    return result


def gathered_cosines(queries: UnitRows, candidates: UnitRows, chosen: Tensor) -> Tensor:
    """Cosines of queries with candidates, with a gradient to the embeddings of both.

    Args:
        queries: N rows, measured.
        candidates: M rows of the same width, measured.
        chosen: (N, K) numbers of candidates. The same candidate may be chosen by many queries, or twice by one.

    Returns:
        (N, K) in the type in which the rows were measured.
    """
    return _GatheredCosines.apply(queries.embeddings, candidates.embeddings, queries.norms, candidates.norms, chosen)
