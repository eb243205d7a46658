# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the losses have in common: a mean over rows, and what it tells about them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainers.losses.blocks import mean_where
from trainers.losses.checks import INTEGERS, check_count, check_pair, check_temperature, check_tensor
from trainers.losses.unit_rows import UnitRows, measure_rows

DEFAULT_BLOCK_SIZE = 1024


class RowLoss(nn.Module):
    """A mean over rows, with what was computed on the way as statistics."""

    num_embeddings = 2  # how many of the first arguments of `forward` are the model's

    def __init__(self, temperature: float = 0.02, block_size: int = DEFAULT_BLOCK_SIZE) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        self.block_size = check_count("block_size", block_size)
        self.statistics: dict[str, Tensor] = {}
        self.row_statistics: dict[str, Tensor] = {}

    def _mean(self, losses: Tensor, rows: dict[str, Tensor]) -> Tensor:
        """Mean of the losses (N,); keeps the rows' statistics (N,), and their means over the rows that have one."""
        self.row_statistics = {"loss": losses.detach(), **rows}
        self.statistics = {name: mean_where(values, values.isfinite()) for name, values in rows.items()}
        return losses.mean()


class ContrastiveLoss(RowLoss):
    """A loss that finds each query's positive among the candidates of all; a subclass says how, in `_compute_rows`."""

    def forward(
        self,
        queries: Tensor,
        candidates: Tensor,
        *,
        group_ids: Tensor | None = None,
        duplicate_mask: Tensor | None = None,
    ) -> Tensor:
        """Computes the mean loss of the queries.

        Args:
            queries: (N, D), of any length.
            candidates: (M, D), of any length, M >= N. Candidate i is the positive of query i; rows N.. are extra
                negatives, open to every query.
            group_ids: (M,) integers. Candidates with the id of candidate i are never negatives of query i. Every
                candidate needs an id: give one of its own to a candidate without a twin. Default: none.
            duplicate_mask: (N, M) boolean, True = never a negative. Default: none.

        Returns:
            Scalar, in float32 (float64 if an input is). A query left without negatives adds 0 to the mean.

        Raises:
            ValueError: shapes or types do not fit, or a row holds NaN or infinity.
        """
        check_pair(queries, candidates)
        num_queries, num_candidates = len(queries), len(candidates)
        if num_candidates < num_queries:
            raise ValueError(
                f"candidate i is the positive of query i, so there must be at least as many candidates as queries; "
                f"got {num_candidates} candidates for {num_queries} queries"
            )
        if group_ids is not None:
            wanted = f"a tensor of integers (torch.long) with one id per candidate, ({num_candidates},)"
            check_tensor("group_ids", group_ids, INTEGERS, (num_candidates,), wanted)
        if duplicate_mask is not None:
            shape = (num_queries, num_candidates)
            wanted = f"a boolean tensor with one row per query and one column per candidate, {shape}"
            check_tensor("duplicate_mask", duplicate_mask, (torch.bool,), shape, wanted)
        # At a temperature of 0.02 the bfloat16 rounding of a cosine (about 0.004) would move a logit by 0.2.
        with torch.autocast(queries.device.type, enabled=False):
            query_rows, candidate_rows = measure_rows(queries=queries, candidates=candidates)
            losses, rows = self._compute_rows(query_rows, candidate_rows, group_ids, duplicate_mask)
        return self._mean(losses, rows)

    def _compute_rows(
        self, queries: UnitRows, candidates: UnitRows, group_ids: Tensor | None, duplicate_mask: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses of the rows and what is told of them, each (N,)."""
        raise NotImplementedError
