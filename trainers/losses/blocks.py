# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Work in blocks of rows, and what the losses compute of a row.

No tensor of N x M elements is ever made or kept. A loss over whole rows of similarities computes them for a block of rows
at a time, and once more in the backward pass (one extra matrix product, nothing beside the forward pass of a language
model). A block returns its statistics with its losses and stores nothing, so that running it twice counts nothing twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def other_candidates(
    rows: Tensor, columns: Tensor, group_ids: Tensor | None, duplicates: Tensor | None = None
) -> Tensor:
    """Which columns (C,) may be negatives of which rows (B,): neither a row's positive nor known to be the same, (B, C)."""
    others = rows.unsqueeze(1) != columns.unsqueeze(0)  # (B, C)
    if group_ids is not None:
        others &= group_ids[rows].unsqueeze(1) != group_ids[columns].unsqueeze(0)
    if duplicates is not None:
        others &= ~duplicates
    return others


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the chosen values, (N,); 0 where nothing is chosen, so that averages over steps and ranks stay finite."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def log_distribution(logits: Tensor, present: Tensor) -> Tensor:
    """Log-softmax of each row, (B, N), over what is present; uniform where nothing is."""
    # The lowest finite number has probability 0, as -inf would, but 0 * (low - low) is 0 where 0 * (-inf + inf) is NaN.
    return F.log_softmax(logits.masked_fill(~present, torch.finfo(logits.dtype).min), dim=1)


def row_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) per row, (B,), of two log-distributions, (B, N)."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def row_entropy(log_p: Tensor) -> Tensor:
    """Entropy in nats per row, (B,), of a log-distribution, (B, N)."""
    return -(log_p.exp() * log_p).sum(dim=1)


def effective_number(logits: Tensor) -> Tensor:
    """How many negatives a row's loss really has, (N,), of their logits (N, K), -inf where there is none; NaN without any.

    One over the sum of the squared shares that the negatives have in the softmax: K when all weigh the same, 1 when one
    of them takes all.
    """
    largest = logits.amax(dim=1, keepdim=True)  # (N, 1)
    weights = (logits - largest.masked_fill(largest == -torch.inf, 0)).exp()  # (N, K), the largest is 1
    return weights.sum(dim=1).square() / weights.square().sum(dim=1)


def retrieval_rows(positive: Tensor, hardest: Tensor) -> dict[str, Tensor]:
    """What is told of every row, (N,), with the cosines of its positive and of its hardest negative, -inf without any."""
    without_negative = ~hardest.isfinite()  # (N,)
    return {
        "positive_similarity": positive,
        "hardest_negative_similarity": hardest,
        "accuracy": (positive > hardest).to(positive.dtype).masked_fill(without_negative, torch.nan),  # a tie is wrong
        "empty_rows": without_negative.to(positive.dtype),
    }


def map_row_blocks(
    block_function: Callable[..., tuple[Tensor, dict[str, Tensor]]],
    row_tensors: Sequence[Tensor | None],
    block_size: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Runs a function over blocks of rows and puts the row losses and the row statistics together, each (N,).

    With more than one block, a block keeps nothing for the backward pass but its inputs and is computed again there. It
    should compute its statistics last: the second run stops when the backward pass has all it needs.
    """
    num_blocks = math.ceil(len(row_tensors[0]) / block_size)
    slices = [[None] * num_blocks if rows is None else rows.split(block_size) for rows in row_tensors]
    results = []
    for block in zip(*slices, strict=True):
        if num_blocks == 1:
            results.append(block_function(*block))
        else:  # no dropout inside, so there is no random state to keep
            results.append(checkpoint(block_function, *block, use_reentrant=False, preserve_rng_state=False))
    losses = torch.cat([row_losses for row_losses, _ in results])  # (N,)
    statistics = {name: torch.cat([rows[name] for _, rows in results]) for name in results[0][1]}  # each (N,)
    return losses, statistics
