# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Teacher vectors in memory-mapped files, found by text: what all sources of them share.

Only keys are in memory: a hash of 16 bytes per text. A step of training reads the rows of its batch and nothing else.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from trainers.teachers.vector_arrays import TeacherVectorsError, Vectors, as_float32, find_faults

KEY_BYTES = 16


def text_keys(texts: Iterable[str], salt: bytes = b"") -> np.ndarray:
    """Keys of N texts, (N,) bytes; with another salt (32 bytes at most) others."""
    if isinstance(texts, str):
        raise TypeError("A list of texts is needed, not one text.")
    keys = (hashlib.blake2b(text.encode("utf-8"), digest_size=KEY_BYTES, key=salt).digest() for text in texts)
    return np.frombuffer(b"".join(keys), dtype=f"S{KEY_BYTES}")


def shorten(text: str, length: int = 80) -> str:
    """A text for a message: quoted, and cut if it is long."""
    return repr(text if len(text) <= length else f"{text[:length]}...")


class VectorReader:
    """Base of `TeacherVectors` and `VectorFile`: vectors by text. A copy sent to another process opens the files itself.

    A subclass supplies `_map`, adds its files with `_add`, and says what to do about a fault.

    Args:
        place: file or folder, for messages.
        salt: of the keys, see `text_keys`.
    """

    absent_mend: str  # what to do about a text without a vector
    bad_mend: str  # what to do about a vector that is not finite or zero

    def __init__(self, place: Path, salt: bytes = b""):
        self._place = place
        self._salt = salt
        self._files: list[Path] = []
        self._maps: list[Vectors] = []  # (rows, D) of each file
        self._starts = np.zeros(1, np.int64)  # first row of each file, then the number of rows
        self._keys = np.zeros(0, f"S{KEY_BYTES}")  # (rows,) sorted
        self._order = np.zeros(0, np.int64)  # (rows,) row of each sorted key
        self._bad: dict[int, str] = {}  # row -> what is wrong

    def _map(self, file: Path) -> Vectors:
        """Memory map of a file's vectors, (rows, D)."""
        raise NotImplementedError

    def _add(self, file: Path, vectors: Vectors) -> None:
        """Take in the mapped vectors of a file. Rows known before keep their numbers."""
        self._bad.update({len(self) + row: fault for row, fault in find_faults(vectors).items()})
        self._files.append(file)
        self._maps.append(vectors)
        self._starts = np.append(self._starts, len(self) + len(vectors))

    def _index(self, keys: np.ndarray) -> None:
        """Make rows known by their keys, (rows,). Where two are equal, the first row counts."""
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_maps": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._maps = [self._map(file) for file in self._files]

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def dimension(self) -> int | None:
        """Length of a vector; None while there is none."""
        return self._maps[0].shape[1] if self._maps else None

    def _key_array(self, texts: Sequence[str]) -> np.ndarray:
        return text_keys(texts, self._salt)

    def _find(self, texts: Sequence[str]) -> np.ndarray:
        """Rows of texts, (N,) int64; -1 for a text without a vector."""
        keys = self._key_array(texts)
        if not len(self):
            return np.full(len(keys), -1, np.int64)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self) - 1)
        rows = np.where(self._keys[places] == keys, self._order[places], -1)  # (N,)
        if self._bad:
            for text, row in zip(texts, rows, strict=True):
                if int(row) in self._bad:
                    number = int(np.searchsorted(self._starts, row, side="right")) - 1
                    raise TeacherVectorsError(
                        f"{self._files[number]}: the vector of the text {shorten(text)}, row "
                        f"{row - self._starts[number]} counted from 0, is {self._bad[int(row)]}. {self.bad_mend}"
                    )
        return rows

    def rows(self, texts: Sequence[str]) -> np.ndarray:
        """Where the vectors of texts are.

        Args:
            texts: any texts that have vectors.

        Returns:
            Row numbers for `take`, (len(texts),) int64. They hold for this object, not for a later opening.

        Raises:
            TeacherVectorsError: a text has no vector, or one that is not finite or zero.
        """
        rows = self._find(texts)
        absent = np.flatnonzero(rows < 0)
        if len(absent):
            others = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
            raise TeacherVectorsError(
                f"{self._place}: no vector of the text {shorten(texts[int(absent[0])])}{others}. {self.absent_mend}"
            )
        return rows

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read vectors.

        Args:
            rows: (N,) row numbers given by `rows`.

        Returns:
            (N, D) float32, unit length.

        Raises:
            IndexError: a row is out of range.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not (0 <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"Rows {rows.min()} to {rows.max()} are asked for, but {self._place} has {len(self)}.")
        files = np.searchsorted(self._starts, rows, side="right") - 1  # (N,)
        vectors = np.empty((len(rows), self.dimension or 0), np.float32)  # (N, D)
        for file in np.unique(files):
            here = files == file
            vectors[here] = as_float32(self._maps[file][rows[here] - self._starts[file]])
        return vectors

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts, (len(texts), D) float32: `rows` and `take` in one step."""
        return self.take(self.rows(texts))
