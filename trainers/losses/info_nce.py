# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""InfoNCE over all candidates: the recipe of VLM2Vec, the baseline of stage 2."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.losses.base import ContrastiveLoss
from trainers.losses.blocks import effective_number, map_row_blocks, other_candidates, retrieval_rows
from trainers.losses.unit_rows import UnitRows


class InfoNCELoss(ContrastiveLoss):
    """Cross-entropy of finding the positive among all candidates.

    Example::

        import torch
        from trainers.losses import InfoNCELoss

        loss = InfoNCELoss(temperature=1.0)
        value = loss(torch.ones(4, 8), torch.ones(4, 8))  # all alike: log(4)
        assert abs(value.item() - 1.3863) < 1e-4

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
        row_statistics: after each forward, the same of each row and its ``loss``, detached (N,), for logs by source; not
            finite where a row has none.

    Raises:
        ValueError: an option is out of range.
    """

    def _compute_rows(
        self, queries: UnitRows, candidates: UnitRows, group_ids: Tensor | None, duplicate_mask: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        all_candidates = candidates.matrix()  # (M, D)
        columns = torch.arange(len(candidates), device=all_candidates.device)  # (M,)

        def compute_block(rows: Tensor, queries: Tensor, norms: Tensor, duplicates: Tensor | None):
            similarities = UnitRows(queries, norms).matrix() @ all_candidates.T  # (B, M)
            own = rows.unsqueeze(1)  # (B, 1) column of the positive
            others = other_candidates(rows, columns, group_ids, duplicates)  # (B, M)
            # The positive is in every row's softmax, so that -inf elsewhere can never make a row NaN.
            excluded = (~others).scatter(1, own, False)  # (B, M)
            logits = similarities.masked_fill(excluded, -torch.inf) / self.temperature  # (B, M)
            losses = F.cross_entropy(logits, rows, reduction="none")  # (B,)
            with torch.no_grad():
                hardest = similarities.masked_fill(~others, -torch.inf).amax(dim=1)  # (B,) -inf without negatives
                statistics = retrieval_rows(similarities.gather(1, own).squeeze(1), hardest)
                statistics["effective_negatives"] = effective_number(logits.scatter(1, own, -torch.inf))  # (B,)
            return losses, statistics

        of_rows = (columns[: len(queries)], queries.embeddings, queries.norms, duplicate_mask)
        return map_row_blocks(compute_block, of_rows, self.block_size)
