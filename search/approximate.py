# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Approximate search by faiss, for more vectors than an exact search can compare in time.

Any index of faiss's factory: `HNSW32` (a graph), `SQ8` (8-bit integers), `IVF1024,SQ8` (clusters). It may hold shortened
vectors, of a model that was trained for them. Its candidates are compared anew, exactly, on the whole vectors.
"""

from pathlib import Path
from typing import Any

import numpy as np

from unime.files import atomic_path
from unime.options import CommandError

CANDIDATES = 10  # looked at for each result wanted, before they are compared exactly
CHUNK = 65536  # vectors added at a time


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise CommandError('--factory needs the package faiss: pip install "unime[search]"') from error
    return faiss


def shorten(vectors: np.ndarray, dimensions: int | None) -> np.ndarray:
    """The first dimensions of vectors (n, D), to unit length again."""
    vectors = np.array(vectors[:, :dimensions], np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def check_factory(factory: str, dimensions: int | None, width: int | None) -> None:
    """Refuse what faiss does not know, and more dimensions than the vectors have, before anything is encoded."""
    if dimensions is not None and not 1 <= dimensions <= (width or dimensions):
        raise CommandError(f"--dimensions {dimensions} must be from 1 to the {width} of the model")
    try:
        _faiss().index_factory(dimensions or width or 64, factory)
    except RuntimeError as error:
        raise CommandError(f"--factory {factory} is unknown to faiss; try HNSW32, SQ8 or IVF1024,SQ8") from error


def build(path: Path, vectors: np.ndarray, slots: np.ndarray, factory: str, dimensions: int | None) -> None:
    """Write a faiss index of some rows of (N, D) vectors, whose ids are the rows."""
    faiss = _faiss()
    index = faiss.index_factory(dimensions or vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        index.train(shorten(vectors[slots[:: max(1, len(slots) // CHUNK)]], dimensions))
    index = faiss.IndexIDMap2(index)
    for start in range(0, len(slots), CHUNK):
        some = slots[start : start + CHUNK]
        index.add_with_ids(shorten(vectors[some], dimensions), some)
    with atomic_path(path) as temporary:
        faiss.write_index(index, str(temporary))


def load(path: Path) -> Any:
    """A faiss index from its file, read through a memory map where its kind can be."""
    faiss = _faiss()
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP)


def candidates(index: Any, query: np.ndarray, k: int) -> np.ndarray:
    """The rows that are likely to be nearest to a query (D,), some times as many as wanted."""
    count = max(1, min(index.ntotal, CANDIDATES * k))
    _, found = index.search(shorten(query[None], index.d), count)
    return found[0][found[0] >= 0]
