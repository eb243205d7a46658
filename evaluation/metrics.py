# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Metrics on embeddings, with the rules that keep a broken model from looking perfect.

- The first candidate of a row is the right one. A tie with it counts as **wrong**, unless the tied candidate is
  identical in content to the right one. (MMEB's own script takes the first maximum, so that there a model that maps
  everything to one vector scores 100 %.)
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
from scipy.stats import spearmanr

CONSTANT_TOLERANCE = 1e-6  # largest coordinate difference that batching alone can cause in float32


class MetricError(ValueError):
    """The numbers given to a metric make its result meaningless."""


class ConstantEmbeddingsError(MetricError):
    """Inputs of different content all got the same embedding."""


def check_embeddings(embeddings: np.ndarray, what: str) -> None:
    """Refuse embeddings that hold NaN, infinity or zero rows.

    Args:
        embeddings: (N, D).
        what: Name of the matrix for the message, e.g. "queries of grocery/i2t_class".

    Raises:
        MetricError: Names the first bad row.
    """
    finite = np.isfinite(embeddings).all(axis=1)  # (N,)
    zero = ~embeddings.any(axis=1)  # (N,)
    bad = np.flatnonzero(~finite | zero)
    if bad.size:
        row = int(bad[0])
        fault = "is all zero" if zero[row] else "holds NaN or infinity"
        raise MetricError(f"{what}: {bad.size} of {len(embeddings)} embeddings are unusable; row {row} {fault}")


def check_not_constant(embeddings: np.ndarray, what: str) -> None:
    """Refuse embeddings that are all the same.

    Args:
        embeddings: (N, D), one row per **distinct** content; a single row is fine.
        what: Name of the matrix for the message.

    Raises:
        ConstantEmbeddingsError: If N > 1 and no row differs from the first.
    """
    if len(embeddings) > 1 and np.abs(embeddings - embeddings[0]).max() <= CONSTANT_TOLERANCE:
        raise ConstantEmbeddingsError(
            f"{what}: {len(embeddings)} different inputs all got the same embedding, so no score can be given; check "
            "that the weights were loaded and that the prompt ends with the pooled token"
        )


class Similarities:
    """Cosine similarities among the rows of one matrix.

    Args:
        embeddings: (U, D), not necessarily unit length; one row per distinct content.
        what: Name of the matrix for messages.

    Raises:
        MetricError: If a row is NaN, infinite or zero.
    """

    def __init__(self, embeddings: np.ndarray, what: str = "embeddings"):
        check_embeddings(embeddings, what)
        self.embeddings = embeddings
        self.norms = np.sqrt(np.einsum("ud,ud->u", embeddings, embeddings, dtype=np.float64))  # (U,)
        first: dict[bytes, int] = {}
        digests = (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in embeddings)
        # index of the first row with the same bits, (U,)
        self.same_as = np.array([first.setdefault(digest, i) for i, digest in enumerate(digests)])

    def scores(self, query: int, candidates: Sequence[int] | np.ndarray) -> np.ndarray:
        """Cosine of one row with others, in double precision.

        Args:
            query: Row number of the query.
            candidates: (C,) row numbers of the candidates.

        Returns:
            (C,) cosines; equal vectors have equal ones.
        """
        distinct, position = np.unique(self.same_as[candidates], return_inverse=True)  # (C',), (C,)
        vectors = self.embeddings[distinct].astype(np.float64)  # (C', D)
        products = vectors @ self.embeddings[query].astype(np.float64)  # (C',)
        return (products / (self.norms[distinct] * self.norms[query]))[position]  # (C,)

    def blocks(
        self, queries: np.ndarray, candidates: np.ndarray, block_size: int = 256
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Cosine of many rows with the same candidates, in double precision, some queries at a time.

        Args:
            queries: (N,) row numbers of the queries.
            candidates: (C,) row numbers of the candidates.
            block_size: Queries per block.

        Yields:
            The slice of `queries` and its (B, C) cosines; equal vectors have equal ones.
        """
        distinct, position = np.unique(self.same_as[candidates], return_inverse=True)  # (C',), (C,)
        vectors = (self.embeddings[distinct] / self.norms[distinct, None]).T  # (D, C')
        for start in range(0, len(queries), block_size):
            part = slice(start, start + block_size)
            unit = self.embeddings[queries[part]] / self.norms[queries[part], None]  # (B, D)
            yield part, (unit @ vectors)[:, position]  # (B, C)


def truth_rank(scores: np.ndarray, identical: np.ndarray | None = None, truth: int = 0) -> int:
    """Rank of the right candidate, ties counting against it.

    Args:
        scores: (C,) similarity of each candidate to the query.
        identical: (C,) true where a candidate is identical in content to the right one; those never count against
            it. Default: no other candidate is.
        truth: Index of the right candidate (default 0, as in MMEB).

    Returns:
        1 plus the number of other candidates that score at least as high.

    Raises:
        MetricError: If a score is NaN.
    """
    if np.isnan(scores).any():
        raise MetricError("a similarity is NaN; the embeddings are unusable")
    at_least = scores >= scores[truth]  # (C,)
    at_least[truth] = False
    if identical is not None:
        at_least &= ~np.asarray(identical, dtype=bool)
    return 1 + int(at_least.sum())


def precision_at_1(scores: np.ndarray, identical: np.ndarray | None = None, truth: int = 0) -> bool:
    """Whether the right candidate wins; a tie with another content does not.

    Args:
        scores: (C,) similarity of each candidate to the query.
        identical: (C,) true where a candidate is identical in content to the right one.
        truth: Index of the right candidate (default 0).

    Returns:
        True if every candidate of other content scores strictly lower.

    Raises:
        MetricError: If a score is NaN.
    """
    return truth_rank(scores, identical, truth) == 1


def recalls(ranks: Sequence[int], cutoffs: Sequence[int]) -> dict[str, float]:
    """Recall at several cutoffs.

    Args:
        ranks: (N,) rank of the best right candidate of each row, 1 is best.
        cutoffs: The k of `recall@k`.

    Returns:
        Share of rows with a right candidate among the first k, for each k.
    """
    return {f"recall@{k}": float((np.asarray(ranks) <= k).mean()) for k in cutoffs}


def ranking_metrics(ranks: Sequence[int], cutoffs: Sequence[int] = (5, 10)) -> dict[str, float]:
    """Averages over rows of what follows from the rank of the truth.

    Args:
        ranks: (N,) ranks, 1 is best.
        cutoffs: The k of `recall@k`.

    Returns:
        `precision@1`, `recall@k` for each cutoff, and `mrr` (mean reciprocal rank), all in 0..1.
    """
    ranks = np.asarray(ranks)
    metrics = {"precision@1": float((ranks == 1).mean())}
    metrics |= recalls(ranks, cutoffs)
    return metrics | {"mrr": float((1.0 / ranks).mean())}


def chance_level(distinct_candidates: Sequence[int]) -> float:
    """Precision@1 of a model that orders contents at random.

    Args:
        distinct_candidates: (N,) number of candidates of different content in each row.

    Returns:
        Mean over rows of 1 / that number: candidates identical to the truth are right as well, and identical
        wrong ones get one place together.
    """
    return float((1.0 / np.asarray(distinct_candidates)).mean())


def spearman(predicted: np.ndarray, expected: np.ndarray, what: str = "scores") -> float:
    """Spearman's rank correlation, ties by average rank.

    Args:
        predicted: (N,) cosines.
        expected: (N,) human scores.
        what: Name for messages.

    Returns:
        The correlation, -1..1.

    Raises:
        MetricError: If there are fewer than three pairs, a value is NaN, or one side is constant: the correlation is
            then undefined.
    """
    if len(predicted) < 3:
        raise MetricError(f"{what}: Spearman's correlation needs at least 3 pairs, got {len(predicted)}")
    for name, values in (("predicted", predicted), ("expected", expected)):
        if not np.isfinite(values).all():
            raise MetricError(f"{what}: a {name} score is NaN or infinite")
        if np.ptp(values) == 0:
            error = ConstantEmbeddingsError if name == "predicted" else MetricError
            raise error(f"{what}: all {name} scores are the same, so the correlation is undefined")
    return float(spearmanr(predicted, expected).statistic)
