# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Cutting a batch into the chunks that are padded, and embedded, one after another."""

from collections.abc import Callable, Sequence


def make_chunks(items: Sequence, chunk_size: int, process: Callable[[Sequence], dict]) -> list[dict]:
    """Model inputs of consecutive chunks.

    Args:
        items: the batch, already in the order that saves padding.
        chunk_size: items per chunk; the last may be smaller.
        process: items of a chunk -> model inputs.
    """
    return [dict(process(items[start : start + chunk_size])) for start in range(0, len(items), chunk_size)]
