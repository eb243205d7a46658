# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What stage 1 asks of a teacher, and how a teacher's files are told apart."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

MODEL_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".py", ".safetensors", ".bin")
SAMPLES = 64  # blocks of a large file that are hashed
SAMPLE_BYTES = 65_536


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

    Files over 4 MiB are hashed by their size and 64 blocks of 64 KiB, evenly spread from the first byte to the last:
    training changes weights everywhere, and a 15 GB teacher is told from its fine-tuned twin in a moment.

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
        size = path.stat().st_size
        total.update(f"{len(name)}:{name}:{size}\n".encode())
        with open(path, "rb") as file:
            if size <= SAMPLES * SAMPLE_BYTES:
                total.update(file.read())
                continue
            for sample in range(SAMPLES):
                file.seek(sample * (size - SAMPLE_BYTES) // (SAMPLES - 1))
                total.update(file.read(SAMPLE_BYTES))
    return total.hexdigest()
