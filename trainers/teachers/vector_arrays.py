# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What is done to arrays of teacher vectors, wherever they come from: cut, normalise, check."""

import numpy as np
import torch

CHECK_ROWS = 1024

Vectors = np.ndarray | torch.Tensor  # a tensor, because numpy has no bfloat16


class TeacherVectorsError(ValueError):
    """A vector or a file of vectors that cannot be used."""


def as_float32(vectors: Vectors) -> np.ndarray:
    """Vectors of any floating type as a float32 array."""
    return vectors.float().numpy() if isinstance(vectors, torch.Tensor) else np.asarray(vectors, dtype=np.float32)


def truncate(vectors: Vectors, truncate_dim: int | None, source: object) -> Vectors:
    """The first dimensions of (N, D) vectors, as a view: what Matryoshka training (arXiv 2205.13147) makes usable alone.

    Args:
        vectors: (N, D).
        truncate_dim: dimensions kept; None keeps all.
        source: where they come from, for the message.

    Raises:
        TeacherVectorsError: the vectors are shorter.
    """
    if truncate_dim is not None and truncate_dim > vectors.shape[1]:
        raise TeacherVectorsError(
            f"truncate_dim is {truncate_dim}, but the vectors of {source} have {vectors.shape[1]} dimensions. Lower it."
        )
    return vectors[:, :truncate_dim]


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, D) divided by their lengths. One of zeros or with NaN stays one, for `find_faults` to tell."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)  # (N, 1)
    return vectors / np.where(lengths == 0, 1, lengths)


def find_faults(vectors: Vectors) -> dict[int, str]:
    """What is wrong with which rows of (N, D) vectors. Only a block is in memory at a time."""
    faults = {}
    for start in range(0, len(vectors), CHECK_ROWS):
        block = as_float32(vectors[start : start + CHECK_ROWS])  # (rows of the block, D)
        finite, zero = np.isfinite(block).all(axis=1), ~block.any(axis=1)
        for row in np.flatnonzero(~finite | zero):
            faults[start + int(row)] = "all zeros" if zero[row] else "not finite (NaN or infinity)"
    return faults
