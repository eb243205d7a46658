# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Options and inputs that a loss refuses; the message names the argument."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INTEGERS = (torch.int64, torch.int32)


def check_temperature(temperature: float, name: str = "temperature") -> float:
    """Refuses divisors of a cosine that give infinite, negative or NaN logits."""
    if not isinstance(temperature, Real) or isinstance(temperature, bool) or not 0 < temperature < math.inf:
        raise ValueError(f"{name} must be a finite number greater than 0 (e.g. 0.02), got {temperature!r}")
    return float(temperature)


def check_count(name: str, value: int) -> int:
    """Refuses counts below one."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return value


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Refuses what is not among the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")
    return value


def check_tensor(
    name: str, value: Tensor, dtypes: tuple[torch.dtype, ...], shape: tuple[int | None, ...], wanted: str
) -> None:
    """Refuses anything but a tensor of one of the types and of the shape, in which None is any number but zero."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{name} must be {wanted}, got {type(value).__name__}")
    fits = value.dim() == len(shape) and all(
        size == wanted_size if wanted_size is not None else size > 0
        for size, wanted_size in zip(value.shape, shape, strict=True)
    )
    if value.dtype not in dtypes or not fits:
        raise ValueError(f"{name} must be {wanted}, got {value.dtype} of shape {tuple(value.shape)}")


def check_pair(queries: Tensor, candidates: Tensor) -> None:
    """Refuses what is not two matrices of one width."""
    check_tensor("queries", queries, FLOATS, (None, None), "a floating-point matrix with one embedding per row")
    width = queries.shape[1]
    wanted = f"a floating-point matrix with one embedding per row, as wide as queries ({width})"
    check_tensor("candidates", candidates, FLOATS, (None, width), wanted)
