# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from evaluation.metrics import (
    ConstantEmbeddingsError,
    MetricError,
    Similarities,
    chance_level,
    check_not_constant,
    precision_at_1,
    ranking_metrics,
    spearman,
    truth_rank,
)


def test_ties_with_another_content_are_wrong():
    assert precision_at_1(np.array([0.9, 0.5, 0.2]))
    assert not precision_at_1(np.array([0.9, 0.9, 0.2]))
    assert not precision_at_1(np.array([0.5, 0.5, 0.5]))
    assert not precision_at_1(np.array([0.5, 0.9, 0.2]))


def test_candidates_identical_to_the_truth_never_count_against_it():
    identical = np.array([True, True, False])
    assert precision_at_1(np.array([0.9, 0.9, 0.2]), identical)
    assert precision_at_1(np.array([0.9, 0.95, 0.2]), identical)
    assert not precision_at_1(np.array([0.9, 0.9, 0.9]), identical)


def test_rank_counts_ties_against_the_truth():
    scores = np.array([0.5, 0.9, 0.5, 0.1, 0.6])
    assert truth_rank(scores) == 4
    assert truth_rank(scores, truth=1) == 1
    assert truth_rank(scores, identical=np.array([True, False, True, False, False])) == 3
    assert not np.shares_memory(scores, scores >= 0) and scores.tolist() == [0.5, 0.9, 0.5, 0.1, 0.6]


def test_only_equal_scores_tie():
    """As documented: a difference as small as rounding is an order, in either direction."""
    next_up = np.nextafter(0.5, 1)
    assert [truth_rank(np.array([0.5, other])) for other in (0.5, next_up)] == [2, 2]
    assert truth_rank(np.array([next_up, 0.5])) == 1


def test_nan_scores_are_refused():
    with pytest.raises(MetricError, match="NaN"):
        precision_at_1(np.array([0.5, np.nan]))


def test_ranking_metrics_by_hand():
    metrics = ranking_metrics([1, 2, 5, 6, 11])
    assert metrics == pytest.approx(
        {"precision@1": 0.2, "recall@5": 0.6, "recall@10": 0.8, "mrr": (1 + 1 / 2 + 1 / 5 + 1 / 6 + 1 / 11) / 5}
    )


def test_chance_level():
    assert chance_level([2, 4, 1]) == pytest.approx((0.5 + 0.25 + 1) / 3)


def test_equal_vectors_get_equal_scores_whatever_the_matrix_product_does():
    """A plain matrix-vector product rounds the last rows of a matrix differently and would break these ties."""
    generator = np.random.default_rng(0)
    for width in (16, 33, 384, 1000):
        for count in (7, 13, 30, 101):
            embeddings = generator.normal(size=(count + 3, width)).astype(np.float32)
            embeddings[3:] = embeddings[3]
            similarities = Similarities(embeddings)
            everything = np.arange(count + 3)
            scores = similarities.scores(0, everything)
            assert len(set(scores[3:])) == 1
            unit = embeddings.astype(np.float64) / np.linalg.norm(embeddings.astype(np.float64), axis=1)[:, None]
            np.testing.assert_allclose(scores, unit @ unit[0], atol=1e-12)
            for part, block in similarities.blocks(np.arange(3), everything, block_size=2):
                assert all(len(set(row[3:])) == 1 for row in block)
                np.testing.assert_allclose(block, unit[:3][part] @ unit.T, atol=1e-12)


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


def test_spearman():
    expected = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(np.array([0.1, 0.2, 0.3, 0.9]), expected) == pytest.approx(1.0)
    assert spearman(np.array([0.2, 0.1, 0.3, 0.9]), expected) == pytest.approx(0.8)
    with pytest.raises(ConstantEmbeddingsError, match="predicted"):
        spearman(np.ones(4), expected)
    with pytest.raises(MetricError, match="expected"):
        spearman(expected, np.ones(4))
    with pytest.raises(MetricError, match="NaN"):
        spearman(np.array([0.1, np.nan, 0.3, 0.4]), expected)
    with pytest.raises(MetricError, match="at least 3"):
        spearman(expected[:2], expected[:2])
