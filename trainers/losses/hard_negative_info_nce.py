# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Hard-negative InfoNCE with false-negative filtering: the loss of stage 2."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.losses.base import DEFAULT_BLOCK_SIZE, ContrastiveLoss
from trainers.losses.blocks import effective_number, other_candidates, retrieval_rows
from trainers.losses.checks import check_choice, check_count
from trainers.losses.gathered_cosines import gathered_cosines
from trainers.losses.unit_rows import UnitRows

SHORT_ROWS = ("repeat", "mask")


class HardNegativeInfoNCELoss(ContrastiveLoss):
    """Cross-entropy of finding the positive among itself and its k hardest trustworthy negatives.

    Example::

        import torch
        from trainers.losses import HardNegativeInfoNCELoss

        loss = HardNegativeInfoNCELoss(num_hard_negatives=3)
        value = loss(torch.ones(5, 8), torch.ones(5, 8))  # all alike: log(3 + 1)
        assert abs(value.item() - 1.3863) < 1e-4

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
        row_statistics: after each forward, the same of each row and its ``loss``, detached (N,), for logs by source; not
            finite where a row has none.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(
        self,
        temperature: float = 0.02,
        num_hard_negatives: int = 8,
        false_negative_margin: float = 0.1,
        short_rows: str = "repeat",
        block_size: int = DEFAULT_BLOCK_SIZE,
    ) -> None:
        super().__init__(temperature, block_size)
        self.num_hard_negatives = check_count("num_hard_negatives", num_hard_negatives)
        margin = false_negative_margin
        if not isinstance(margin, Real) or isinstance(margin, bool) or math.isnan(margin) or margin == -math.inf:
            raise ValueError(f"false_negative_margin must be a number (inf switches the filter off), got {margin!r}")
        self.false_negative_margin = float(margin)
        self.short_rows = check_choice("short_rows", short_rows, SHORT_ROWS)

    def _compute_rows(
        self, queries: UnitRows, candidates: UnitRows, group_ids: Tensor | None, duplicate_mask: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        rows, chosen, num_kept = self._choose(queries, candidates, group_ids, duplicate_mask)
        own = torch.arange(len(queries), device=chosen.device).unsqueeze(1)  # (N, 1)
        cosines = gathered_cosines(queries, candidates, torch.cat([own, chosen], dim=1))  # (N, 1 + K)
        # Step 3. A slot counted n times is its logit plus log n; an unused slot has n = 0 and thus -inf, and as the
        # positive is always there, no row is ever all -inf.
        counts = F.pad(self._slot_counts(num_kept.unsqueeze(1), chosen.shape[1]), (1, 0), value=1)  # (N, 1 + K)
        logits = cosines / self.temperature + counts.to(cosines.dtype).log()  # (N, 1 + K)
        losses = F.cross_entropy(logits, torch.zeros_like(num_kept), reduction="none")  # (N,)
        rows["effective_negatives"] = effective_number(logits[:, 1:].detach())
        return losses, rows

    def _mean(self, losses: Tensor, rows: dict[str, Tensor]) -> Tensor:
        num_others, num_dropped = rows.pop("num_others"), rows.pop("num_dropped")  # (N,)
        loss = super()._mean(losses, rows)
        # Of all pairs, and not the mean of the rows' shares: rows may have more or fewer negatives.
        self.statistics["share_filtered"] = num_dropped.sum().to(losses.dtype) / num_others.sum().clamp(min=1)
        return loss

    @torch.no_grad()  # steps 1 and 2: what they look at is never kept, a block of queries by a block of candidates
    def _choose(
        self, queries: UnitRows, candidates: UnitRows, group_ids: Tensor | None, duplicate_mask: Tensor | None
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """What is told of the rows, each (N,); the chosen (N, K), hardest first; and how many are kept, (N,)."""
        size, slots = self.block_size, min(self.num_hard_negatives, len(candidates))  # K
        # What a block finds goes into whole tensors at once: small ones that stay, made between large ones that go, would
        # keep the allocator from using that memory again.
        numbers = torch.arange(len(candidates), device=queries.norms.device)  # (M,)
        positive, hardest = queries.norms.new_empty(2, len(queries))  # (N,) each
        num_others, num_dropped = numbers.new_zeros(2, len(queries))  # (N,) each
        chosen = numbers.new_empty(len(queries), slots)  # (N, K)
        for first in range(0, len(queries), size):
            own = slice(first, min(first + size, len(queries)))
            block, rows = queries[own], numbers[own]  # (B, D), (B,)
            best = block.new_full((len(rows), slots), -torch.inf)  # (B, K)
            best_numbers = numbers.new_zeros(len(rows), slots)  # (B, K)
            # The filter needs the positives, and candidate r is the positive of row r: their block comes first.
            for start in [first, *(start for start in range(0, len(candidates), size) if start != first)]:
                columns = numbers[start : start + size]  # (C,)
                similarities = block @ candidates[start : start + size].T  # (B, C)
                if start == first:
                    positive[own] = similarities.diagonal()
                duplicates = None if duplicate_mask is None else duplicate_mask[own, start : start + size]
                others = other_candidates(rows, columns, group_ids, duplicates)  # (B, C)
                dropped = others & (similarities > positive[own].unsqueeze(1) + self.false_negative_margin)  # (B, C)
                num_others[own] += others.sum(dim=1)
                num_dropped[own] += dropped.sum(dim=1)
                similarities.masked_fill_(~others | dropped, -torch.inf)
                found, places = similarities.topk(min(slots, len(columns)), dim=1)  # (B, K) or narrower
                best, order = torch.cat([best, found], dim=1).topk(slots, dim=1)  # (B, K)
                best_numbers = torch.cat([best_numbers, columns[places]], dim=1).gather(1, order)  # (B, K)
            hardest[own], chosen[own] = best[:, 0], best_numbers
        num_kept = num_others - num_dropped
        rows = {
            **retrieval_rows(positive, hardest),
            "short_rows": (num_kept < self.num_hard_negatives).to(positive.dtype),
            "share_filtered": num_dropped / num_others,
            "share_rows_filtered": (num_dropped > 0).to(positive.dtype),
            "num_others": num_others,
            "num_dropped": num_dropped,
        }
        return rows, chosen, num_kept

    def _slot_counts(self, num_kept: Tensor, slots: int) -> Tensor:
        """How often each of the K hardest candidates is used, (B, K), hardest first, where ``num_kept`` (B, 1) are left.

        Going round r kept candidates until k are drawn takes each of them k // r times and the first k % r once more.
        """
        slot = torch.arange(slots, device=num_kept.device)  # (K,)
        if self.short_rows == "mask":
            counts = torch.ones_like(slot)  # (K,)
        else:
            k = self.num_hard_negatives
            distinct = num_kept.clamp(min=1, max=k)  # (B, 1)
            counts = k // distinct + (slot < k % distinct)  # (B, K)
        return counts * (slot < num_kept)  # (B, K)
