# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which places are taken by step and by chance."""

import numpy as np
import pytest

from trainers.mining.options import MiningOptions
from trainers.mining.selection import sample


@pytest.mark.parametrize(
    "count, wanted, step, expected",
    [
        (50, 10, 5, list(range(0, 50, 5))),
        (50, 3, 5, [0, 5, 10]),
        (12, 5, 5, [0, 1, 5, 6, 10]),  # 0 5 10, then 1 6
        (4, 10, 5, [0, 1, 2, 3]),  # fewer than wanted: all of them, none twice
        (7, 7, 3, [0, 1, 2, 3, 4, 5, 6]),
        (6, 4, 1, [0, 1, 2, 3]),
        (0, 3, 5, []),
    ],
)
def test_step(count, wanted, step, expected):
    options = MiningOptions(num_negatives=wanted, sampling_strategy="step", step=step)
    assert sample(count, options).tolist() == expected
    if step == 1:
        assert sample(count, MiningOptions(num_negatives=wanted, sampling_strategy="top")).tolist() == expected


def test_chance():
    options = MiningOptions(num_negatives=5, sampling_strategy="random")
    drawn = [sample(20, options, (0, 1, line)) for line in range(200)]
    assert all(len(set(places.tolist())) == 5 and (np.diff(places) > 0).all() for places in drawn)
    assert np.bincount(np.concatenate(drawn), minlength=20).min() > 20, "every place has its chance"
    assert drawn[3].tolist() == sample(20, options, (0, 1, 3)).tolist() != sample(20, options, (1, 1, 3)).tolist()
    assert sample(3, options, (0, 0, 0)).tolist() == [0, 1, 2] and not len(sample(0, options, (0, 0, 0)))
