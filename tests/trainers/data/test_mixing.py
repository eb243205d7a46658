# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""How often an epoch sees a row."""

from collections import Counter

import numpy as np
import pytest

from trainers.data.mixing import mix_rows, rows_per_epoch


@pytest.mark.parametrize(
    "rows, weight, expected", [(10, 1.0, 10), (10, 2, 20), (5, 0.5, 3), (10, 0.25, 3), (3, 0.01, 1), (0, 2, 0)]
)
def test_rows_per_epoch_rounds_half_up(rows, weight, expected):
    assert rows_per_epoch(rows, weight) == expected


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_weight(weight):
    with pytest.raises(ValueError, match="positive numbers"):
        rows_per_epoch(10, weight)


def test_whole_weights_repeat_every_row():
    rows = mix_rows([3, 2], [1.0, 2.0], seed=0, epoch=5)
    assert rows.dtype == np.int64
    assert rows.tolist() == [0, 1, 2, 3, 4, 3, 4]


def test_part_of_a_source_is_chosen_by_seed_and_goes_round():
    epochs = [mix_rows([100, 40], [0.25, 1.5], seed=1, epoch=epoch) for epoch in range(4)]
    assert {len(rows) for rows in epochs} == {25 + 60}
    first = [set(rows[rows < 100].tolist()) for rows in epochs]
    assert set.union(*first) == set(range(100)) and sum(map(len, first)) == 100  # four quarters
    second = Counter(row for rows in epochs for row in rows[rows >= 100].tolist())
    assert set(second) == set(range(100, 140)) and set(second.values()) == {6}  # 4 x 1.5
    assert mix_rows([100, 40], [0.25, 1.5], seed=1, epoch=2).tolist() == epochs[2].tolist()
    assert mix_rows([100, 40], [0.25, 1.5], seed=2, epoch=2).tolist() != epochs[2].tolist()
