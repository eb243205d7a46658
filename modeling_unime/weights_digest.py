# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A digest of every saved weight, so that a changed or mixed-up one can be found and named later.

A model with two rows of one matrix exchanged loads, runs and agrees with itself in every way it is used; only its
embeddings are wrong. The digest is written when the model is saved and compared by `unime check`.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch

DIGEST_FILE = "weights_digest.json"
DIGEST_BYTES = 16


def digest_weight(tensor: torch.Tensor) -> str:
    """Hash of a weight's dtype, shape and all its values."""
    digest = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=DIGEST_BYTES)
    if tensor.numel():
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def digest_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The digests of all weights, by name."""
    return {name: digest_weight(tensor) for name, tensor in sorted(weights.items())}


def write_digests(folder: str | Path, digests: Mapping[str, str]) -> None:
    """Write the digests beside the weights."""
    Path(folder, DIGEST_FILE).write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


def read_digest(folder: str | Path) -> dict[str, str] | None:
    """The digests of a folder, by weight; None when it has none."""
    file = Path(folder, DIGEST_FILE)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
