# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Vectors in one file of float32, read through a memory map, and the exact search over it.

The file has no head: which rows count says the catalog. Rows behind its count, left by a process that was killed before it
could tell the catalog, are written over.
"""

import mmap
import os
from pathlib import Path

import numpy as np

BLOCK_BYTES = 2**26  # of vectors compared at a time


class VectorFile:
    """(N, D) float32 unit vectors in a file.

    Args:
        path: The file; made when something is written.
        dimension: D.
        rows: N, how many rows count.
    """

    def __init__(self, path: Path, dimension: int, rows: int):
        self.path, self.dimension, self.rows = path, dimension, rows
        self._map: mmap.mmap | None = None
        if rows:
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self.vectors = np.frombuffer(self._map, np.float32, rows * dimension).reshape(rows, dimension)
        else:
            self.vectors = np.empty((0, dimension), np.float32)

    def write(self, vectors: np.ndarray) -> None:
        """Put vectors (n, D) behind the rows that count, on the disk when this returns."""
        self.path.touch()
        with open(self.path, "r+b") as file:
            file.seek(self.rows * self.dimension * 4)
            file.write(np.ascontiguousarray(vectors, np.float32).data)
            file.flush()
            os.fsync(file.fileno())

    def search(self, query: np.ndarray, slots: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest of some rows, exactly.

        Args:
            query: (D,), unit length.
            slots: (n,) the rows that may be found, in order.
            k: how many.

        Returns:
            Rows and their cosines, (min(k, n),), best first; of equal ones the first row first.
        """
        query = np.ascontiguousarray(query, np.float32)
        step = max(1, BLOCK_BYTES // (4 * self.dimension))
        scores = np.full(self.rows, -np.inf, np.float32)
        for start in range(0, self.rows, step):
            np.dot(self.vectors[start : start + step], query, out=scores[start : start + step])
            self._forget(start, start + step)
        return best(slots, scores[slots], k)

    def rescore(self, query: np.ndarray, slots: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As `search`, comparing only the rows given, which are few."""
        slots = np.sort(slots)
        return best(slots, self.vectors[slots] @ np.asarray(query, np.float32), k)

    def _forget(self, start: int, stop: int) -> None:
        """Give the pages of rows back, so that a large file does not count as this process's memory."""
        if self._map is not None and hasattr(self._map, "madvise"):
            width, page = 4 * self.dimension, mmap.PAGESIZE
            first, last = start * width // page * page, min(stop * width, len(self._map)) // page * page
            if last > first:
                self._map.madvise(mmap.MADV_DONTNEED, first, last - first)


def best(slots: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The slots of the k highest scores and these, best first; of equal ones the lowest slot first."""
    if len(scores) > k:
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = np.flatnonzero(scores >= least)  # more than k where several have the least
        slots, scores = slots[kept], scores[kept]
    order = np.lexsort((slots, -scores))[:k]
    return slots[order], scores[order]
