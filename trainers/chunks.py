# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Cutting a batch into the chunks that the gradient cache embeds one after another."""

from collections.abc import Callable, Sequence


def make_chunks(items: Sequence, chunk_size: int, process: Callable[[Sequence], dict]) -> list[dict]:
    """Model inputs of consecutive chunks.

    Args:
        items: the batch, already in the order that saves padding.
        chunk_size: items per chunk; the last may be smaller; 0 means all in one.
        process: items of a chunk -> model inputs.
    """
    size = chunk_size or len(items)
    return [dict(process(items[start : start + size])) for start in range(0, len(items), size)]
