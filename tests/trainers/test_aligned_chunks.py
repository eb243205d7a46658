# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""All ranks get as many chunks of each kind, in the same order."""

import pytest
import torch

from trainers import aligned_chunks
from trainers.aligned_chunks import align_chunks

CPU = torch.device("cpu")


def chunk(name: str, image: bool = False) -> dict:
    return {"input_ids": name} | ({"pixel_values": name} if image else {})


def names(chunks: list[dict]) -> list[str]:
    return [entry["input_ids"] for entry in chunks]


@pytest.fixture
def ranks(monkeypatch):
    """Another rank has 2 chunks of text and 3 with images."""
    monkeypatch.setattr(
        aligned_chunks, "largest", lambda numbers, device: [max(pair) for pair in zip(numbers, (2, 3), strict=True)]
    )


def test_missing_chunks_are_repeated(ranks):
    aligned, is_filler = align_chunks([chunk("a"), chunk("b", True)], lambda with_image: pytest.fail(), CPU)
    assert names(aligned) == ["a", "a", "b", "b", "b"]
    assert is_filler == [False, True, False, True, True]


def test_a_kind_that_is_not_there_is_made(ranks):
    aligned, is_filler = align_chunks([chunk("a")], lambda with_image: chunk(f"made {with_image}", True), CPU)
    assert names(aligned) == ["a", "a", "made True", "made True", "made True"]
    aligned, is_filler = align_chunks([chunk("b", True)] * 4, lambda with_image: chunk(f"made {with_image}"), CPU)
    assert names(aligned) == ["made False", "made False", "b", "b", "b", "b"]
    assert is_filler == [True, True, False, False, False, False]


def test_nothing_is_added_to_the_rank_with_most(ranks):
    chunks = [chunk("a"), chunk("b"), chunk("c", True), chunk("d", True), chunk("e", True)]
    assert align_chunks(chunks, None, CPU) == (chunks, [False] * 5)


def test_order_is_checked(ranks):
    with pytest.raises(ValueError, match="must come before"):
        align_chunks([chunk("b", True), chunk("a")], None, CPU)
