# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Soft labels of a judge: the formula, rows with fewer negatives, and what is refused."""

import math

import pytest
import torch
from torch.nn import functional as F

from trainers.losses import SoftLabelLoss

OWN = torch.tensor([[0, 5, 6, 7], [1, 8, -1, -1], [2, 5, 9, 5], [3, -1, -1, -1], [4, 0, 1, -1]])


@pytest.fixture
def inputs(embed):
    """Five queries, ten candidates; rows with three, one, no and two negatives. Candidates 0, 1 and 5 serve twice."""
    scores = torch.rand(5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return embed(5, 6, 0), embed(10, 6, 1), OWN, scores.masked_fill(OWN < 0, torch.nan)


def reference(queries, candidates, own, scores, temperature):
    """The formula in plain Python, one row after another."""
    rows_pq, rows_qp = [], []
    for row, numbers in enumerate(own.tolist()):
        there = [(column, number) for column, number in enumerate(numbers) if number >= 0]
        cosines = [F.cosine_similarity(queries[row], candidates[number], dim=0).item() for _, number in there]
        judged = [scores[row, column].item() for column, _ in there]
        p, q = ([math.exp(value / temperature) for value in values] for values in (cosines, judged))
        p, q = [value / sum(p) for value in p], [value / sum(q) for value in q]
        rows_pq.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
        rows_qp.append(sum(b * math.log(b / a) for a, b in zip(p, q, strict=True)))
    return (sum(rows_pq) / len(rows_pq) + sum(rows_qp) / len(rows_qp)) / 2


@pytest.mark.parametrize("temperature", [0.02, 0.3, 1.0])
def test_equals_the_formula(inputs, temperature):
    value = SoftLabelLoss(temperature)(*inputs)
    assert value.dtype == torch.float64 and value.item() == pytest.approx(reference(*inputs, temperature), rel=1e-10)
    assert value.item() > 0.01


def test_gradients(inputs):
    queries, candidates, own, scores = inputs
    loss = SoftLabelLoss(temperature=0.3)
    assert torch.autograd.gradcheck(lambda q, c: loss(q, c, own, scores), (queries, candidates))
    of_queries, of_candidates = torch.autograd.grad(loss(*inputs), (queries, candidates))
    assert torch.equal(of_queries[3], torch.zeros(6, dtype=torch.float64)) and of_queries[1].abs().sum() > 0
    assert (of_candidates.abs().sum(dim=1) > 0).tolist() == [
        True,
        True,
        True,
        False,
        True,
        True,
        True,
        True,
        True,
        True,
    ]


def test_no_loss_where_model_and_judge_agree():
    """Cosines 1 and 0 under the temperature of the scores 1 and 0, up to a constant that a softmax does not see."""
    queries, candidates = torch.eye(2), torch.eye(2)
    own = torch.tensor([[0, 1], [1, 0]])
    loss = SoftLabelLoss(temperature=0.5)
    assert loss(queries, candidates, own, torch.tensor([[0.9, -0.1], [0.7, -0.3]])).item() == pytest.approx(
        0, abs=1e-6
    )
    assert loss(queries, candidates, own, torch.tensor([[0.1, 0.9], [0.7, -0.3]])).item() > 0.5


def test_default_temperature_is_the_papers(inputs):
    torch.testing.assert_close(SoftLabelLoss()(*inputs), SoftLabelLoss(temperature=0.02)(*inputs))


def test_absent_candidates_and_their_scores_do_not_matter(inputs):
    queries, candidates, own, scores = inputs
    loss = SoftLabelLoss()
    wider = F.pad(own, (0, 3), value=-1), F.pad(scores, (0, 3), value=9.0)
    torch.testing.assert_close(loss(queries, candidates, *wider), loss(*inputs))
    one = torch.arange(5).unsqueeze(1)
    assert loss(queries, candidates, one, torch.zeros(5, 1)).item() == 0
    assert loss.statistics["empty_rows"] == 1 and all(value.isfinite() for value in loss.statistics.values())


def test_order_of_negatives_does_not_matter_and_which_score_is_whose_does(inputs):
    queries, candidates, own, scores = inputs
    order, loss = [0, 3, 2, 1], SoftLabelLoss()
    torch.testing.assert_close(loss(queries, candidates, own[:, order], scores[:, order]), loss(*inputs))
    swapped = scores.clone()
    swapped[0, [1, 2]] = scores[0, [2, 1]]
    assert (loss(queries, candidates, own, swapped) - loss(*inputs)).abs() > 1e-3


def test_statistics_by_hand():
    queries = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    candidates = torch.tensor([[3.0, 4.0], [0.0, 1.0], [5.0, 0.0]], requires_grad=True)  # cosines 0.6, 0 and 1
    own = torch.tensor([[0, 1], [0, 2], [1, -1]])
    loss = SoftLabelLoss(temperature=1.0)
    assert loss.statistics == {}
    loss(queries, candidates, own, torch.tensor([[0.5, 0.5], [1.0, 0.0], [1.0, 0.0]])).backward()
    label, first, second = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-0.6)), 1 / (1 + math.exp(0.4))

    def entropy(p):
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    expected = {
        "label_entropy": (math.log(2) + entropy(label)) / 2,
        "prediction_entropy": (entropy(first) + entropy(second)) / 2,
        "label_positive": (0.5 + label) / 2,
        "prediction_positive": (first + second) / 2,
        "positive_similarity": (0.6 + 0.6 + 0) / 3,
        "hardest_negative_similarity": (0 + 1) / 2,
        "accuracy": 0.5,
        "empty_rows": 1 / 3,
    }
    assert loss.statistics.keys() == expected.keys()
    for name, number in expected.items():
        assert loss.statistics[name].item() == pytest.approx(number), name
        assert loss.statistics[name].dim() == 0 and not loss.statistics[name].requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_also_under_autocast(inputs, dtype):
    queries, candidates = (embeddings.detach().to(dtype).requires_grad_() for embeddings in inputs[:2])
    loss = SoftLabelLoss()
    value = loss(queries, candidates, *inputs[2:])
    torch.testing.assert_close(value, loss(queries.float(), candidates.float(), *inputs[2:]), rtol=0, atol=0)
    value.backward()
    assert queries.grad.dtype == dtype and queries.grad.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(queries, candidates, *inputs[2:]), value, rtol=0, atol=0)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), "0.02"])
def test_bad_temperature_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be a finite number greater than 0"):
        SoftLabelLoss(temperature=temperature)


@pytest.mark.parametrize(
    ("number", "bad", "message"),
    [
        (
            0,
            torch.randn(5, 7),
            r"candidates must be .* as wide as queries \(7\), got torch.float64 of shape \(10, 6\)",
        ),
        (1, torch.ones(4), "candidates must be a floating-point matrix"),
        (2, OWN.float(), "own must be a tensor of integers .*, got torch.float32"),
        (2, OWN[:4], r"own must be .* one row per query, \(5, 1 \+ K\), .* got torch.int64 of shape \(4, 4\)"),
        (2, OWN[:, :3], r"scores must be .* one score per candidate, \(5, 3\), got .* \(5, 4\)"),
        (2, OWN + 1, "own must hold numbers of the 10 candidates"),
        (2, OWN - 1, "own must hold numbers of the 10 candidates"),
        (2, OWN.roll(1, dims=1), "row 1 of own has no positive in its first column"),
        (3, OWN, "scores must be a floating-point tensor"),
        (3, torch.full((5, 4), torch.inf), "scores: row 0 has a candidate whose score is NaN or infinite"),
    ],
)
def test_what_does_not_fit_is_refused(inputs, number, bad, message):
    given = list(inputs)
    given[number] = bad
    with pytest.raises(ValueError, match=message):
        SoftLabelLoss()(*given)


def test_non_finite_row_is_named(inputs):
    given = [tensor.detach().clone() for tensor in inputs]
    given[1][3, 2] = torch.nan
    with pytest.raises(ValueError, match=r"candidates: row 3 is NaN or infinite \(1 of 10 rows are\)"):
        SoftLabelLoss()(*given)


def test_tie_with_the_positive_is_not_accurate():
    loss = SoftLabelLoss()
    loss(torch.ones(2, 4), torch.ones(3, 4), torch.tensor([[0, 2], [1, 2]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert loss.statistics["accuracy"] == 0
