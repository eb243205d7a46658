# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the loss tests share: random embeddings, and a look at how large and how many tensors a loss makes."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass
class Memory:
    """Elements of the largest tensor made, and of everything kept between forward and backward."""

    largest: int
    kept: int


class _LargestTensor(TorchDispatchMode):
    """Records the size of the largest result of any operation, in forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                self.elements = max(self.elements, value.numel())
        return result


@pytest.fixture
def measure_memory() -> Callable[[Callable[[], Tensor]], Memory]:
    """Runs a loss and its backward pass; returns what they made and kept."""

    def measure(compute_loss: Callable[[], Tensor]) -> Memory:
        kept = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with _LargestTensor() as largest:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                loss = compute_loss()
            loss.backward()
        return Memory(largest=largest.elements, kept=kept)

    return measure


@pytest.fixture
def embed() -> Callable[..., Tensor]:
    """Makes random embeddings that need a gradient and are not of unit length."""

    def make(rows: int, width: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return (torch.randn(rows, width, generator=generator, dtype=torch.float64) * 3).to(dtype).requires_grad_()

    return make


@pytest.fixture
def pair(embed) -> Callable[..., tuple[Tensor, Tensor]]:
    """Makes queries and candidates; a query is near its candidate, so filters have something to keep and to drop."""

    def make(num_queries: int, num_candidates: int, width: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
        candidates = embed(num_candidates, width, seed)
        noise = embed(num_queries, width, seed + 1)
        queries = (candidates[:num_queries] + 0.8 * noise).detach().requires_grad_()
        return queries, candidates

    return make
