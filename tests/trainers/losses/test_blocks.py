# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The checks and the blocks that all losses share."""

import pytest
import torch

from trainers.losses import HardNegativeInfoNCELoss, InfoNCELoss, SimilarityDistillationLoss
from trainers.losses.blocks import map_row_blocks, mean_where, other_candidates

LOSSES = [SimilarityDistillationLoss, HardNegativeInfoNCELoss, InfoNCELoss]
CONTRASTIVE = [HardNegativeInfoNCELoss, InfoNCELoss]


@pytest.mark.parametrize("loss_class", LOSSES)
@pytest.mark.parametrize("temperature", [0, -0.02, float("nan"), float("inf"), "0.02", True, None])
def test_bad_temperature_is_refused(loss_class, temperature):
    with pytest.raises(ValueError, match="temperature must be a finite number greater than 0"):
        loss_class(temperature=temperature)


@pytest.mark.parametrize("loss_class", LOSSES)
@pytest.mark.parametrize("block_size", [0, -1, 2.0, True, None])
def test_bad_block_size_is_refused(loss_class, block_size):
    with pytest.raises(ValueError, match="block_size must be an integer of at least 1"):
        loss_class(block_size=block_size)


@pytest.mark.parametrize("loss_class", LOSSES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("side", [0, 1])
def test_non_finite_row_is_named(loss_class, value, side):
    """A NaN that slips through would turn all weights into NaN one step later, far from its cause."""
    inputs = [torch.randn(5, 3), torch.randn(5, 3)]
    inputs[side][3, 1] = value
    inputs[side][4, 0] = value
    name = [("student", "teacher"), ("queries", "candidates")][loss_class is not SimilarityDistillationLoss][side]
    with pytest.raises(ValueError, match=rf"{name}: row 3 is NaN or infinite \(2 of 5 rows are\)"):
        loss_class()(*inputs)


@pytest.mark.parametrize("loss_class", LOSSES)
@pytest.mark.parametrize(
    "bad", [torch.ones(4), torch.ones(2, 4, 3), torch.ones(0, 3), torch.ones(4, 3).long(), [[1.0]]]
)
def test_anything_but_a_matrix_is_refused(loss_class, bad):
    with pytest.raises(ValueError, match="(student|teacher|queries|candidates) must be a floating-point matrix"):
        loss_class()(bad, torch.ones(4, 3))
    with pytest.raises(ValueError, match="(student|teacher|queries|candidates) must be a floating-point matrix"):
        loss_class()(torch.ones(4, 3), bad)


@pytest.mark.parametrize("loss_class", CONTRASTIVE)
def test_shapes_that_do_not_fit_are_refused(loss_class):
    loss = loss_class()
    queries, candidates = torch.randn(4, 3), torch.randn(6, 3)
    with pytest.raises(
        ValueError, match=r"candidates must be .* as wide as queries \(3\), got torch.float32 of shape \(6, 5\)"
    ):
        loss(queries, torch.randn(6, 5))
    with pytest.raises(ValueError, match="got 3 candidates for 4 queries"):
        loss(queries, candidates[:3])
    with pytest.raises(ValueError, match=r"one id per candidate, \(6,\), got torch.int64 of shape \(4,\)"):
        loss(queries, candidates, group_ids=torch.arange(4))
    with pytest.raises(ValueError, match="group_ids must be a tensor of integers"):
        loss(queries, candidates, group_ids=torch.zeros(6))
    with pytest.raises(
        ValueError, match=r"duplicate_mask must be .* one row per query and one column per candidate, \(4, 6\), got"
    ):
        loss(queries, candidates, duplicate_mask=torch.zeros(4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="duplicate_mask must be a boolean tensor"):
        loss(queries, candidates, duplicate_mask=torch.zeros(4, 6))


def test_other_candidates_combines_diagonal_groups_and_duplicates():
    rows, columns = torch.tensor([1, 2]), torch.arange(5)
    group_ids = torch.tensor([7, 8, 9, 8, 7])
    duplicates = torch.tensor([[True, False, False, False, False], [False, False, False, False, False]])
    expected = torch.tensor([[0, 0, 1, 0, 1], [1, 1, 0, 1, 1]]).bool()
    assert torch.equal(other_candidates(rows, columns, group_ids, duplicates), expected)
    block = other_candidates(rows, columns[2:], group_ids, duplicates[:, 2:])
    assert torch.equal(block, expected[:, 2:])


def test_mean_where_ignores_what_is_not_chosen():
    values = torch.tensor([1.0, -torch.inf, 3.0])
    assert mean_where(values, torch.tensor([True, False, True])) == 2
    assert mean_where(values, torch.tensor([False, False, False])) == 0


@pytest.mark.parametrize(("block_size", "sizes"), [(2, [2, 2, 1]), (5, [5]), (9, [5]), (1, [1] * 5)])
def test_map_row_blocks_cuts_rows_and_passes_none(block_size, sizes):
    seen = []

    def double(rows, nothing):
        assert nothing is None
        seen.append(len(rows))
        return rows * 2, {"rows": rows}

    losses, statistics = map_row_blocks(double, (torch.arange(5.0), None), block_size)
    assert seen == sizes
    assert losses.tolist() == [0, 2, 4, 6, 8]
    assert statistics["rows"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("loss_class", CONTRASTIVE)
def test_a_tie_is_wrong_in_the_rows_of_the_log_as_in_their_mean(loss_class):
    """Candidates 0 and 1 are one vector, so their queries tie; the third is right, the fourth has no negative."""
    candidates = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    known = torch.zeros(4, 4, dtype=torch.bool)
    known[3] = True
    loss = loss_class()
    loss(candidates.clone(), candidates, duplicate_mask=known)
    accuracy = loss.row_statistics["accuracy"]
    assert accuracy[:3].tolist() == [0, 0, 1] and accuracy[3].isnan()
    assert loss.statistics["accuracy"].item() == pytest.approx(1 / 3)
