# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Chunks keep to their limits and leave nothing out; those of all ranks put back together are the batch."""

import random

import pytest
import torch

from trainers.chunks import ChunkLimits, RankSlice, cut_chunks

LENGTHS = random.Random(0).choices([3, 5, 40, 41, 300], k=50)


@pytest.mark.parametrize("limits", [ChunkLimits(7), ChunkLimits(tokens=320), ChunkLimits(4, 320), ChunkLimits()])
def test_chunks(limits):
    chunks = cut_chunks(LENGTHS, limits)
    assert sorted(index for chunk in chunks for index in chunk) == list(range(len(LENGTHS)))
    order = [LENGTHS[index] for chunk in chunks for index in chunk]
    assert order == sorted(order)
    for chunk in chunks:
        assert limits.inputs is None or len(chunk) <= limits.inputs
        longest = max(LENGTHS[index] for index in chunk)
        assert limits.tokens is None or len(chunk) == 1 or len(chunk) * longest <= limits.tokens
    if limits.tokens and not limits.inputs:
        assert len(chunks[0]) > 10 > len(chunks[-1]), "many labels or one picture"


def test_inputs_with_and_without_images_are_apart():
    has_image = [False, True, False, True, False]
    assert cut_chunks([9, 3, 1, 2, 5], ChunkLimits(2), has_image) == [[2, 4], [0], [3, 1]]


def test_an_input_over_the_limit_stands_alone():
    assert cut_chunks([10, 2, 2], ChunkLimits(tokens=4)) == [[1, 2], [0]]
    assert cut_chunks([], ChunkLimits(2)) == []


@pytest.mark.parametrize("count, world_size", [(7, 1), (8, 2), (9, 2), (5, 4), (4, 4), (2, 3)])
def test_chunks_of_all_ranks_come_back_in_order(count, world_size):
    """As the trainer does: embed chunk by chunk, bring the rank's inputs in order, gather, bring the batch in order."""
    lengths = LENGTHS[:count]
    inputs = list(enumerate(lengths))
    slices = [RankSlice(rank, world_size) for rank in range(world_size)]
    counts = [len(rank_slice.of(inputs)) for rank_slice in slices]
    assert max(counts) - min(counts) <= 1
    gathered = []
    for rank_slice in slices:
        own = rank_slice.of(inputs)
        chunks = cut_chunks([length for _, length in own], ChunkLimits(2))
        orders = rank_slice.orders(chunks, count)
        embedded = [own[index] for chunk in chunks for index in chunk]
        assert [length for _, length in embedded] == sorted(length for _, length in own), "they share padding"
        gathered += [embedded[index] for index in orders["local_order"]]
    assert [gathered[index] for index in orders["global_order"]] == inputs
    assert orders["global_order"].dtype == torch.int64
