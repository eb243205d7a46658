# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which places are taken by step and by chance."""

import numpy as np
import pytest

from trainers.mining.selection import sample_by_chance, sample_by_step


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
    assert sample_by_step(count, wanted, step).tolist() == expected


def test_chance():
    drawn = [sample_by_chance(20, 5, (0, 1, line)) for line in range(200)]
    assert all(len(set(places.tolist())) == 5 and (np.diff(places) > 0).all() for places in drawn)
    assert np.bincount(np.concatenate(drawn), minlength=20).min() > 20, "every place has its chance"
    assert (
        drawn[3].tolist() == sample_by_chance(20, 5, (0, 1, 3)).tolist() != sample_by_chance(20, 5, (1, 1, 3)).tolist()
    )
    assert sample_by_chance(3, 5, (0, 0, 0)).tolist() == [0, 1, 2] and not len(sample_by_chance(0, 5, (0, 0, 0)))
