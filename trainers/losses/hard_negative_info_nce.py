# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Hard-negative InfoNCE with false-negative filtering: the loss of stage 2."""

from __future__ import annotations

import math
from numbers import Real

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
    mean_where,
    other_candidates,
)
from trainers.losses.gathered_cosines import gathered_cosines
from trainers.losses.unit_rows import UnitRows, common_dtype

SHORT_ROWS = ("repeat", "mask")


def _check_margin(margin: float) -> float:
    """Accepts every margin that leaves a rule to apply: finite, or +inf for no filtering."""
    if not isinstance(margin, Real) or isinstance(margin, bool) or math.isnan(margin) or margin == -math.inf:
        raise ValueError(f"false_negative_margin must be a number (inf switches the filter off), got {margin!r}")
    return float(margin)


class HardNegativeInfoNCELoss(nn.Module):
    """Cross-entropy of finding the positive among itself and its k hardest trustworthy negatives.

    Per query q with positive p, margin beta and temperature tau (UniME, arXiv 2504.17432, section 3.3):

    1. Filter: a candidate c with cos(q, c) > cos(q, p) + beta is taken for a false negative and dropped.
    2. Sample: the k candidates most similar to q among the others are its negatives n_1 .. n_k.
    3. L = -log( exp(cos(q, p) / tau) / (exp(cos(q, p) / tau) + sum_i exp(cos(q, n_i) / tau)) ) (Eq. 4),
       averaged over the queries. The choice of negatives carries no gradient.

    The authors' published code lets dropped candidates, or the positive itself, back in when fewer than k are left;
    the paper repeats what is left. This is the paper's rule (``short_rows="repeat"``). Where at least k are left the
    two agree.

    Args:
        temperature: divisor tau of the cosines. Default: 0.02.
        num_hard_negatives: k, negatives per query, at least 1. Default: 8.
        false_negative_margin: beta, in cosine. With a positive margin an exact copy of the positive is *not*
            dropped: name copies by ``group_ids`` or ``duplicate_mask``. ``inf``: drop nothing. Default: 0.1.
        short_rows: what a query with 0 < r < k negatives does. "repeat": its negatives are counted again, hardest
            first, until there are k. "mask": it uses r negatives. Default: "repeat".
        block_size: queries, and candidates, whose similarities are held at a time; changes memory, not values. Beside
            the gradients the loss takes block_size x (block_size + 2 D) numbers, whatever N and M are. Default: 1024.

    Attributes:
        statistics: after each forward, detached scalars. "Negatives" are candidates other than the positive and its
            known copies; "kept" are those not dropped.

            - ``share_filtered``: share of all (query, negative) pairs that were dropped.
            - ``share_rows_filtered``: share of rows with at least one drop.
            - ``short_rows``: share of rows with fewer than k kept negatives; ``empty_rows``: with none.
            - ``positive_similarity``: mean cosine of the positives.
            - ``hardest_negative_similarity``: mean largest cosine of a kept negative, over rows that have one.
            - ``accuracy``: share of the rows with a kept negative whose positive is strictly above all of them.
            - ``effective_negatives``: mean over the same rows of how many negatives the loss really has: k when all weigh
              the same in the softmax, 1 when one takes all.

            A mean over no rows is 0.
        row_statistics: after each forward, detached (N,) values of the rows, for logs by source: ``loss``, the
            similarities, ``accuracy``, ``effective_negatives``, ``share_filtered``, ``short_rows``; not finite where a
            row has none.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> import torch
        >>> loss = HardNegativeInfoNCELoss(num_hard_negatives=3)
        >>> value = loss(torch.ones(5, 8), torch.ones(5, 8))  # all alike: log(3 + 1)
        >>> print(f"{value.item():.4f}")
        1.3863
    """

    def __init__(
        self,
        temperature: float = 0.02,
        num_hard_negatives: int = 8,
        false_negative_margin: float = 0.1,
        short_rows: str = "repeat",
        block_size: int = DEFAULT_BLOCK_SIZE,
    ) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        self.num_hard_negatives = check_count("num_hard_negatives", num_hard_negatives)
        self.false_negative_margin = _check_margin(false_negative_margin)
        if short_rows not in SHORT_ROWS:
            raise ValueError(f"short_rows must be one of {SHORT_ROWS}, got {short_rows!r}")
        self.short_rows = short_rows
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
            candidates: (M, D), M >= N. Candidate i is the positive of query i; rows N.. are extra hard negatives,
                open to every query.
            group_ids: (M,) integers. Candidates with the id of candidate i are never negatives of query i. Every
                candidate needs an id: give one of its own to a candidate without a twin. Default: none.
            duplicate_mask: (N, M) boolean, True = never a negative. Default: none.

        Returns:
            Scalar. A query with nothing left adds 0 to the mean.

        Raises:
            ValueError: shapes or types do not fit, or a row holds NaN or infinity.
        """
        check_retrieval_inputs(queries, candidates, group_ids, duplicate_mask)
        with torch.autocast(queries.device.type, enabled=False):
            dtype = common_dtype(queries, candidates)
            query_rows = UnitRows.measure("queries", queries, dtype)
            candidate_rows = UnitRows.measure("candidates", candidates, dtype)
            # Steps 1 and 2 carry no gradient, so what they look at is never kept: block by block, and only once. What a
            # block chose goes into one tensor at once: small ones that stay, made between large ones that go, would keep
            # the allocator from using that memory again.
            choice: dict[str, Tensor] = {}
            for first in range(0, len(queries), self.block_size):
                block = self._choose(query_rows, candidate_rows, first, group_ids, duplicate_mask)
                for name, values in block.items():
                    whole = choice.setdefault(name, values.new_empty(len(queries), *values.shape[1:]))  # (N, ...)
                    whole[first : first + len(values)] = values
            chosen, num_kept = choice.pop("chosen"), choice["num_kept"]
            own = torch.arange(len(queries), device=queries.device).unsqueeze(1)  # (N, 1)
            cosines = gathered_cosines(query_rows, candidate_rows, torch.cat([own, chosen], dim=1))  # (N, 1 + K)
            # Step 3. A slot counted n times is its logit plus log n; an unused slot has n = 0 and thus -inf, and as the
            # positive is always there, no row is ever all -inf.
            counts = F.pad(self._slot_counts(num_kept.unsqueeze(1), chosen.shape[1]), (1, 0), value=1)  # (N, 1 + K)
            logits = cosines / self.temperature + counts.to(dtype).log()  # (N, 1 + K)
            losses = F.cross_entropy(logits, torch.zeros_like(num_kept), reduction="none")  # (N,)
        effective = effective_number(logits[:, 1:].detach())  # (N,)
        self.statistics = self._summarise(**choice, effective=effective)
        self.row_statistics = {
            "loss": losses.detach(),
            "positive_similarity": choice["positive"],
            "hardest_negative_similarity": choice["hardest"],
            "accuracy": correct_rows(choice["positive"], choice["hardest"]),
            "effective_negatives": effective.masked_fill(num_kept == 0, torch.nan),
            "share_filtered": choice["num_dropped"] / choice["num_others"],
            "short_rows": (num_kept < self.num_hard_negatives).to(dtype),
        }
        return losses.mean()

    @torch.no_grad()
    def _choose(
        self,
        queries: UnitRows,
        candidates: UnitRows,
        first: int,
        group_ids: Tensor | None,
        duplicate_mask: Tensor | None,
    ) -> dict[str, Tensor]:
        """Negatives and statistics of one block of queries.

        Args:
            queries: N rows.
            candidates: M rows.
            first: number of the block's first query.
            group_ids: (M,) or None.
            duplicate_mask: (N, M) or None.

        Returns:
            ``chosen`` (B, K) candidates, hardest first, of which the first ``num_kept`` count; and per row (B,)
            ``positive`` and ``hardest`` cosine (-inf where nothing is left), ``num_others``, ``num_dropped``, ``num_kept``.
        """
        size, slots = self.block_size, min(self.num_hard_negatives, len(candidates))  # K
        block = queries[first : first + size]  # (B, D)
        rows = torch.arange(first, first + len(block), device=block.device)  # (B,)
        hardest = block.new_full((len(rows), slots), -torch.inf)  # (B, K)
        chosen = torch.zeros_like(hardest, dtype=torch.long)  # (B, K)
        num_others, num_dropped = torch.zeros_like(rows), torch.zeros_like(rows)  # (B,)
        # The filter needs the positives, and candidate r is the positive of row r: the block that holds them comes first.
        for start in [first, *(start for start in range(0, len(candidates), size) if start != first)]:
            similarities = block @ candidates[start : start + size].T  # (B, C)
            if start == first:
                positive = similarities.diagonal().unsqueeze(1).clone()  # (B, 1)
            columns = torch.arange(start, start + similarities.shape[1], device=block.device)  # (C,)
            duplicates = None if duplicate_mask is None else duplicate_mask[first : first + size, start : start + size]
            others = other_candidates(rows, columns, group_ids, duplicates)  # (B, C)
            dropped = others & (similarities > positive + self.false_negative_margin)  # (B, C)
            num_others += others.sum(dim=1)
            num_dropped += dropped.sum(dim=1)
            similarities.masked_fill_(~others | dropped, -torch.inf)
            found, places = similarities.topk(min(slots, len(columns)), dim=1)  # (B, K) or narrower
            hardest, order = torch.cat([hardest, found], dim=1).topk(slots, dim=1)  # (B, K)
            chosen = torch.cat([chosen, columns[places]], dim=1).gather(1, order)  # (B, K)
        return {
            "chosen": chosen,
            "positive": positive.squeeze(1),
            "hardest": hardest[:, 0],
            "num_others": num_others,
            "num_dropped": num_dropped,
            "num_kept": num_others - num_dropped,
        }

    def _slot_counts(self, num_kept: Tensor, slots: int) -> Tensor:
        """How often each of the K hardest candidates is used as a negative, hardest first.

        Going round r kept candidates until k are drawn takes each of them k // r times and the first k % r once more.

        Args:
            num_kept: (B, 1).
            slots: K.

        Returns:
            (B, K) whole numbers; 0 for slots that hold no kept candidate.
        """
        slot = torch.arange(slots, device=num_kept.device)  # (K,)
        if self.short_rows == "mask":
            counts = torch.ones_like(slot)  # (K,)
        else:
            k = self.num_hard_negatives
            distinct = num_kept.clamp(min=1, max=k)  # (B, 1)
            counts = k // distinct + (slot < k % distinct)  # (B, K)
        return counts * (slot < num_kept)  # (B, K)

    def _summarise(
        self,
        positive: Tensor,
        hardest: Tensor,
        num_others: Tensor,
        num_dropped: Tensor,
        num_kept: Tensor,
        effective: Tensor,
    ) -> dict[str, Tensor]:
        """Turns row statistics, each (N,), into scalars."""
        dtype = positive.dtype
        has_negative = num_kept > 0  # (N,)
        return {
            "share_filtered": num_dropped.sum().to(dtype) / num_others.sum().clamp(min=1),
            "share_rows_filtered": (num_dropped > 0).to(dtype).mean(),
            "short_rows": (num_kept < self.num_hard_negatives).to(dtype).mean(),
            "empty_rows": (~has_negative).to(dtype).mean(),
            "positive_similarity": positive.mean(),
            "hardest_negative_similarity": mean_where(hardest, has_negative),
            "accuracy": mean_where((positive > hardest).to(dtype), has_negative),
            "effective_negatives": mean_where(effective, has_negative),
        }
