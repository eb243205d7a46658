# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Unit rows: values, gradients, and that no block of them depends on how they are cut."""

import pytest
import torch
from torch.nn import functional as F

from trainers.losses import unit_rows as module
from trainers.losses.unit_rows import UnitRows, measure_rows, row_slices


def test_zero_row_without_a_huge_gradient():
    embeddings = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    rows = UnitRows.measure("queries", embeddings, torch.float32).matrix()
    torch.testing.assert_close(rows, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    (rows * torch.tensor([[1.0, 0.0], [1.0, 0.0]])).sum().backward()
    torch.testing.assert_close(embeddings.grad, torch.tensor([[0.128, -0.096], [0.0, 0.0]]))


def test_row_too_long_to_measure_is_refused():
    with pytest.raises(ValueError, match="row 1 is NaN or infinite"):
        UnitRows.measure("queries", torch.tensor([[1.0, 1.0], [1e30, 1e30]]), torch.float32).matrix()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (torch.float16, torch.float16, torch.float32),
        (torch.bfloat16, torch.float16, torch.float32),
        (torch.float32, torch.bfloat16, torch.float32),
        (torch.float64, torch.float32, torch.float64),
    ],
)
def test_two_matrices_are_measured_in_float32_or_more(first, second, expected):
    rows = measure_rows(queries=torch.ones(1, 2, dtype=first), candidates=torch.ones(1, 2, dtype=second))
    assert [one.norms.dtype for one in rows] == [expected, expected]


@pytest.mark.parametrize("block", [1, 7, 13, 2**22])
def test_equals_normalize_whatever_the_block(embed, monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", block)
    embeddings, weights = embed(5, 6, seed=0), torch.arange(30.0).double().view(5, 6)
    assert len(list(row_slices(5, 6))) == {1: 5, 7: 5, 13: 3}.get(block, 1)
    rows = UnitRows.measure("queries", embeddings, torch.float64).matrix()
    expected = F.normalize(embeddings, dim=1)
    torch.testing.assert_close(rows, expected)
    torch.testing.assert_close(
        torch.autograd.grad((rows * weights).sum(), embeddings),
        torch.autograd.grad((expected * weights).sum(), embeddings),
    )
    assert torch.autograd.gradcheck(lambda x: UnitRows.measure("queries", x, torch.float64).matrix(), embeddings)


def test_rows_by_number_have_the_shape_of_the_numbers(embed):
    embeddings = embed(4, 3, seed=1, dtype=torch.bfloat16)
    rows = UnitRows.measure("queries", embeddings, torch.float32)
    chosen = torch.tensor([[0, 3], [3, 1]])
    assert rows[chosen].shape == (2, 2, 3) and rows[chosen].dtype == torch.float32
    assert not rows[chosen].requires_grad
    torch.testing.assert_close(rows[chosen], F.normalize(embeddings.detach().float(), dim=1)[chosen])


def test_only_the_embeddings_as_they_came_are_kept(embed, measure_memory):
    """A float32 copy held for the backward pass would double what bfloat16 embeddings take."""
    embeddings = embed(64, 16, seed=2, dtype=torch.bfloat16)
    kept = measure_memory(lambda: UnitRows.measure("queries", embeddings, torch.float32).matrix().sum()).kept
    assert kept == 64 * 16 + 64
