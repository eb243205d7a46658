# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""InfoNCE with all other candidates as negatives."""

import math

import pytest
import torch
from torch.nn import functional as F

from trainers.losses import InfoNCELoss


def loss_and_gradients(loss, queries, candidates, **options):
    value = loss(queries, candidates, **options)
    return value, *torch.autograd.grad(value, (queries, candidates))


def test_equals_cross_entropy_over_cosines(pair):
    queries, candidates = pair(5, 7)
    value = InfoNCELoss(temperature=0.07)(queries, candidates)
    logits = F.cosine_similarity(queries.unsqueeze(1), candidates.unsqueeze(0), dim=2) / 0.07
    expected = F.cross_entropy(logits, torch.arange(5))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(
        torch.autograd.grad(value, (queries, candidates)), torch.autograd.grad(expected, (queries, candidates))
    )


def test_values_a_reader_can_compute():
    assert InfoNCELoss()(torch.ones(4, 3), torch.ones(6, 3)).item() == pytest.approx(math.log(6))
    eye = torch.eye(4)
    assert InfoNCELoss(temperature=0.5)(eye, 9 * eye).item() == pytest.approx(math.log(1 + 3 * math.exp(-2)))


def test_default_temperature_is_that_of_the_contract(pair):
    queries, candidates = pair(4, 4)
    torch.testing.assert_close(InfoNCELoss()(queries, candidates), InfoNCELoss(temperature=0.02)(queries, candidates))


@pytest.mark.parametrize("block_size", [1, 3, 4, 11])
def test_blocked_equals_plain(pair, block_size):
    queries, candidates = pair(11, 14)
    options = {"group_ids": torch.arange(14) % 9, "duplicate_mask": torch.rand(11, 14) < 0.2}
    plain, blocked = InfoNCELoss(), InfoNCELoss(block_size=block_size)
    torch.testing.assert_close(
        loss_and_gradients(blocked, queries, candidates, **options),
        loss_and_gradients(plain, queries, candidates, **options),
    )
    assert blocked.statistics.keys() == plain.statistics.keys()
    for name, value in plain.statistics.items():
        torch.testing.assert_close(blocked.statistics[name], value)


def test_memory_grows_with_the_block(pair, measure_memory):
    queries, candidates = pair(96, 128)
    plain = measure_memory(lambda: InfoNCELoss()(queries, candidates))
    blocked = measure_memory(lambda: InfoNCELoss(block_size=8)(queries, candidates))
    assert plain.largest == 96 * 128 and plain.kept > 96 * 128  # the measure sees what it should see
    assert blocked.largest == 8 * 128
    assert blocked.kept < 96 * 128 / 2


def test_group_ids_and_duplicate_mask_take_negatives_away():
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    candidates = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, -1.0]])
    loss = InfoNCELoss(temperature=1.0)
    e = math.e
    expected_all = (math.log((2 * e + 2) / e) + math.log((e + 2 + 1 / e) / e)) / 2
    assert loss(queries, candidates).item() == pytest.approx(expected_all)
    groups = torch.tensor([5, 6, 5, 7])  # candidate 2 is candidate 0 again: no negative of row 0, one of row 1
    expected_groups = (math.log((e + 2) / e) + math.log((e + 2 + 1 / e) / e)) / 2
    assert loss(queries, candidates, group_ids=groups).item() == pytest.approx(expected_groups)
    mask = torch.tensor([[True, False, False, False], [False, False, False, True]])  # own positive: no effect
    expected_both = (math.log((e + 2) / e) + math.log((e + 2) / e)) / 2
    assert loss(queries, candidates, group_ids=groups, duplicate_mask=mask).item() == pytest.approx(expected_both)


@pytest.mark.parametrize("block_size", [2, 8])
def test_row_without_negatives_adds_zero(pair, block_size):
    queries, candidates = pair(3, 5)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[1] = True
    loss = InfoNCELoss(block_size=block_size)
    with torch.autograd.set_detect_anomaly(True):
        value, query_gradient, candidate_gradient = loss_and_gradients(loss, queries, candidates, duplicate_mask=mask)
    assert torch.equal(query_gradient[1], torch.zeros(6, dtype=torch.float64))
    assert query_gradient[0].abs().max() > 0 and candidate_gradient.isfinite().all()
    others = loss(queries[[0, 2]], candidates[[0, 2, 1, 3, 4]])
    torch.testing.assert_close(value, others * 2 / 3)
    loss(queries, candidates, duplicate_mask=mask)
    assert loss.statistics["empty_rows"].item() == pytest.approx(1 / 3)
    assert loss(queries[:1], candidates[:1]).item() == 0
    assert all(value.isfinite() for value in loss.statistics.values())


def test_statistics_by_hand():
    queries = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    candidates = torch.tensor([[3.0, 4.0], [0.0, 1.0], [5.0, 0.0]], requires_grad=True)
    loss = InfoNCELoss()
    assert loss.statistics == {}
    loss(queries, candidates)
    # cosines: row 0: 0.6* 0 1, row 1: 0.8 1* 0, row 2: 0.6 0 1*
    expected = {"positive_similarity": 2.6 / 3, "hardest_negative_similarity": 2.4 / 3, "accuracy": 2 / 3}
    for name, value in expected.items():
        assert loss.statistics[name].item() == pytest.approx(value), name
        assert loss.statistics[name].dim() == 0 and not loss.statistics[name].requires_grad


def test_tie_with_the_positive_is_not_accurate():
    loss = InfoNCELoss()
    loss(torch.ones(4, 4), torch.ones(4, 4))
    assert loss.statistics["accuracy"] == 0


def test_permuting_rows_changes_nothing(pair):
    queries, candidates = pair(6, 9)
    order, extra_order = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([8, 6, 7])
    loss = InfoNCELoss()
    value = loss(queries, candidates)
    torch.testing.assert_close(loss(queries[order], candidates[torch.cat([order, extra_order])]), value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(pair, dtype):
    queries, candidates = (embeddings.detach().to(dtype).requires_grad_() for embeddings in pair(6, 9))
    value = InfoNCELoss()(queries, candidates)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, InfoNCELoss()(queries.float(), candidates.float()), rtol=0, atol=0)
    value.backward()
    assert queries.grad.dtype == dtype and queries.grad.isfinite().all()


def test_autocast_does_not_round_the_cosines(pair):
    queries, candidates = (embeddings.detach().float().requires_grad_() for embeddings in pair(10, 12))
    loss = InfoNCELoss(block_size=4)
    expected = loss_and_gradients(loss, queries, candidates)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(queries, candidates)
    found = (value, *torch.autograd.grad(value, (queries, candidates)))  # outside, as torch asks for
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("block_size", [2, 64])
def test_gradcheck(pair, block_size):
    queries, candidates = pair(5, 6, width=3)
    assert torch.autograd.gradcheck(InfoNCELoss(temperature=0.1, block_size=block_size), (queries, candidates))
