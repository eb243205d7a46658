# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from evaluation import similarities
from evaluation.similarities import ConstantEmbeddingsError, MetricError, Similarities, check_not_constant


def test_equal_vectors_get_equal_scores_whatever_the_matrix_product_does():
    """A plain matrix-vector product rounds the last rows of a matrix differently and would break these ties."""
    generator = np.random.default_rng(0)
    for width in (16, 33, 384, 1000):
        for count in (7, 13, 30, 101):
            embeddings = generator.normal(size=(count + 3, width)).astype(np.float32)
            embeddings[3:] = embeddings[3]
            found = Similarities(embeddings)
            everything = np.arange(count + 3)
            scores = found.scores(0, everything)
            assert len(set(scores[3:])) == 1
            unit = embeddings.astype(np.float64) / np.linalg.norm(embeddings.astype(np.float64), axis=1)[:, None]
            np.testing.assert_allclose(scores, unit @ unit[0], atol=1e-12)
            block = np.concatenate(list(found.blocks(np.arange(3), everything, block_size=2)))
            assert all(len(set(row[3:])) == 1 for row in block)
            np.testing.assert_allclose(block, unit[:3] @ unit.T, atol=1e-12)


@pytest.mark.parametrize("waste", [similarities.WASTE, 0])
def test_candidates_of_a_rows_own_are_scored_together_or_one_by_one(waste, monkeypatch):
    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(90, 33)).astype(np.float32)
    embeddings[50:] = embeddings[generator.integers(0, 50, 40)]
    monkeypatch.setattr(similarities, "WASTE", waste)
    queries = generator.integers(0, 90, 21)
    candidates = [generator.integers(0, 90, generator.integers(1, 40)) for _ in queries]
    unit = embeddings.astype(np.float64) / np.linalg.norm(embeddings.astype(np.float64), axis=1)[:, None]
    found = Similarities(embeddings)
    for query, own, scores in zip(queries, candidates, found.rows(queries, candidates, block_size=8), strict=True):
        np.testing.assert_allclose(scores, unit[own] @ unit[query], atol=1e-12)
        assert len(set(scores)) == len(set(found.same_as[own])), "equal vectors tie, others do not"


@pytest.mark.parametrize("value, fault", [(np.nan, "NaN"), (np.inf, "infinity"), (0.0, "zero")])
def test_unusable_embeddings_are_refused(value, fault):
    embeddings = np.ones((4, 3), dtype=np.float32)
    embeddings[2] = value
    with pytest.raises(MetricError, match=rf"queries of toy: 1 of 4 .* row 2 .*{fault}"):
        Similarities(embeddings, "queries of toy")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_single_unusable_number_is_refused(value):
    embeddings = np.ones((4, 3), dtype=np.float32)
    embeddings[1, 2] = value
    with pytest.raises(MetricError, match="queries of toy: 1 of 4 .* row 1 holds NaN or infinity"):
        Similarities(embeddings, "queries of toy")


def test_constant_embeddings_are_refused():
    constant = np.ones((4, 3)) + 1e-8 * np.arange(4)[:, None]  # what rounding makes of a constant
    with pytest.raises(ConstantEmbeddingsError, match="candidates"):
        check_not_constant(constant, "candidates")
    check_not_constant(constant[:1], "a single content cannot vary")
    constant[3, 1] += 1e-3
    check_not_constant(constant, "one row differs")
