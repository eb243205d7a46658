# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Shares of the ranks put back together are the batch."""

import pytest
import torch

from trainers.chunks import ChunkLimits
from trainers.shares import Share, chunks_of_share


@pytest.mark.parametrize("count, world_size", [(7, 1), (8, 2), (9, 2), (5, 4), (4, 4)])
def test_shares_come_back_in_order(count, world_size):
    items = list(range(count))
    shares = [Share(rank, world_size).of(items) for rank in range(world_size)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    gathered = torch.tensor([item for share in shares for item in share])
    assert gathered[Share(0, world_size).places(count)].tolist() == items


@pytest.mark.parametrize("world_size", [1, 3])
def test_chunks_of_all_ranks_come_back_in_order(world_size):
    """As the trainer does: embed chunk by chunk, put the share in order, gather, put the batch in order."""
    inputs = [5, 1, 9, 9, 2, 7, 3, 8]  # their lengths as well
    gathered, seen = [], []
    for rank in range(world_size):
        part = chunks_of_share(
            inputs,
            Share(rank, world_size),
            ChunkLimits(2),
            prepare=lambda entry: seen.append(entry) or (entry, "prepared"),
            length=lambda entry: entry[0],
            process=lambda entries: {"values": [entry for entry, _ in entries]},
        )
        embedded = torch.tensor([value for chunk in part["chunks"] for value in chunk["values"]])
        assert embedded.tolist() == sorted(embedded.tolist()), "inputs of like length share padding"
        gathered.append(embedded[part["own_places"]])
    assert torch.cat(gathered)[part["places"]].tolist() == inputs
    assert sorted(seen) == sorted(inputs), "each input is prepared once, by one rank"
