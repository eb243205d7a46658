# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Unit vectors of distinct contents, encoded in shards."""

from collections.abc import Callable, Sequence

import numpy as np

from evaluation.encoder import BaseEncoder
from unime.data.example import Example
from unime.shards import Arrays, Shards, digest


def encode_contents(
    kind: str,
    contents: Sequence[Example],
    digests: Sequence[str],
    identity: object,
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
        shards: where vectors are kept.
        shard_size: contents of a shard.
        get_encoder: loads the encoder; called only if something is to be encoded.

    Returns:
        (N, D) float32, unit length, in memory.

    Raises:
        EncodingError: a content cannot be encoded, or its vector is not usable.
        MiningError: a shard is damaged.
    """
    # The costliest first: shards of like work, which pad little, and memory runs out at once if it does.
    order = sorted(range(len(contents)), key=lambda i: contents[i].cost, reverse=True)
    parts = [order[start : start + shard_size] for start in range(0, len(order), shard_size)]
    keys = [digest(identity, [digests[i] for i in part]) for part in parts]

    def compute(number: int) -> Arrays:
        vectors = get_encoder().encode([contents[i] for i in parts[number]], kind)  # (n, D)
        return {"vectors": vectors / np.linalg.norm(vectors, axis=1, keepdims=True)}

    shards.ensure(kind, keys, compute)
    vectors: np.ndarray | None = None
    for part, arrays in zip(parts, shards.read(kind, keys), strict=True):
        if vectors is None:
            vectors = np.empty((len(contents), arrays["vectors"].shape[1]), np.float32)  # (N, D)
        vectors[part] = arrays["vectors"]
    return vectors
