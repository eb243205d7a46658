# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Cutting a batch into the chunks that are padded, and embedded, one after another."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class ChunkLimits(NamedTuple):
    """How large a chunk may be.

    Args:
        inputs: inputs it may hold (default: any number).
        tokens: tokens it may hold, those of padding included (default: any number). An input that has more makes a chunk
            by itself.
    """

    inputs: int | None = None
    tokens: int | None = None

    def allow(self, inputs: int, longest: int) -> bool:
        """Whether so many inputs, padded to so many tokens, make a chunk."""
        return (self.inputs is None or inputs <= self.inputs) and (
            self.tokens is None or inputs * longest <= self.tokens
        )


ANY_SIZE = ChunkLimits()


def cut_chunks(
    lengths: Sequence[int], limits: ChunkLimits, has_image: Sequence[bool] | None = None
) -> Iterator[list[int]]:
    """Inputs of like length put together, as many as a chunk may hold.

    Args:
        lengths: tokens of each input.
        limits: of a chunk.
        has_image: of each input, whether it has one (default: none has). A chunk holds only such or only other inputs.

    Yields:
        Numbers of the inputs of each chunk: those without images first, the shortest first. Every input is in one chunk.
    """
    has_image = [False] * len(lengths) if has_image is None else has_image
    chunk: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (has_image[index], lengths[index], index)):
        same_kind = chunk and has_image[index] == has_image[chunk[0]]
        if chunk and not (same_kind and limits.allow(len(chunk) + 1, lengths[index])):
            yield chunk
            chunk = []
        chunk.append(index)
    if chunk:
        yield chunk
