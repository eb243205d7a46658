# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Optimizer and learning rate of the tiny model's pre-training."""

import math

import torch

BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.05
MAX_GRAD_NORM = 1.0


def learning_rate_factor(progress: float, warmup: float = 0.05) -> float:
    """Linear warm-up, then half a cosine down to 2 % of the peak.

    Args:
        progress: Share of the run that is done, 0 to 1.
        warmup: Share of the run over which the rate rises.
    """
    if progress < warmup:
        return max(progress / warmup, 0.01)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def take_step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor, learning_rate: float
) -> None:
    """One optimizer step on a loss, gradients clipped."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def make_optimizer(model: torch.nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=True)
