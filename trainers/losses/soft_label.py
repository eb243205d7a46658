# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Soft labels of a judge on each query's own candidates: the loss of UniME-V2."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.losses.blocks import check_matrix, check_temperature, mean_where, row_entropy, row_kl
from trainers.losses.gathered_cosines import gathered_cosines
from trainers.losses.unit_rows import UnitRows, common_dtype


def _check_choices(own: Tensor, scores: Tensor, num_queries: int, num_candidates: int) -> None:
    """Refuses candidate numbers and scores that do not fit the embeddings or each other."""
    if not isinstance(own, Tensor) or own.dtype not in (torch.int64, torch.int32):
        kind = own.dtype if isinstance(own, Tensor) else type(own).__name__
        raise ValueError(f"own must be a tensor of integers (torch.long), got {kind}")
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        kind = scores.dtype if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"scores must be a floating-point tensor, got {kind}")
    if own.dim() != 2 or len(own) != num_queries or own.shape[1] == 0:
        raise ValueError(
            f"own must have one row per query, ({num_queries}, 1 + K), the positive first; got {tuple(own.shape)}"
        )
    if scores.shape != own.shape:
        raise ValueError(f"scores needs one score per candidate, {tuple(own.shape)}; got {tuple(scores.shape)}")
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


class SoftLabelLoss(nn.Module):
    """Divergence, both ways, between the model's and a judge's opinion of a query's own candidates.

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

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> import torch
        >>> loss = SoftLabelLoss(temperature=1.0)
        >>> own = torch.tensor([[0, 2], [1, 3]])  # each query's positive and one negative
        >>> value = loss(torch.ones(2, 8), torch.ones(4, 8), own, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        >>> print(f"{value.item():.4f}")  # P is even; one row's labels are, too
        0.0578
    """

    def __init__(self, temperature: float = 0.02) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        self.statistics: dict[str, Tensor] = {}
        self.row_statistics: dict[str, Tensor] = {}

    def forward(self, queries: Tensor, candidates: Tensor, own: Tensor, scores: Tensor) -> Tensor:
        """Computes the mean divergence of the queries.

        Args:
            queries: (N, D), of any length.
            candidates: (M, D), of any length.
            own: (N, 1 + K) numbers of each query's candidates, the positive first; -1 where a query has fewer than K
                negatives. Queries may share candidates.
            scores: (N, 1 + K) the judge's scores of them; what stands at -1 is not looked at.

        Returns:
            Scalar. A query without negatives adds 0 to the mean.

        Raises:
            ValueError: shapes, types or numbers do not fit, or a row holds NaN or infinity.
        """
        check_matrix("queries", queries)
        check_matrix("candidates", candidates)
        if queries.shape[1] != candidates.shape[1]:
            raise ValueError(
                f"queries and candidates must have the same width, got {queries.shape[1]} and {candidates.shape[1]}"
            )
        _check_choices(own, scores, len(queries), len(candidates))
        present = own >= 0  # (N, 1 + K)
        with torch.autocast(queries.device.type, enabled=False):
            dtype = common_dtype(queries, candidates)
            query_rows = UnitRows.measure("queries", queries, dtype)
            candidate_rows = UnitRows.measure("candidates", candidates, dtype)
            cosines = gathered_cosines(query_rows, candidate_rows, own.long().clamp(min=0))  # (N, 1 + K)
            log_p = self._log_distribution(cosines, present)  # (N, 1 + K)
            log_q = self._log_distribution(scores.detach().to(dtype), present)  # (N, 1 + K)
            losses = (row_kl(log_p, log_q) + row_kl(log_q, log_p)) / 2  # (N,)
        self.statistics = self._summarise(cosines.detach(), log_p.detach(), log_q, present)
        self.row_statistics = {"loss": losses.detach(), "positive_similarity": cosines[:, 0].detach()}
        return losses.mean()

    def _log_distribution(self, values: Tensor, present: Tensor) -> Tensor:
        """Log-softmax of each row over the candidates that are there, (N, 1 + K)."""
        # The lowest finite number has probability 0, as -inf would, but 0 * (low - low) is 0 where 0 * (-inf + inf) is NaN.
        logits = (values / self.temperature).masked_fill(~present, torch.finfo(values.dtype).min)
        return F.log_softmax(logits, dim=1)

    def _summarise(self, cosines: Tensor, log_p: Tensor, log_q: Tensor, present: Tensor) -> dict[str, Tensor]:
        """Turns the rows, each (N, 1 + K), into scalars."""
        has_negative = present[:, 1:].any(dim=1)  # (N,)
        # A column of -inf, so that there is a largest value in rows, and in batches, without negatives.
        negatives = F.pad(cosines[:, 1:].masked_fill(~present[:, 1:], -torch.inf), (0, 1), value=-torch.inf)
        positive, hardest = cosines[:, 0], negatives.amax(dim=1)  # (N,)
        return {
            "label_entropy": mean_where(row_entropy(log_q), has_negative),
            "prediction_entropy": mean_where(row_entropy(log_p), has_negative),
            "label_positive": mean_where(log_q[:, 0].exp(), has_negative),
            "prediction_positive": mean_where(log_p[:, 0].exp(), has_negative),
            "positive_similarity": positive.mean(),
            "hardest_negative_similarity": mean_where(hardest, has_negative),
            "accuracy": mean_where((positive > hardest).to(positive.dtype), has_negative),
            "empty_rows": (~has_negative).to(positive.dtype).mean(),
        }
