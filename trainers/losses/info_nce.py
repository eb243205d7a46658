# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""InfoNCE over all candidates: the recipe of VLM2Vec, the baseline of stage 2."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.losses.blocks import (
    DEFAULT_BLOCK_SIZE,
    check_count,
    check_retrieval_inputs,
    check_temperature,
    correct_rows,
    effective_number,
    map_row_blocks,
    mean_where,
    other_candidates,
)
from trainers.losses.unit_rows import UnitRows, common_dtype, unit_rows


class InfoNCELoss(nn.Module):
    """Cross-entropy of finding the positive among all candidates.

    For query q_i and candidates c_j (VLM2Vec, arXiv 2410.05160), averaged over the queries:

        L_i = -log( exp(cos(q_i, c_i) / temperature) / sum_j exp(cos(q_i, c_j) / temperature) )

    Args:
        temperature: divisor of the cosines. Default: 0.02.
        block_size: rows whose similarities are held at a time; changes memory (block_size x M), not values.
            Default: 1024.

    Attributes:
        statistics: after each forward, detached scalars: ``positive_similarity`` (mean cosine of the positives),
            ``hardest_negative_similarity`` (mean, over rows that have a negative, of the largest cosine of a
            negative), ``accuracy`` (share of the rows with a negative whose positive is strictly above all of
            them: a tie is wrong), ``effective_negatives`` (mean over the same rows of how many negatives the loss really
            has: all of them when they weigh the same in the softmax, 1 when one takes all), ``empty_rows`` (share of
            rows without any negative). A mean over no rows is 0.
        row_statistics: after each forward, detached (N,) values of the rows, for logs by source: ``loss``, the
            similarities, ``accuracy``, ``effective_negatives``; not finite where a row has none.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> import torch
        >>> loss = InfoNCELoss(temperature=1.0)
        >>> value = loss(torch.ones(4, 8), torch.ones(4, 8))  # all alike: log(4)
        >>> print(f"{value.item():.4f}")
        1.3863
    """

    def __init__(self, temperature: float = 0.02, block_size: int = DEFAULT_BLOCK_SIZE) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        self.block_size = check_count("block_size", block_size)
        self.statistics: dict[str, Tensor] = {}
        self.row_statistics: dict[str, Tensor] = {}

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
            candidates: (M, D), M >= N. Candidate i is the positive of query i; rows N.. are extra negatives.
            group_ids: (M,) integers. Candidates with the id of candidate i are never negatives of query i. Every
                candidate needs an id: give one of its own to a candidate without a twin. Default: none.
            duplicate_mask: (N, M) boolean, True = never a negative. Default: none.

        Returns:
            Scalar. A query left without negatives adds 0 to the mean.

        Raises:
            ValueError: shapes or types do not fit, or a row holds NaN or infinity.
        """
        check_retrieval_inputs(queries, candidates, group_ids, duplicate_mask)
        with torch.autocast(queries.device.type, enabled=False):
            dtype = common_dtype(queries, candidates)
            UnitRows.measure("queries", queries, dtype)  # a bad row is named here; the blocks scale their own queries
            candidates = unit_rows("candidates", candidates, dtype)  # (M, D)
            rows = torch.arange(len(queries), device=queries.device)  # (N,)
            block = partial(self._block, candidates=candidates, group_ids=group_ids)
            losses, row_statistics = map_row_blocks(block, (rows, queries, duplicate_mask), self.block_size)
        self.statistics = self._summarise(**row_statistics)
        self.row_statistics = {
            "loss": losses.detach(),
            "positive_similarity": row_statistics["positive"],
            "hardest_negative_similarity": row_statistics["hardest"],
            "accuracy": correct_rows(row_statistics["positive"], row_statistics["hardest"]),
            "effective_negatives": row_statistics["effective"].masked_fill(
                ~row_statistics["hardest"].isfinite(), torch.nan
            ),
        }
        return losses.mean()

    def _block(
        self,
        rows: Tensor,
        queries: Tensor,
        duplicates: Tensor | None,
        *,
        candidates: Tensor,
        group_ids: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Row losses and row statistics of one block: rows (B,), queries (B, D), duplicates (B, M)."""
        similarities = unit_rows("queries", queries, candidates.dtype) @ candidates.T  # (B, M)
        own = rows.unsqueeze(1)  # (B, 1) column of the positive
        columns = torch.arange(len(candidates), device=rows.device)  # (M,)
        others = other_candidates(rows, columns, group_ids, duplicates)  # (B, M)
        # The positive is in every row's softmax, so that -inf elsewhere can never make a row NaN.
        excluded = (~others).scatter(1, own, False)  # (B, M)
        logits = similarities.masked_fill(excluded, -torch.inf) / self.temperature  # (B, M)
        losses = F.cross_entropy(logits, rows, reduction="none")  # (B,)
        with torch.no_grad():
            statistics = {
                "positive": similarities.gather(1, own).squeeze(1),  # (B,)
                "hardest": similarities.masked_fill(~others, -torch.inf).amax(dim=1),  # (B,) -inf without negatives
                "effective": effective_number(logits.scatter(1, own, -torch.inf)),  # (B,)
            }
        return losses, statistics

    def _summarise(self, positive: Tensor, hardest: Tensor, effective: Tensor) -> dict[str, Tensor]:
        """Turns row statistics, each (N,), into scalars."""
        has_negative = hardest.isfinite()  # (N,)
        return {
            "positive_similarity": positive.mean(),
            "hardest_negative_similarity": mean_where(hardest, has_negative),
            "accuracy": mean_where((positive > hardest).to(positive.dtype), has_negative),
            "effective_negatives": mean_where(effective, has_negative),
            "empty_rows": (~has_negative).to(positive.dtype).mean(),
        }
