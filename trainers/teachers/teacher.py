# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What stage 1 asks of a teacher, and how a teacher's files are told apart."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from unime.files import remembered_digest

MODEL_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".py", ".safetensors", ".bin")


class Teacher(Protocol):
    """A text encoder whose similarities the student learns.

    Attributes:
        fingerprint: equal only for teachers that give equal vectors: it covers weights, prompt, length and precision,
            and no path. To know it must not need the weights in memory.
    """

    fingerprint: str

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, (len(texts), D) float32, in the order of the texts."""

    def unload(self) -> None:
        """Free the weights. A later `encode` loads them again."""


def hash_model_folder(folder: str | os.PathLike) -> str:
    """A hash of the files that make up a model, wherever the folder lies.

    All bytes count. The digests of large files are remembered, so that a 15 GB teacher is read once.

    Args:
        folder: searched at any depth, apart from hidden files and folders.

    Returns:
        32 hexadecimal digits.

    Raises:
        FileNotFoundError: the folder has no model files.
    """
    folder = Path(folder)
    files = sorted(
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.suffix in MODEL_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise FileNotFoundError(f"{folder}: no model files in this folder. Check the path of the teacher.")
    total = hashlib.blake2b(digest_size=16)
    for name, path in files:
        total.update(f"{len(name)}:{name}:{remembered_digest(path)}\n".encode())
    return total.hexdigest()
