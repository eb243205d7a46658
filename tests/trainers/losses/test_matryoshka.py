# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The loss at several widths is exactly the sum of the separate losses on vectors that were cut before."""

import pytest
import torch
from torch.nn import functional as F

from trainers.losses import (
    HardNegativeInfoNCELoss,
    InfoNCELoss,
    MatryoshkaLoss,
    SimilarityDistillationLoss,
    SoftLabelLoss,
)

DIMS, WEIGHTS = [2, 5, 8], [0.5, 2.0, 1.25]


def hard_negative(**options):
    return HardNegativeInfoNCELoss(temperature=0.3, num_hard_negatives=3, false_negative_margin=0.05, **options)


@pytest.fixture(params=["hard_negative", "info_nce", "soft_label", "distillation"])
def case(request, pair, embed):
    """A maker of the loss, the model's embeddings, and what else the loss takes."""
    queries, candidates = pair(7, 11, width=8)
    if request.param == "distillation":
        return lambda **o: SimilarityDistillationLoss(0.4, **o), [queries], [embed(7, 8, seed=3).detach()], {}
    if request.param == "soft_label":
        own = torch.cat([torch.arange(7).unsqueeze(1), torch.arange(14).reshape(7, 2) % 11], dim=1)
        return lambda **o: SoftLabelLoss(0.4), [queries, candidates], [own, torch.rand(7, 3).double()], {}
    groups = {"group_ids": torch.tensor([0, 1, 2, 1, 4, 5, 6, 7, 4, 9, 10])}
    make = hard_negative if request.param == "hard_negative" else lambda **options: InfoNCELoss(0.3, **options)
    return make, [queries, candidates], [], groups


def gradients(loss: torch.Tensor, embeddings: list[torch.Tensor]) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, embeddings))


@pytest.mark.parametrize("block_size", [3, 1024])
@pytest.mark.parametrize("dims, weights", [(DIMS, WEIGHTS), (DIMS[::-1], WEIGHTS[::-1]), ([5, 2], None)])
def test_equals_the_sum_of_the_separate_losses(case, dims, weights, block_size):
    make, embeddings, others, options = case
    separate = 0.0
    for dim, weight in zip(dims, weights or [1.0] * len(dims), strict=True):
        cut = [F.normalize(part[:, :dim], dim=1) for part in embeddings]
        separate = separate + weight * make()(*cut, *others, **options)
    loss = MatryoshkaLoss(make(block_size=block_size), dims, weights)
    value = loss(*embeddings, *others, **options)
    torch.testing.assert_close(value, separate, rtol=0, atol=1e-9)
    expected = gradients(separate, embeddings)
    assert min(gradient.abs().max() for gradient in expected) > 1e-4, "a gradient of zero proves nothing"
    torch.testing.assert_close(gradients(value, embeddings), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dims", [DIMS, [2, 5]])
def test_the_statistics_are_those_of_the_full_width(case, dims):
    make, embeddings, others, options = case
    plain, loss = make(), MatryoshkaLoss(make(), dims)
    plain(*embeddings, *others, **options)
    value = loss(*embeddings, *others, **options)
    for name, expected in plain.statistics.items():
        torch.testing.assert_close(loss.statistics[name], expected, equal_nan=True)
    assert loss.statistics.keys() - plain.statistics.keys() == {f"loss_{dim}" for dim in dims}
    assert loss.row_statistics.keys() == plain.row_statistics.keys()
    torch.testing.assert_close(loss.row_statistics["loss"].mean(), value.detach())
    torch.testing.assert_close(sum(loss.statistics[f"loss_{dim}"] for dim in dims), value.detach())


def test_negatives_are_chosen_at_each_width():
    """At the first two components candidate 2 is the positive's twin, and dropped; at all four it is a hard negative."""
    queries = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    candidates = torch.tensor([[0.9, 0.5, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
    loss = HardNegativeInfoNCELoss(1.0, num_hard_negatives=1, false_negative_margin=0.05)
    found = []
    for dim in (2, 4):
        loss(queries[:, :dim], candidates[:, :dim])
        found.append(loss.row_statistics["share_filtered"].item())
    assert found == [0.5, 0.0]
    both = MatryoshkaLoss(HardNegativeInfoNCELoss(1.0, 1, 0.05), [2, 4])
    value = both(queries, candidates)
    separate = [loss(queries[:, :dim], candidates[:, :dim]) for dim in (2, 4)]
    torch.testing.assert_close(value, sum(separate))


def test_memory_grows_with_the_rows_of_a_block(embed, measure_memory):
    """Two and a half times the width and no table of all similarities, nor of the candidates that are chosen."""

    def peak(rows: int):
        loss = MatryoshkaLoss(HardNegativeInfoNCELoss(block_size=8, num_hard_negatives=2), [8, 4, 2])
        queries, candidates = embed(rows, 8, seed=0), embed(rows, 8, seed=1)
        return measure_memory(lambda: loss(queries, candidates))

    small, large = peak(64), peak(512)
    assert large.largest <= 8 * small.largest and large.largest < 512 * 512 / 4
    assert large.kept <= 8.1 * small.kept


@pytest.mark.parametrize(
    "dims, weights, said",
    [
        ([], None, "must be sorted, each dimension once"),
        ([8, 2, 5], None, r"must be sorted, each dimension once \(e.g. 64 128 256\), got \[8, 2, 5\]"),
        ([2, 2, 5], None, "each dimension once"),
        ([0, 5], None, "matryoshka_dims must be an integer of at least 1, got 0"),
        ([2.5], None, "matryoshka_dims must be an integer"),
        ([2, 5], [1.0], r"matryoshka_weights must be one for each of \[2, 5\], got 1"),
        ([2, 5], [1.0, 0.0], "matryoshka_weights must be a finite number greater than 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(dims, weights, said):
    with pytest.raises(ValueError, match=said):
        MatryoshkaLoss(InfoNCELoss(), dims, weights)


def test_more_dimensions_than_there_are_are_refused():
    with pytest.raises(
        ValueError, match=r"matryoshka_dims \[2, 9\] go beyond the model's 8 dimensions: use 8 at most"
    ):
        MatryoshkaLoss(InfoNCELoss(), [2, 9])(torch.ones(3, 8), torch.ones(3, 8))
