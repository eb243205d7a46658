# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Metrics as modules of `evaluate`, loaded offline, against plain loops; what the runner calls is what they call."""

import math

import evaluate
import numpy as np
import pytest
from scipy.stats import rankdata

from evaluation.metrics.ranking import right_ranks
from evaluation.metrics.spearman.spearman import Spearman
from evaluation.similarities import ConstantEmbeddingsError, MetricError


@pytest.fixture
def load(repository):
    return lambda name: evaluate.load(str(repository / "evaluation" / "metrics" / name))


def plain_order(scores, right, ties):
    """Candidates from the best to the worst: a loop over selections, with the rule written out."""
    left, order = list(range(len(scores))), []
    while left:
        best = max(scores[candidate] for candidate in left)
        equal = [candidate for candidate in left if scores[candidate] == best]
        wrong = [candidate for candidate in equal if candidate not in right]
        chosen = equal[0] if ties == "published" else (wrong or equal)[0]
        order.append(chosen)
        left.remove(chosen)
    return order


def plain(name, rows, ties, k):
    """The metric by its definition, row after row."""
    values = []
    for scores, right in rows:
        hits = [candidate in right for candidate in plain_order(scores, right, ties)]
        first = hits.index(True) + 1
        if name == "ndcg_at_k":
            gain = sum(1 / math.log2(place + 2) for place, hit in enumerate(hits[:k]) if hit)
            ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(set(right)))))
            values.append(gain / ideal)
        else:
            values.append({"precision_at_1": first == 1, "recall_at_k": first <= k, "mrr": 1 / first}[name])
    return sum(values) / len(values)


def draw_rows(generator, right_ones=3):
    """Rows of 2 to 12 candidates with few distinct scores, so that ties abound, and one or several right ones."""
    rows = []
    for _ in range(60):
        count = int(generator.integers(2, 13))
        right = generator.choice(count, size=min(count, int(generator.integers(1, right_ones + 1))), replace=False)
        rows.append(((generator.integers(0, 5, count) / 7).tolist(), right.tolist()))
    return rows


@pytest.mark.parametrize("ties", ["against", "published"])
@pytest.mark.parametrize("name", ["precision_at_1", "recall_at_k", "ndcg_at_k", "mrr"])
def test_ranking_metrics_equal_a_plain_loop(load, name, ties):
    rows = draw_rows(np.random.default_rng(0))
    assert any(plain_order(*row, "against") != plain_order(*row, "published") for row in rows)
    predictions, references = zip(*rows, strict=True)
    for k in (1, 3, 10):
        options = {"k": k} if name.endswith("_k") else {}
        found = load(name).compute(predictions=predictions, references=references, ties=ties, **options)
        assert list(found.values()) == [pytest.approx(plain(name, rows, ties, k), abs=1e-15)]
        assert options == {} or list(found) == [name.replace("_at_k", f"@{k}")]


def test_paired_accuracy(load):
    pairs = {"predictions": [[0.5, 0.2], [0.2, 0.5], [0.3, 0.3], [0.1, 0.4]], "references": [[0], [0], [0], [1]]}
    assert load("paired_accuracy").compute(**pairs) == {"accuracy": 0.5}
    assert load("paired_accuracy").compute(**pairs, ties="published") == {"accuracy": 0.75}
    for scores, right in (([0.1, 0.2, 0.3], [0]), ([0.1, 0.2], [0, 1])):
        with pytest.raises(ValueError, match="row 0 has .* not 2 and 1"):
            load("paired_accuracy").compute(predictions=[scores], references=[right])


def test_spearman_by_ranks(load):
    generator = np.random.default_rng(1)
    predicted, expected = generator.integers(0, 9, 50) / 7, generator.integers(0, 6, 50) / 3  # many ties
    by_hand = np.corrcoef(rankdata(predicted), rankdata(expected))[0, 1]
    found = load("spearman").compute(predictions=predicted, references=expected)
    assert found == {"spearman": pytest.approx(by_hand, abs=1e-15)} == Spearman.of_scores(predicted, expected)


def test_what_spearman_refuses():
    expected = np.array([1.0, 2.0, 3.0, 4.0])
    with pytest.raises(ConstantEmbeddingsError, match="predicted"):
        Spearman.of_scores(np.ones(4), expected)
    with pytest.raises(MetricError, match="expected"):
        Spearman.of_scores(expected, np.ones(4))
    with pytest.raises(MetricError, match="NaN"):
        Spearman.of_scores(np.array([0.1, np.nan, 0.3, 0.4]), expected)
    with pytest.raises(MetricError, match="at least 3"):
        Spearman.of_scores(expected[:2], expected[:2])


def test_ties_count_against_the_right_one_and_copies_of_it_do_not():
    scores = np.array([0.5, 0.9, 0.5, 0.1, 0.6])
    assert right_ranks(scores, [0]).tolist() == [4]
    assert right_ranks(scores, [1]).tolist() == [1]
    assert right_ranks(scores, [0, 2]).tolist() == [3, 4]
    assert right_ranks(scores, [0], "published").tolist() == [3]
    assert right_ranks(scores, [2, 1]).tolist() == [1, 4]
    assert scores.tolist() == [0.5, 0.9, 0.5, 0.1, 0.6]


def test_only_equal_scores_tie():
    """As documented: a difference as small as rounding is an order, in either direction."""
    next_up = np.nextafter(0.5, 1)
    assert [right_ranks([0.5, other], [0])[0] for other in (0.5, next_up)] == [2, 2]
    assert right_ranks([next_up, 0.5], [0])[0] == 1


@pytest.mark.parametrize(
    ("scores", "right", "ties", "message"),
    [
        ([0.5, np.nan], [0], "against", "NaN"),
        ([0.5, 0.2], [], "against", r"2 candidates has the right ones \[\]"),
        ([0.5, 0.2], [2], "against", r"right ones \[2\]"),
        ([0.5, 0.2], [-1], "against", r"right ones \[-1\]"),
        ([0.5, 0.2], [0], "for", "ties is 'for'; use one of against, published"),
    ],
)
def test_what_cannot_be_ranked_is_refused(scores, right, ties, message):
    with pytest.raises(MetricError, match=message):
        right_ranks(scores, right, ties)


@pytest.mark.parametrize("ties", ["against", "published"])
def test_ndcg_with_graded_relevance_equals_a_plain_loop(load, ties):
    generator = np.random.default_rng(3)
    rows = draw_rows(generator)
    gains = [generator.integers(1, 4, len(right)).tolist() for _, right in rows]
    predictions, references = zip(*rows, strict=True)
    found = load("ndcg_at_k").compute(predictions=predictions, references=references, gains=gains, ties=ties, k=5)
    values = []
    for (scores, right), own in zip(rows, gains, strict=True):
        worth = dict(zip(right, own, strict=True))

        def place(candidate, scores=scores, worth=worth):
            return -scores[candidate], candidate if ties == "published" else worth.get(candidate, 0)

        order = sorted(range(len(scores)), key=place)
        gain = sum(worth.get(candidate, 0) / math.log2(rank + 2) for rank, candidate in enumerate(order[:5]))
        best = sum(value / math.log2(rank + 2) for rank, value in enumerate(sorted(own, reverse=True)[:5]))
        values.append(gain / best)
    assert found == {"ndcg@5": pytest.approx(np.mean(values), abs=1e-15)}
    with pytest.raises(ValueError, match="each needs one above 0"):
        load("ndcg_at_k").compute(predictions=[[0.1, 0.2]], references=[[0]], gains=[[0]])
