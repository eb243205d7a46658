# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Unit vectors of distinct contents, encoded in shards."""

from collections.abc import Callable, Sequence

import numpy as np

from evaluation.encoder import BaseEncoder
from trainers.mining.pool import Content
from unime.data.images import ImageStore
from unime.shards import Arrays, Shards, digest


def encode_contents(
    kind: str,
    contents: Sequence[Content],
    digests: Sequence[str],
    identity: object,
    stores: Sequence[ImageStore],
    shards: Shards,
    shard_size: int,
    get_encoder: Callable[[], BaseEncoder],
) -> np.ndarray:
    """Encode contents, or read what an earlier run has encoded.

    Args:
        kind: what they are, for names of files and messages.
        contents: distinct contents.
        digests: of each content.
        identity: what else vectors depend on, ready for JSON.
        stores: where their images are.
        shards: where vectors are kept.
        shard_size: contents of a shard.
        get_encoder: loads the encoder; called only if something is to be encoded.

    Returns:
        (N, D) float32, unit length, in memory.

    Raises:
        EncodingError: a content cannot be encoded, or its vector is not usable.
        MiningError: a shard is damaged.
    """
    # The costliest first, within a store: shards of like work, which pad little, and memory runs out at once if it does.
    order = sorted(
        range(len(contents)),
        key=lambda i: (contents[i].store, contents[i].example.image is None, -len(contents[i].example.text or "")),
    )
    parts = [
        part[start : start + shard_size]
        for part in _split_by_store(order, contents)
        for start in range(0, len(part), shard_size)
    ]
    keys = [digest(identity, [digests[i] for i in part]) for part in parts]

    def compute(number: int) -> Arrays:
        part = parts[number]
        store = contents[part[0]].store
        examples = [contents[i].example for i in part]
        vectors = get_encoder().encode(examples, None if store < 0 else stores[store], kind)  # (n, D)
        return {"vectors": vectors / np.linalg.norm(vectors, axis=1, keepdims=True)}

    shards.ensure(kind, keys, compute)
    vectors: np.ndarray | None = None
    for part, arrays in zip(parts, shards.read(kind, keys), strict=True):
        if vectors is None:
            vectors = np.empty((len(contents), arrays["vectors"].shape[1]), np.float32)  # (N, D)
        vectors[part] = arrays["vectors"]
    return vectors


def _split_by_store(order: list[int], contents: Sequence[Content]) -> list[list[int]]:
    """Contents of one store each, in their order: an encoder is given one store at a time."""
    parts: dict[int, list[int]] = {}
    for i in order:
        parts.setdefault(contents[i].store, []).append(i)
    return list(parts.values())
