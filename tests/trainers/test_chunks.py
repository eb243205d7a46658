# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Chunks keep to their limits, leave nothing out, and put inputs of like length together."""

import random

import pytest

from trainers.chunks import ChunkLimits, cut_chunks

LENGTHS = random.Random(0).choices([3, 5, 40, 41, 300], k=50)


@pytest.mark.parametrize("limits", [ChunkLimits(7), ChunkLimits(tokens=320), ChunkLimits(4, 320), ChunkLimits()])
def test_chunks(limits):
    chunks = list(cut_chunks(LENGTHS, limits))
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
    assert list(cut_chunks([9, 3, 1, 2, 5], ChunkLimits(2), has_image)) == [[2, 4], [0], [3, 1]]


def test_an_input_over_the_limit_stands_alone():
    assert list(cut_chunks([10, 2, 2], ChunkLimits(tokens=4))) == [[1, 2], [0]]
    assert list(cut_chunks([], ChunkLimits(2))) == []
