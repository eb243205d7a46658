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


def cut_chunks(lengths: Sequence[int], limits: ChunkLimits) -> Iterator[list[int]]:
    """Inputs of like length put together, as many as a chunk may hold.

    Args:
        lengths: tokens of each input.
        limits: of a chunk.

    Yields:
        Numbers of the inputs of each chunk, shortest inputs first; every input is in one chunk.
    """
    chunk: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        if chunk and not limits.allow(len(chunk) + 1, lengths[index]):
            yield chunk
            chunk = []
        chunk.append(index)
    if chunk:
        yield chunk
