# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A loss at several widths of the same embeddings, so that shorter vectors can be cut from them (Matryoshka)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainers.losses.base import RowLoss
from trainers.losses.checks import check_count, check_temperature


def sort_dims(dims: Sequence[int], weights: Sequence[float] | None = None) -> tuple[list[int], list[float]]:
    """Dimensions, rising, and their weights (default: 1 each); refuses what cannot be meant."""
    for dim in dims:
        check_count("matryoshka_dims", dim)
    rising = sorted(set(dims))
    if not rising or list(dims) not in (rising, rising[::-1]):
        raise ValueError(f"matryoshka_dims must be sorted, each dimension once (e.g. 64 128 256), got {list(dims)}")
    weights = [1.0] * len(rising) if not weights else [check_temperature(w, "matryoshka_weights") for w in weights]
    if len(weights) != len(dims):
        raise ValueError(f"matryoshka_weights must be one for each of {list(dims)}, got {len(weights)}")
    return rising, weights if list(dims) == rising else weights[::-1]


def check_width(dims: Sequence[int], width: int) -> None:
    """Refuses dimensions that embeddings of this width do not have."""
    if max(dims, default=0) > width:
        raise ValueError(f"matryoshka_dims {list(dims)} go beyond the model's {width} dimensions: use {width} at most")


class MatryoshkaLoss(nn.Module):
    """The weighted sum of a loss over the embeddings' first dimensions, cut and normalised anew for each (arXiv 2205.13147).

    Example::

        import torch
        from trainers.losses import InfoNCELoss, MatryoshkaLoss

        loss = MatryoshkaLoss(InfoNCELoss(temperature=1.0), dims=[4, 8], weights=[0.5, 1.0])
        value = loss(torch.ones(3, 8), torch.ones(3, 8))  # all alike at both widths: 1.5 log(3)
        assert abs(value.item() - 1.6479) < 1e-4

    The loss sees nothing but the cut vectors, as in sentence-transformers' `MatryoshkaLoss`: false negatives and hard
    negatives are those of each dimension, for it is there that a search with such vectors goes wrong. A teacher's vectors
    and a judge's scores are not cut.

    Args:
        loss: any other loss of this module.
        dims: how many of the first components are kept, each once, rising or falling. The embeddings' own width is trained
            only if it is among them.
        weights: of each dimension's loss, greater than 0. Default: 1 each.

    Attributes:
        statistics, row_statistics: those of the loss on the embeddings as they are; ``loss`` of a row is the sum that
            forward returns the mean of, and ``loss_64`` the mean loss at 64 dimensions.

    Raises:
        ValueError: dimensions or weights cannot be used, or the embeddings have fewer dimensions.
    """

    def __init__(self, loss: RowLoss, dims: Sequence[int], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.dims, self.weights = sort_dims(dims, weights)
        self.statistics: dict[str, Tensor] = {}
        self.row_statistics: dict[str, Tensor] = {}

    def forward(self, *inputs: Tensor, **options: Tensor | None) -> Tensor:
        """Computes the weighted sum; takes what the loss takes, the embeddings by position."""
        embeddings, others = inputs[: self.loss.num_embeddings], inputs[self.loss.num_embeddings :]
        width = embeddings[0].shape[1]
        check_width(self.dims, width)
        by_dim, total, of_rows = {}, 0.0, 0.0
        for dim, weight in zip(self.dims, self.weights, strict=True):
            value = self.loss(*(part[:, :dim] for part in embeddings), *others, **options)
            by_dim[f"loss_{dim}"] = value.detach()
            total = total + weight * value
            of_rows = of_rows + weight * self.loss.row_statistics["loss"]  # (N,)
        if self.dims[-1] < width:
            with torch.no_grad():
                self.loss(*embeddings, *others, **options)  # for its statistics
        self.statistics = {**self.loss.statistics, **by_dim}
        self.row_statistics = {**self.loss.row_statistics, "loss": of_rows}
        return total
