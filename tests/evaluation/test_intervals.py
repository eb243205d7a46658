# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Intervals cover what they claim to, and two runs are resampled alike."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from evaluation.intervals import interval, mean_of_sets, resampled


@pytest.mark.parametrize("share", [0.5, 0.85])
def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_says(share):
    generator = np.random.default_rng(0)
    covered = 0
    for number in range(300):
        low, high = interval(resampled(generator.random(300) < share, f"set {number}", draws=400))
        covered += low <= share <= high
    assert 0.92 <= covered / 300 <= 0.98


def test_the_interval_of_a_mean_over_sets_covers_and_is_narrower_than_that_of_one():
    generator = np.random.default_rng(1)
    shares = (0.2, 0.5, 0.9)
    covered = 0
    for number in range(300):
        draws = [resampled(generator.random(200) < share, f"{share} {number}", draws=400) for share in shares]
        low, high = interval(mean_of_sets(draws))
        assert high - low < max(np.diff(interval(draw))[0] for draw in draws)
        covered += low <= np.mean(shares) <= high
    assert 0.92 <= covered / 300 <= 0.98


def test_two_runs_on_one_data_set_are_resampled_together():
    generator = np.random.default_rng(2)
    first = generator.random(400)
    second = first + 0.01  # better on every single row
    low, high = interval(resampled(second, "x") - resampled(first, "x"))
    assert low == pytest.approx(0.01) and high == pytest.approx(0.01)
    apart_low, apart_high = interval(resampled(second, "x") - resampled(first, "y"))
    assert apart_low < 0 < apart_high


def test_other_statistics_take_whole_rows():
    generator = np.random.default_rng(3)
    human = generator.random(200)
    rows = np.stack([human + generator.normal(scale=0.2, size=200), human], axis=1)
    low, high = interval(resampled(rows, "sts", lambda part: spearmanr(*part.T).statistic, draws=300))
    assert low < spearmanr(*rows.T).statistic < high
