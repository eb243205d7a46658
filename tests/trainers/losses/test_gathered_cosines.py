# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Cosines with chosen candidates: values and gradients, in blocks that divide nothing evenly."""

import pytest
import torch
from torch.nn import functional as F

from trainers.losses import gathered_cosines as module
from trainers.losses import unit_rows
from trainers.losses.gathered_cosines import gathered_cosines


def cosines(queries, candidates, chosen):
    return gathered_cosines(*unit_rows.measure_rows(queries=queries, candidates=candidates), chosen)


def plain_cosines(queries, candidates, chosen):
    return (F.normalize(queries, dim=1) @ F.normalize(candidates, dim=1).T).gather(1, chosen)


@pytest.fixture
def chosen():
    """(11, 4): candidate 3 is chosen by every query, some by none, and query 0 chooses one of them twice."""
    numbers = torch.randint(0, 14, (11, 4), generator=torch.Generator().manual_seed(0))
    numbers[:, 1] = 3
    numbers[0, 2:] = 5
    assert len(numbers.unique()) < 14
    return numbers


@pytest.mark.parametrize("block", [1, 50, 100, 2**22])
@pytest.mark.parametrize("candidates_at_a_time", [1, 4, 128])
def test_equals_the_gathered_matrix(embed, chosen, monkeypatch, block, candidates_at_a_time):
    monkeypatch.setattr(unit_rows, "BLOCK_ELEMENTS", block)
    monkeypatch.setattr(module, "CANDIDATES_AT_A_TIME", candidates_at_a_time)
    queries, candidates, weights = embed(11, 6, 0), embed(14, 6, 1), embed(11, 4, 2).detach()
    found, expected = cosines(queries, candidates, chosen), plain_cosines(queries, candidates, chosen)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), (queries, candidates)),
        torch.autograd.grad((expected * weights).sum(), (queries, candidates)),
    )


@pytest.mark.parametrize("block", [50, 2**22])
def test_gradcheck(embed, chosen, monkeypatch, block):
    monkeypatch.setattr(unit_rows, "BLOCK_ELEMENTS", block)
    queries, candidates = embed(11, 3, 0), embed(14, 3, 1)
    assert torch.autograd.gradcheck(lambda q, c: cosines(q, c, chosen), (queries, candidates))


@pytest.mark.parametrize("side", [0, 1])
def test_only_one_side_needs_a_gradient(embed, chosen, side):
    both = [embed(11, 6, 0), embed(14, 6, 1)]
    expected = torch.autograd.grad(cosines(*both, chosen).sum(), both)[side]
    one = [tensor if number == side else tensor.detach() for number, tensor in enumerate(both)]
    torch.testing.assert_close(torch.autograd.grad(cosines(*one, chosen).sum(), one[side])[0], expected)


def test_candidate_gradient_is_summed_before_it_is_rounded(embed):
    """A candidate that 2,000 queries choose: summed in bfloat16, its gradient would stop growing early."""
    queries, candidates = embed(2000, 8, 0, torch.bfloat16), embed(2, 8, 1, torch.bfloat16)
    chosen = torch.zeros(2000, 1, dtype=torch.long)
    (gradient,) = torch.autograd.grad(cosines(queries, candidates, chosen).sum(), candidates)
    doubles = [tensor.detach().double().requires_grad_() for tensor in (queries, candidates)]
    (expected,) = torch.autograd.grad(plain_cosines(*doubles, chosen).sum(), doubles[1])
    torch.testing.assert_close(gradient, expected.bfloat16(), rtol=0.01, atol=1e-3)
    assert torch.equal(gradient[1], torch.zeros(8, dtype=torch.bfloat16))


def test_zero_rows_get_zero_gradients(embed, chosen):
    queries, candidates = embed(11, 6, 0).detach(), embed(14, 6, 1).detach()
    queries[2], candidates[3] = 0, 0
    queries.requires_grad_(), candidates.requires_grad_()
    found = cosines(queries, candidates, chosen)
    assert torch.equal(found[2], torch.zeros(4, dtype=torch.float64))
    of_queries, of_candidates = torch.autograd.grad(found.sum(), (queries, candidates))
    assert torch.equal(of_queries[2], torch.zeros(6, dtype=torch.float64)) and of_queries[1].abs().sum() > 0
    assert torch.equal(of_candidates[3], torch.zeros(6, dtype=torch.float64)) and of_candidates[5].abs().sum() > 0


def test_backward_inside_autocast_is_not_rounded(embed, chosen):
    queries, candidates = embed(11, 6, 0, torch.float32), embed(14, 6, 1, torch.float32)
    expected = torch.autograd.grad(cosines(queries, candidates, chosen).square().sum(), (queries, candidates))
    value = cosines(queries, candidates, chosen).square().sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (queries @ candidates.T).dtype == torch.bfloat16  # autocast is at work
        found = torch.autograd.grad(value, (queries, candidates))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_nothing_of_n_times_k_times_d_is_made_or_kept(embed, chosen, monkeypatch, measure_memory):
    queries, candidates = embed(11, 60, 0), embed(14, 60, 1)
    monkeypatch.setattr(module, "CANDIDATES_AT_A_TIME", 4)
    whole = measure_memory(lambda: cosines(queries, candidates, chosen).sum())
    assert whole.largest == 11 * 4 * 60  # one block: the measure sees what it should see
    monkeypatch.setattr(unit_rows, "BLOCK_ELEMENTS", 2 * 4 * 60)
    blocked = measure_memory(lambda: cosines(queries, candidates, chosen).sum())
    assert blocked.largest == 14 * 60  # a gradient
    assert blocked.kept == whole.kept == 11 * 60 + 14 * 60 + 11 + 14 + 11 * 4  # inputs, norms, choices
