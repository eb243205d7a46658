# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Reads the weights of a checkpoint folder one by one, whole or in shards."""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open


def read_weights(folder: str | Path, device: str | torch.device = "cpu") -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of all safetensors files of a folder; nothing when it has none."""
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, framework="pt", device=str(device)) as stored:
            for name in stored.keys():  # noqa: SIM118 (the object is no dict)
                yield name, stored.get_tensor(name)
