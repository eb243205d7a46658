# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Shares of the ranks put back together are the batch."""

import pytest
import torch

from trainers.shares import places_after_gathering, share_of


@pytest.mark.parametrize("count, world_size", [(7, 1), (8, 2), (9, 2), (5, 4), (4, 4)])
def test_shares_come_back_in_order(count, world_size):
    items = list(range(count))
    shares = [share_of(items, rank, world_size) for rank in range(world_size)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    gathered = torch.tensor([item for share in shares for item in share])
    assert gathered[places_after_gathering(count, world_size)].tolist() == items


def test_a_rank_without_work_is_refused():
    with pytest.raises(ValueError, match="3 distinct inputs cannot be shared by 4"):
        share_of([1, 2, 3], 0, 4)
