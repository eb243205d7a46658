# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Rows of length 1 without a second copy of the whole matrix in float32.

Embeddings often come in bfloat16 and cosines have to be computed in float32. Casting 65,536 rows of 4,096 dimensions as a
whole takes a gigabyte, and autograd keeps it; here the length of every row is measured once, and rows are cast and scaled
a block at a time when they are needed, in forward and backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_ELEMENTS = 2**22  # of a temporary tensor: 16 MB in float32


def row_slices(num_rows: int, width: int) -> Iterator[slice]:
    """Cuts rows of so many elements into blocks of about `BLOCK_ELEMENTS`."""
    rows = max(1, BLOCK_ELEMENTS // width)
    for start in range(0, num_rows, rows):
        yield slice(start, min(start + rows, num_rows))


@dataclass(frozen=True)
class UnitRows:
    """A matrix whose rows are scaled to length 1 when they are asked for.

    An all-zero row has no direction: it stays zero (cosine 0 with everything) and gets a zero gradient, where dividing by
    a small epsilon would give it a gradient of 1e12.
    """

    embeddings: Tensor  # (N, D), any floating-point type
    norms: (
        Tensor  # (N, 1) lengths in the type to compute in; infinity for an all-zero row, so that dividing gives zeros
    )

    @classmethod
    @torch.no_grad()
    def measure(cls, name: str, embeddings: Tensor, dtype: torch.dtype) -> UnitRows:
        """Measures all rows; refuses, by the argument's ``name``, those that are not finite or too long for ``dtype``."""
        norms = embeddings.new_empty(len(embeddings), 1, dtype=dtype)  # (N, 1)
        for rows in row_slices(*embeddings.shape):
            norms[rows] = torch.linalg.vector_norm(embeddings[rows].to(dtype), dim=1, keepdim=True)
        finite = norms.squeeze(1).isfinite()  # (N,)
        if not finite.all():
            bad_rows = (~finite).nonzero().squeeze(1)
            raise ValueError(
                f"{name}: row {int(bad_rows[0])} is NaN or infinite ({len(bad_rows)} of {len(finite)} rows are): look "
                "at the input of that row; if all rows are bad, lower the learning rate or use bfloat16, not float16"
            )
        return cls(embeddings, norms.masked_fill(norms == 0, torch.inf))

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def width(self) -> int:
        """D."""
        return self.embeddings.shape[1]

    @torch.no_grad()
    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Unit rows, (..., D) for row numbers of shape (...), in the type to compute in, without a graph."""
        return self.embeddings[rows].to(self.norms.dtype, copy=True).div_(self.norms[rows])

    def pull_back(self, rows: slice, gradient: Tensor) -> Tensor:
        """Gradient of the embeddings of some rows from that of their unit rows, (B, D): across the row, over its length."""
        unit = self[rows]  # (B, D)
        return (gradient - (gradient * unit).sum(dim=1, keepdim=True) * unit) / self.norms[rows]

    def matrix(self) -> Tensor:
        """All unit rows, (N, D), with a graph."""
        return _Scale.apply(self.embeddings, self.norms)


class _Scale(torch.autograd.Function):
    """All unit rows as one matrix; the backward pass keeps the embeddings as they came."""

    @staticmethod
    def forward(ctx, embeddings: Tensor, norms: Tensor) -> Tensor:
        ctx.save_for_backward(embeddings, norms)
        unit = torch.empty_like(embeddings, dtype=norms.dtype)  # (N, D)
        for rows in row_slices(*embeddings.shape):
            unit[rows] = UnitRows(embeddings, norms)[rows]
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        embeddings, norms = ctx.saved_tensors
        result = torch.empty_like(embeddings)  # (N, D)
        for rows in row_slices(*embeddings.shape):
            result[rows] = UnitRows(embeddings, norms).pull_back(rows, gradient[rows]).to(result.dtype)
        return result, None


def measure_rows(**embeddings: Tensor) -> list[UnitRows]:
    """Measures two matrices by their arguments' names, to compute in float32, or in float64 if one of them has that type."""
    first, second = (matrix.dtype for matrix in embeddings.values())
    dtype = torch.promote_types(torch.promote_types(first, second), torch.float32)
    return [UnitRows.measure(name, matrix, dtype) for name, matrix in embeddings.items()]
