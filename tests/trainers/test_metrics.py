# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Means by source over all rows since the last log, and the numbers they are made of."""

import math

import pytest
import torch

from trainers.losses import HardNegativeInfoNCELoss, InfoNCELoss
from trainers.losses.blocks import effective_number
from trainers.metrics import SourceMeans


def test_means_are_over_rows_not_over_batches():
    means = SourceMeans()
    means.add(["a", "a", "b"], {"loss": torch.tensor([1.0, 3.0, 10.0])})
    means.add(["a"], {"loss": torch.tensor([8.0]), "positive_similarity": torch.tensor([0.5])})
    assert means.by_source() == {"a/loss": 4.0, "b/loss": 10.0, "a/positive_similarity": 0.5}
    assert means.of_all() == {"loss": 5.5, "positive_similarity": 0.5}


def test_rows_without_a_value_do_not_count():
    means = SourceMeans()
    means.add(["a", "a", "b"], {"hardest_negative_similarity": torch.tensor([-torch.inf, 0.25, torch.nan])})
    assert means.by_source() == {"a/hardest_negative_similarity": 0.25}
    assert means.of_all() == {"hardest_negative_similarity": 0.25}


def test_effective_number():
    inf = torch.inf
    logits = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, -inf], [90.0, 0.0, 0.0], [-inf, -inf, -inf]])
    torch.testing.assert_close(effective_number(logits), torch.tensor([3.0, 2.0, 1.0, torch.nan]), equal_nan=True)


@pytest.mark.parametrize("loss", [InfoNCELoss(), HardNegativeInfoNCELoss(num_hard_negatives=3)])
def test_row_statistics_are_those_that_are_summed_up(loss):
    torch.manual_seed(0)
    queries, candidates = torch.randn(6, 8), torch.randn(9, 8)
    value = loss(queries, candidates)
    rows = loss.row_statistics
    assert rows["loss"].mean() == pytest.approx(value.item(), abs=1e-6)
    for name in ("positive_similarity", "hardest_negative_similarity", "accuracy", "effective_negatives"):
        assert rows[name].shape == (6,)
        assert rows[name].mean().item() == pytest.approx(loss.statistics[name].item(), abs=1e-6)
    loss(queries[:1], candidates[:1])  # nothing is a negative
    assert math.isnan(loss.row_statistics["accuracy"].item()) and loss.row_statistics["loss"].item() == 0
