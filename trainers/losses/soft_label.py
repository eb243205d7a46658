# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Soft labels of a judge on each query's own candidates: the loss of UniME-V2."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.losses.base import RowLoss
from trainers.losses.blocks import log_distribution, retrieval_rows, row_entropy, row_kl
from trainers.losses.checks import FLOATS, INTEGERS, check_pair, check_tensor
from trainers.losses.gathered_cosines import gathered_cosines
from trainers.losses.unit_rows import measure_rows


def _check_choices(own: Tensor, scores: Tensor, num_queries: int, num_candidates: int) -> None:
    """Refuses candidate numbers and scores that do not fit the embeddings or each other."""
    wanted = f"a tensor of integers (torch.long) with one row per query, ({num_queries}, 1 + K), the positive first"
    check_tensor("own", own, INTEGERS, (num_queries, None), wanted)
    wanted = f"a floating-point tensor with one score per candidate, {tuple(own.shape)}"
    check_tensor("scores", scores, FLOATS, own.shape, wanted)
    if int(own.min()) < -1 or int(own.max()) >= num_candidates:
        raise ValueError(
            f"own must hold numbers of the {num_candidates} candidates, or -1 for none; "
            f"it ranges from {int(own.min())} to {int(own.max())}"
        )
    if (own[:, 0] < 0).any():
        raise ValueError(f"row {int((own[:, 0] < 0).nonzero()[0])} of own has no positive in its first column")
    bad_rows = ((own >= 0) & ~scores.isfinite()).any(dim=1).nonzero()
    if len(bad_rows):
        raise ValueError(f"scores: row {int(bad_rows[0])} has a candidate whose score is NaN or infinite")


class SoftLabelLoss(RowLoss):
    """Divergence, both ways, between the model's and a judge's opinion of a query's own candidates.

    Example::

        import torch
        from trainers.losses import SoftLabelLoss

        loss = SoftLabelLoss(temperature=1.0)
        own = torch.tensor([[0, 2], [1, 3]])  # each query's positive and one negative
        value = loss(torch.ones(2, 8), torch.ones(4, 8), own, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        assert abs(value.item() - 0.0578) < 1e-4  # the model finds all alike; in one row the judge does, too

    For query q with positive c_0 and its own negatives c_1 .. c_k, which a judge (a large multimodal LLM) gave the scores
    s_0 .. s_k (UniME-V2, arXiv 2510.13515):

        P = softmax over j of cos(q, c_j) / tau        Q = softmax over j of s_j / tau
        L = 1/2 ( mean KL(P || Q) + mean KL(Q || P) ), the means over the queries

    The paper calls this a Jensen-Shannon divergence; it is half of Jeffreys', without a mixture of the two. Other rows'
    candidates take no part: there are no in-batch negatives. The scores get no gradient.

    Args:
        temperature: divisor tau of cosines and scores alike. Default: 0.02.

    Attributes:
        statistics: after each forward, detached scalars. ``label_entropy``, ``prediction_entropy``: mean entropy, in nats,
            of Q and P. ``label_positive``, ``prediction_positive``: mean share that Q and P give to the positive.
            ``positive_similarity``: mean cosine of the positives. ``hardest_negative_similarity``: mean largest cosine of
            a negative. ``accuracy``: share of rows whose positive is strictly above all of their negatives. ``empty_rows``:
            share of rows without a negative, over which no other statistic but ``positive_similarity`` is taken.
        row_statistics: after each forward, the same of each row and its ``loss``, detached (N,), for logs by source; not
            finite where a row has none.

    Raises:
        ValueError: an option is out of range.
    """

    def __init__(self, temperature: float = 0.02) -> None:
        super().__init__(temperature)

    def forward(self, queries: Tensor, candidates: Tensor, own: Tensor, scores: Tensor) -> Tensor:
        """Computes the mean divergence of the queries.

        Args:
            queries: (N, D), of any length.
            candidates: (M, D), of any length.
            own: (N, 1 + K) numbers of each query's candidates, the positive first; -1 where a query has fewer than K
                negatives. Queries may share candidates.
            scores: (N, 1 + K) the judge's scores of them; what stands at -1 is not looked at.

        Returns:
            Scalar, in float32 (float64 if an input is). A query without negatives adds 0 to the mean.

        Raises:
            ValueError: shapes, types or numbers do not fit, or a row holds NaN or infinity.
        """
        check_pair(queries, candidates)
        _check_choices(own, scores, len(queries), len(candidates))
        present = own >= 0  # (N, 1 + K)
        with torch.autocast(queries.device.type, enabled=False):
            query_rows, candidate_rows = measure_rows(queries=queries, candidates=candidates)
            cosines = gathered_cosines(query_rows, candidate_rows, own.long().clamp(min=0))  # (N, 1 + K)
            log_p = log_distribution(cosines / self.temperature, present)  # (N, 1 + K)
            log_q = log_distribution(scores.detach().to(cosines.dtype) / self.temperature, present)  # (N, 1 + K)
            losses = (row_kl(log_p, log_q) + row_kl(log_q, log_p)) / 2  # (N,)
        # A column of -inf, so that there is a largest value in rows, and in batches, without negatives.
        negatives = cosines.detach()[:, 1:].masked_fill(~present[:, 1:], -torch.inf)  # (N, K)
        hardest = F.pad(negatives, (0, 1), value=-torch.inf).amax(dim=1)  # (N,)
        distributions = {
            "label_entropy": row_entropy(log_q),
            "prediction_entropy": row_entropy(log_p.detach()),
            "label_positive": log_q[:, 0].exp(),
            "prediction_positive": log_p[:, 0].detach().exp(),
        }
        rows = {name: values.masked_fill(~hardest.isfinite(), torch.nan) for name, values in distributions.items()}
        return self._mean(losses, rows | retrieval_rows(cosines[:, 0].detach(), hardest))
