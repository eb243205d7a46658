# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A teacher's vectors, computed once per text and kept:

folder/<digest of the teacher>/teacher.json           for people: which teacher
folder/<digest of the teacher>/....safetensors        the vectors, by text; see `unime.store`
folder/<digest of the teacher>/<digest of texts>.npy  one run's, row i the vector of its text i
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.plain_text import as_texts
from trainers.teachers.vector_files import VectorFiles, find_fault, shorten
from unime.distributed import LongWaitGroup
from unime.files import atomic_path, write_atomically
from unime.store import Store, digest, key_of

SHARD_SIZE = 1024  # texts per piece of work: what a killed process loses at most
CHECK_ROWS = 4096


def teacher_vectors(texts: Sequence[str], teacher: Any, folder: str | Path) -> np.ndarray:
    """The teacher's vectors of distinct texts, (N, D) float32, computed where they are missing. Every rank calls it.

    Row i is the vector of text i, in a memory map where vectors are kept: those of a teacher with a fingerprint, in a folder
    that all ranks see and that may hold those of several teachers, and those of `VectorFiles`.
    """
    with LongWaitGroup() as ranks:
        if not hasattr(teacher, "fingerprint"):
            if not hasattr(teacher, "encode"):
                raise TypeError(
                    f"teacher is a {type(teacher).__name__}; give a model, its name, a file or a column of vectors"
                )
            return ranks.broadcast_from_main(lambda: encode(teacher, texts))
        fingerprint = ranks.broadcast_from_main(lambda: teacher.fingerprint)
        store = Store(folder, fingerprint)
        array = store.folder / f"{digest(list(texts))}.npy"
        if not ranks.broadcast_from_main(lambda: is_usable(array, len(texts))):
            if isinstance(teacher, VectorFiles):
                ranks.broadcast_from_main(lambda: teacher.write_array(texts, array))
            else:
                ranks.broadcast_from_main(lambda: write_atomically(store.folder / "teacher.json", fingerprint))
                encode_missing(texts, teacher, store)
                ranks.broadcast_from_main(lambda: write_array(texts, store, array))
    return np.load(array, mmap_mode="r")


def is_usable(array: Path, count: int) -> bool:
    """Whether an array of an earlier run is whole and holds nothing but vectors."""
    try:
        vectors = np.load(array, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # none yet, or damaged: it is made again
        return False
    starts = range(0, count, CHECK_ROWS)
    return len(vectors) == count and all(find_fault(vectors[start : start + CHECK_ROWS]) is None for start in starts)


def encode_missing(texts: Sequence[str], teacher: Any, store: Store) -> None:
    """Compute and store the vectors that a store lacks, in pieces that are shared among the ranks."""
    store.ensure(
        [key_of(text) for text in texts],
        sorted(range(len(texts)), key=lambda number: len(texts[number]), reverse=True),
        SHARD_SIZE,
        lambda piece: encode(teacher, [texts[number] for number in piece]),
        "texts",
        spread=True,  # pieces take equally long, so that no rank waits and the time left is right from the start
    )
    if hasattr(teacher, "unload"):
        teacher.unload()  # the student trains without the teacher in memory


def write_array(texts: Sequence[str], store: Store, path: Path) -> None:
    """Copy the vectors of texts into a .npy file, (len(texts), D) float32, in the order of the texts."""
    with atomic_path(path) as temporary:

        def make_array(shape: tuple[int, ...], dtype: type) -> np.memmap:
            return np.lib.format.open_memmap(temporary, "w+", dtype, shape)

        store.read([key_of(text) for text in texts], make_array).flush()


def encode(teacher: Any, texts: Sequence[str]) -> np.ndarray:
    """The vectors that a teacher gives now, (N, D) float32; ValueError if one cannot be used, which names its text."""
    given = as_texts(teacher, texts) if hasattr(teacher, "modalities") else list(texts)  # of a SentenceTransformer
    vectors = np.asarray(teacher.encode(given), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ValueError(f"the teacher gave an array {vectors.shape} for {len(texts)} texts")
    if fault := find_fault(vectors):
        raise ValueError(
            f"the teacher's vector of the text {shorten(texts[fault[0]])} is {fault[1]}; remove the text, or run the "
            "teacher in float32"
        )
    return vectors
