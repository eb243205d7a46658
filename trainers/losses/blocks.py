# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the losses share: checks with a reason, and work in blocks of rows.

Design decisions:

- No tensor of N x M elements is ever made or kept. A loss over whole rows of similarities computes them for a block of
  rows at a time, and once more in the backward pass (one extra matrix product, nothing beside the forward pass of a
  language model).
- A block returns its row losses *and* its row statistics. Statistics are returned, never stored as a side effect, so
  running a block a second time in the backward pass cannot count anything twice.
- Everything is computed in float32 (float64 if an input is float64), also under autocast: at a temperature of 0.02
  the bfloat16 rounding of a cosine (about 0.004) would move a logit by 0.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

DEFAULT_BLOCK_SIZE = 1024


def check_temperature(temperature: float, name: str = "temperature") -> float:
    """Refuses temperatures that give infinite, negative or NaN logits.

    Args:
        temperature: divisor of a cosine, without unit.
        name: the option's name, for the message.

    Returns:
        The temperature as a float.

    Raises:
        ValueError: not a finite number greater than 0.
    """
    if not isinstance(temperature, Real) or isinstance(temperature, bool) or not 0 < temperature < math.inf:
        raise ValueError(f"{name} must be a finite number greater than 0 (e.g. 0.02), got {temperature!r}")
    return float(temperature)


def check_count(name: str, value: int) -> int:
    """Refuses counts below one.

    Args:
        name: the option's name, for the message.
        value: the count.

    Returns:
        The count, unchanged.

    Raises:
        ValueError: not an integer of at least 1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


def check_matrix(name: str, embeddings: Tensor) -> None:
    """Refuses anything but a floating-point matrix with at least one row and one column.

    Args:
        name: the argument's name, for the message.
        embeddings: one embedding per row, (N, D).

    Raises:
        ValueError: wrong type, number of axes or size.
    """
    if not isinstance(embeddings, Tensor) or not embeddings.is_floating_point():
        kind = embeddings.dtype if isinstance(embeddings, Tensor) else type(embeddings).__name__
        raise ValueError(f"{name} must be a floating-point tensor, got {kind}")
    if embeddings.dim() != 2 or embeddings.numel() == 0:
        raise ValueError(f"{name} must be a non-empty matrix, one embedding per row; got {tuple(embeddings.shape)}")


def check_group_ids(group_ids: Tensor | None, num_candidates: int) -> None:
    """Checks that there is one integer id per candidate.

    Args:
        group_ids: (M,) or None.
        num_candidates: M.

    Raises:
        ValueError: wrong type or shape.
    """
    if group_ids is None:
        return
    if not isinstance(group_ids, Tensor) or group_ids.dtype not in (torch.int64, torch.int32):
        kind = group_ids.dtype if isinstance(group_ids, Tensor) else type(group_ids).__name__
        raise ValueError(f"group_ids must be a tensor of integers (torch.long), got {kind}")
    if group_ids.shape != (num_candidates,):
        raise ValueError(f"group_ids needs one id per candidate, ({num_candidates},); got {tuple(group_ids.shape)}")


def check_duplicate_mask(duplicate_mask: Tensor | None, num_queries: int, num_candidates: int) -> None:
    """Checks that there is one truth value per query and candidate.

    Args:
        duplicate_mask: (N, M) or None.
        num_queries: N.
        num_candidates: M.

    Raises:
        ValueError: wrong type or shape.
    """
    if duplicate_mask is None:
        return
    if not isinstance(duplicate_mask, Tensor) or duplicate_mask.dtype != torch.bool:
        kind = duplicate_mask.dtype if isinstance(duplicate_mask, Tensor) else type(duplicate_mask).__name__
        raise ValueError(f"duplicate_mask must be a boolean tensor (True: never a negative), got {kind}")
    if duplicate_mask.shape != (num_queries, num_candidates):
        raise ValueError(
            f"duplicate_mask must have one row per query and one column per candidate, ({num_queries}, "
            f"{num_candidates}); got {tuple(duplicate_mask.shape)}"
        )


def check_retrieval_inputs(
    queries: Tensor, candidates: Tensor, group_ids: Tensor | None, duplicate_mask: Tensor | None
) -> None:
    """Checks the shapes that the contrastive losses take.

    Args:
        queries: (N, D).
        candidates: (M, D), M >= N; candidate i is the positive of query i.
        group_ids: (M,) or None.
        duplicate_mask: (N, M) or None.

    Raises:
        ValueError: shapes or types do not fit; the message names the argument.
    """
    check_matrix("queries", queries)
    check_matrix("candidates", candidates)
    num_queries, num_candidates = len(queries), len(candidates)
    if queries.shape[1] != candidates.shape[1]:
        raise ValueError(
            f"queries and candidates must have the same width, got {queries.shape[1]} and {candidates.shape[1]}"
        )
    if num_candidates < num_queries:
        raise ValueError(
            f"candidate i is the positive of query i, so there must be at least as many candidates as queries; "
            f"got {num_candidates} candidates for {num_queries} queries"
        )
    check_group_ids(group_ids, num_candidates)
    check_duplicate_mask(duplicate_mask, num_queries, num_candidates)


def other_candidates(
    rows: Tensor, columns: Tensor, group_ids: Tensor | None, duplicates: Tensor | None = None
) -> Tensor:
    """Says which candidates may be negatives of which row, before any look at similarities.

    Args:
        rows: (B,) numbers of the block's rows; candidate r is the positive of row r.
        columns: (C,) numbers of the block's candidates.
        group_ids: (M,); candidates with the id of a row's positive are no negatives of that row; None: none.
        duplicates: (B, C); True = no negative. Default: none.

    Returns:
        (B, C) boolean, False at the positive and at everything known to be identical to it.
    """
    others = rows.unsqueeze(1) != columns.unsqueeze(0)  # (B, C)
    if group_ids is not None:
        others &= group_ids[rows].unsqueeze(1) != group_ids[columns].unsqueeze(0)
    if duplicates is not None:
        others &= ~duplicates
    return others


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Averages the chosen values.

    Args:
        values: (N,); what is not chosen may be infinite.
        mask: (N,) boolean.

    Returns:
        Scalar; 0 where nothing is chosen, so that averages over steps and ranks stay finite.
    """
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def row_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) per row, (B,), of two log-distributions, (B, N)."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def row_entropy(log_p: Tensor) -> Tensor:
    """Entropy in nats per row, (B,), of a log-distribution, (B, N)."""
    return -(log_p.exp() * log_p).sum(dim=1)


def effective_number(logits: Tensor) -> Tensor:
    """How many of the negatives a row's loss really has.

    One over the sum of the squared shares that the negatives have in the softmax: K when all weigh the same, 1 when one
    of them takes all.

    Args:
        logits: (N, K) of the negatives, -inf where there is none.

    Returns:
        (N,); 0 for a row without negatives.
    """
    largest = logits.amax(dim=1, keepdim=True)  # (N, 1)
    weights = (logits - largest.masked_fill(largest == -torch.inf, 0)).exp()  # (N, K), the largest is 1
    return weights.sum(dim=1).square() / weights.square().sum(dim=1).clamp(min=torch.finfo(weights.dtype).tiny)


def correct_rows(positive: Tensor, hardest: Tensor) -> Tensor:
    """1 where the positive is strictly above the hardest negative, else 0; NaN for a row without negatives, (N,)."""
    return (positive > hardest).to(positive.dtype).masked_fill(~hardest.isfinite(), torch.nan)


def map_row_blocks(
    block_function: Callable[..., tuple[Tensor, dict[str, Tensor]]],
    row_tensors: Sequence[Tensor | None],
    block_size: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Runs a function over blocks of rows and puts the results together.

    With more than one block, a block keeps nothing for the backward pass but its inputs and is computed again there.

    Args:
        block_function: takes one slice per entry of ``row_tensors`` (None stays None); returns row losses (B,) and
            detached row statistics, each (B,). What all blocks share is bound to it beforehand. It should compute its
            statistics last: the second run stops when the backward pass has all it needs.
        row_tensors: tensors with N rows, or None; the first is a tensor.
        block_size: rows per block; the last block may be smaller.

    Returns:
        Row losses (N,) and row statistics, each (N,).
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
