# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Teacher vectors on disk: computed once per text, read from there while the student trains.

    folder/<hash of the teacher>/meta.json          for people: which teacher, which format
    folder/<hash of the teacher>/shard-<hash>.npy   an array of records (key, vector); the name is the hash of the file

A key is a hash of the text and the teacher's fingerprint, which covers prompt and precision. A shard appears whole or
not at all, so that a run killed at any moment loses one shard's work at most and the next run goes on from there.
Shards are never changed: two processes that write at once leave two files, and where both hold the same text the first
one counts. Each shard is checked when it is opened: against its own hash, and for vectors that are not finite or zero.
A damaged shard is an error and not computed again in silence, since only a failing disk or another program makes one.
"""

import hashlib
import io
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from evaluation.atomic import remove_unfinished, write_atomically
from trainers.teachers.teacher import Teacher

logger = logging.getLogger(__name__)

FORMAT = 1
KEY_BYTES = 16
STORED_DTYPES = ("float32", "float16")
READ_BYTES = 1 << 24
CHECK_ROWS = 1024
ENCODE_TEXTS = 256  # given to the teacher at a time, so that the progress bar moves


class TeacherVectorsError(ValueError):
    """A vector or a file of the store that cannot be used."""


def _file_hash(path: Path) -> str:
    total = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            total.update(block)
    return total.hexdigest()


def _what_is_seen(file: Path) -> str:
    """What is visibly wrong with the vectors of a damaged file; "" when they cannot be read or look sound."""
    try:
        faults = _faults(np.load(file, mmap_mode="r")["vector"])
    except (EOFError, IndexError, OSError, ValueError):
        return ""
    return f": vector {min(faults)} is {faults[min(faults)]}" if faults else ""


def _faults(vectors: np.ndarray) -> dict[int, str]:
    """What is wrong with which rows of (N, D) vectors. Only a block is in memory at a time."""
    faults = {}
    for start in range(0, len(vectors), CHECK_ROWS):
        block = np.asarray(vectors[start : start + CHECK_ROWS], dtype=np.float32)  # (rows of the block, D)
        finite, zero = np.isfinite(block).all(axis=1), ~block.any(axis=1)
        for row in np.flatnonzero(~finite | zero):
            faults[start + int(row)] = "all zeros" if zero[row] else "not finite (NaN or infinity)"
    return faults


def _shorten(text: str, length: int = 80) -> str:
    return repr(text if len(text) <= length else f"{text[:length]}...")


class TeacherVectors:
    """Vectors of one teacher, by text. Make it with `TeacherVectors.open`.

    Nothing is kept in memory but one key per vector. A copy sent to another process opens the files by itself.

    Example:
        >>> vectors = TeacherVectors.open("cache", teacher).ensure(texts)  # doctest: +SKIP
        >>> rows = vectors.rows(texts)  # once  # doctest: +SKIP
        >>> vectors.take(rows[:32]).shape  # in every step  # doctest: +SKIP
        (32, 4096)
    """

    def __init__(self, folder: Path, teacher: Teacher | None, fingerprint: str, stored_dtype: str):
        self.folder = folder
        self.stored_dtype = stored_dtype
        self._teacher = teacher
        self._fingerprint = fingerprint
        self._files: list[Path] = []
        self._shards: list[np.ndarray] = []  # memory maps of records (key, vector)
        self._starts = np.zeros(1, np.int64)  # first row of each shard, then the number of rows
        self._keys = np.zeros(0, f"S{KEY_BYTES}")  # (rows,) sorted
        self._order = np.zeros(0, np.int64)  # (rows,) row of each sorted key
        self._bad: dict[int, str] = {}  # row -> what is wrong

    @classmethod
    def open(
        cls, folder: str | os.PathLike, teacher: Teacher | str, stored_dtype: str = "float32"
    ) -> "TeacherVectors":
        """Open the vectors of a teacher, or begin an empty store.

        Args:
            folder: the store; it may hold vectors of several teachers.
            teacher: the teacher, or its fingerprint where vectors are only read.
            stored_dtype: "float32", or "float16", which halves the files and moves a cosine by about 1e-4. The two are
                kept apart.

        Returns:
            The store.

        Raises:
            TeacherVectorsError: a file is damaged.
        """
        if stored_dtype not in STORED_DTYPES:
            raise ValueError(f"stored_dtype is {stored_dtype!r}. Use one of {', '.join(STORED_DTYPES)}.")
        fingerprint = teacher if isinstance(teacher, str) else teacher.fingerprint
        meta = {"format": FORMAT, "stored_dtype": stored_dtype, "teacher": fingerprint}
        content = json.dumps(meta, ensure_ascii=False, indent=1).encode("utf-8")
        path = Path(folder) / hashlib.blake2b(content, digest_size=8).hexdigest()
        if not (path / "meta.json").exists():
            write_atomically(path / "meta.json", content)
        remove_unfinished(path)
        store = cls(path, None if isinstance(teacher, str) else teacher, fingerprint, stored_dtype)
        store.refresh()
        return store

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_shards": None, "_teacher": None}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._shards = [np.load(file, mmap_mode="r") for file in self._files]

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def dimension(self) -> int | None:
        """Length of a vector; None while the store is empty."""
        return self._shards[0]["vector"].shape[1] if self._shards else None

    def refresh(self) -> None:
        """Take in shards that other processes have written. Rows known before keep their numbers.

        Raises:
            TeacherVectorsError: a file is damaged.
        """
        for file in sorted(set(self.folder.glob("shard-*.npy")) - set(self._files)):
            shard = self._open_shard(file)
            self._bad.update({len(self) + row: fault for row, fault in _faults(shard["vector"]).items()})
            self._files.append(file)
            self._shards.append(shard)
            self._starts = np.append(self._starts, len(self) + len(shard))
        if self._shards:
            keys = np.concatenate([shard["key"] for shard in self._shards])  # (rows,)
            self._order = np.argsort(keys, kind="stable")
            self._keys = keys[self._order]

    def _open_shard(self, file: Path) -> np.ndarray:
        mend = "Delete this file; its vectors are computed again."
        if file.stem != f"shard-{_file_hash(file)}":
            raise TeacherVectorsError(
                f"{file}: damaged, its content does not match its name{_what_is_seen(file)}. {mend}"
            )
        shard = np.load(file, mmap_mode="r")
        dimension = shard["vector"].shape[1]
        if self.dimension not in (None, dimension):
            known = f"{self.dimension} in {self._files[0].name}"
            raise TeacherVectorsError(f"{file}: vectors of length {dimension}, but {known}. {mend}")
        return shard

    def _key_array(self, texts: Sequence[str]) -> np.ndarray:
        if isinstance(texts, str):
            raise TypeError("A list of texts is needed, not one text.")
        salt = hashlib.blake2b(self._fingerprint.encode("utf-8"), digest_size=32).digest()
        keys = (hashlib.blake2b(text.encode("utf-8"), digest_size=KEY_BYTES, key=salt).digest() for text in texts)
        return np.frombuffer(b"".join(keys), dtype=f"S{KEY_BYTES}")  # (N,)

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
                    file = self._files[np.searchsorted(self._starts, row, side="right") - 1]
                    raise TeacherVectorsError(
                        f"{file}: the vector of the text {_shorten(text)} is {self._bad[int(row)]}. "
                        "Delete this file; its vectors are computed again."
                    )
        return rows

    def ensure(self, texts: Sequence[str], shard_size: int = 4096, progress: bool = True) -> "TeacherVectors":
        """Compute the vectors that are missing, and store them shard by shard. The teacher is unloaded afterwards.

        Args:
            texts: any texts, in any order; equal ones are computed once.
            shard_size: vectors per file: what a killed run loses at most. A process keeps a file handle per shard, so
                raise it beyond some million texts.
            progress: show a bar with throughput and time left.

        Returns:
            The store itself.

        Raises:
            TeacherVectorsError: a vector is not finite or zero, in the store or new; the message names the text.
        """
        if shard_size < 1:
            raise ValueError(f"shard_size is {shard_size}. It must be at least 1.")
        self.refresh()
        found = self._find(texts)
        distinct = len(set(texts))
        missing = list(dict.fromkeys(text for text, row in zip(texts, found, strict=True) if row < 0))
        if not missing:
            return self
        if self._teacher is None:
            raise TeacherVectorsError(
                f"{self.folder}: no vectors of {len(missing)} texts, the first {_shorten(missing[0])}. "
                "Open the store with the teacher itself to compute them."
            )
        done = distinct - len(missing)
        logger.info("Teacher vectors: %d of %d are stored, %d to compute.", done, distinct, len(missing))
        with tqdm(total=distinct, initial=done, desc="Teacher", unit=" texts", disable=not progress) as bar:
            for start in range(0, len(missing), shard_size):
                self._write_shard(missing[start : start + shard_size], bar)
        self._teacher.unload()
        self.refresh()
        return self

    def _write_shard(self, texts: list[str], bar: tqdm) -> None:
        texts = sorted(texts, key=len, reverse=True)  # texts of a length together need little padding
        parts = []
        for start in range(0, len(texts), ENCODE_TEXTS):
            part = texts[start : start + ENCODE_TEXTS]
            parts.append(self._encode(part))
            bar.update(len(part))
        vectors = np.concatenate(parts)  # (N, D)
        records = np.empty(len(texts), [("key", f"S{KEY_BYTES}"), ("vector", self.stored_dtype, vectors.shape[1:])])
        records["key"], records["vector"] = self._key_array(texts), vectors
        buffer = io.BytesIO()
        np.save(buffer, records)
        name = hashlib.blake2b(buffer.getbuffer(), digest_size=16).hexdigest()
        write_atomically(self.folder / f"shard-{name}.npy", buffer.getbuffer())

    def _encode(self, texts: list[str]) -> np.ndarray:
        vectors = np.asarray(self._teacher.encode(texts), dtype=np.float32)  # (N, D)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise TeacherVectorsError(f"The teacher gave an array {vectors.shape} for {len(texts)} texts.")
        if self.dimension not in (None, vectors.shape[1]):
            raise TeacherVectorsError(
                f"The teacher gives vectors of length {vectors.shape[1]}, but {self.folder} has {self.dimension}."
            )
        for row, fault in _faults(vectors).items():
            raise TeacherVectorsError(
                f"The teacher's vector of the text {_shorten(texts[row])} is {fault}; {self.folder} stays without it. "
                "Remove the text, or run the teacher in float32."
            )
        return vectors

    def rows(self, texts: Sequence[str]) -> np.ndarray:
        """Where the vectors of texts are.

        Args:
            texts: any texts of the store.

        Returns:
            Row numbers for `take`, (len(texts),) int64. They hold for this object, not for a later opening.

        Raises:
            TeacherVectorsError: a text has no vector, or one that is not finite or zero.
        """
        rows = self._find(texts)
        if (rows < 0).any():
            text = texts[int(np.flatnonzero(rows < 0)[0])]
            raise TeacherVectorsError(f"{self.folder}: no vector of the text {_shorten(text)}. Call ensure first.")
        return rows

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Read vectors.

        Args:
            rows: (N,) row numbers given by `rows`.

        Returns:
            (N, D) float32.

        Raises:
            IndexError: a row is out of range.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not (0 <= rows.min() and rows.max() < len(self)):
            raise IndexError(f"Rows {rows.min()} to {rows.max()} are asked for, but {self.folder} has {len(self)}.")
        shards = np.searchsorted(self._starts, rows, side="right") - 1  # (N,)
        vectors = np.empty((len(rows), self.dimension or 0), np.float32)  # (N, D)
        for shard in np.unique(shards):
            here = shards == shard
            vectors[here] = self._shards[shard]["vector"][rows[here] - self._starts[shard]]
        return vectors

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts, (len(texts), D) float32: `rows` and `take` in one step."""
        return self.take(self.rows(texts))
