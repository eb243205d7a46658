# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Cosines among embeddings, with the rules that keep a broken model from looking perfect.

- NaN, zero and constant embeddings are errors.
- Vectors that are equal bit for bit get equal scores: products are taken once per distinct vector, since a matrix
  product may round the same vector differently in different columns and so hide a tie.
- Scores are compared as they are, without a tolerance: only equal ones tie. Candidates whose vectors differ by no more than
  rounding (about 1e-7 in float32, 1e-3 in half precision) are ordered by it, so that precision@1 and recall@k of such rows
  may differ between batch sizes, devices and precisions. A tolerance would only move that to its own edge.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

WASTE = 4  # products of a block for each one that is asked for, at most: beyond it, rows are faster one by one
CONSTANT_TOLERANCE = 1e-6  # largest coordinate difference that batching alone can cause in float32


class MetricError(ValueError):
    """The numbers given to a metric make its result meaningless."""


class ConstantEmbeddingsError(MetricError):
    """Inputs of different content all got the same embedding."""


def check_not_constant(embeddings: np.ndarray, what: str) -> None:
    """Refuse (N, D) embeddings of N > 1 different contents that are all the same."""
    if len(embeddings) > 1 and np.abs(embeddings - embeddings[0]).max() <= CONSTANT_TOLERANCE:
        raise ConstantEmbeddingsError(
            f"{what}: {len(embeddings)} different inputs all got the same embedding, so no score can be given; check "
            "that the weights were loaded and that the prompt ends with the pooled token"
        )


class Similarities:
    """Cosines among the rows of one matrix, in double precision; equal vectors have equal ones.

    Args:
        embeddings: (U, D), not necessarily unit length; one row per distinct content.
        what: Name of the matrix for messages.

    Raises:
        MetricError: If a row is NaN, infinite or zero.
    """

    def __init__(self, embeddings: np.ndarray, what: str = "embeddings"):
        finite, zero = np.isfinite(embeddings).all(axis=1), ~embeddings.any(axis=1)  # (U,), (U,)
        bad = np.flatnonzero(~finite | zero)
        if bad.size:
            fault = "is all zero" if zero[bad[0]] else "holds NaN or infinity"
            raise MetricError(f"{what}: {bad.size} of {len(embeddings)} embeddings are unusable; row {bad[0]} {fault}")
        self.embeddings = embeddings
        self.norms = np.sqrt(np.einsum("ud,ud->u", embeddings, embeddings, dtype=np.float64))  # (U,)
        first: dict[bytes, int] = {}
        digests = (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in embeddings)
        # index of the first row with the same bits, (U,)
        self.same_as = np.array([first.setdefault(digest, i) for i, digest in enumerate(digests)])

    def scores(self, query: int, candidates: Sequence[int] | np.ndarray) -> np.ndarray:
        """Cosine of one row with C others, (C,)."""
        distinct, position = np.unique(self.same_as[candidates], return_inverse=True)  # (C',), (C,)
        vectors = self.embeddings[distinct].astype(np.float64)  # (C', D)
        products = vectors @ self.embeddings[query].astype(np.float64)  # (C',)
        return (products / (self.norms[distinct] * self.norms[query]))[position]  # (C,)

    def rows(
        self, queries: Sequence[int], candidates: Sequence[np.ndarray], block_size: int = 64
    ) -> Iterator[np.ndarray]:
        """Cosines of each of many rows with C candidates of its own, (C,); rows that share most of them are multiplied at once."""
        for start in range(0, len(queries), block_size):
            part, own = queries[start : start + block_size], candidates[start : start + block_size]
            together = np.concatenate(own)
            distinct = np.unique(self.same_as[together])  # (C',)
            if len(distinct) * len(part) > WASTE * len(together):
                yield from map(self.scores, part, own)
                continue
            for row, cosines in zip(own, self._unit(part) @ self._unit(distinct).T, strict=True):
                yield cosines[np.searchsorted(distinct, self.same_as[row])]

    def _unit(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        return self.embeddings[rows] / self.norms[rows, None]

    def blocks(self, queries: np.ndarray, candidates: np.ndarray, block_size: int = 256) -> Iterator[np.ndarray]:
        """Cosines of many rows with the same C candidates: (B, C) for `block_size` queries after the other."""
        distinct, position = np.unique(self.same_as[candidates], return_inverse=True)  # (C',), (C,)
        vectors = self._unit(distinct).T  # (D, C')
        for start in range(0, len(queries), block_size):
            yield (self._unit(queries[start : start + block_size]) @ vectors)[:, position]  # (B, C)
