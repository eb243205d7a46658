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
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from trainers.teachers.teacher import Teacher
from trainers.teachers.vector_arrays import TeacherVectorsError, find_faults
from trainers.teachers.vector_reader import KEY_BYTES, VectorReader, shorten
from unime.distributed import LongWaitGroup
from unime.files import remove_unfinished, write_atomically

logger = logging.getLogger(__name__)

FORMAT = 1
STORED_DTYPES = ("float32", "float16")
READ_BYTES = 1 << 24
SHARD_SIZE = 4096  # vectors per file
ENCODE_TEXTS = 256  # given to the teacher at a time, so that the progress bar moves
VISIBLE_SECONDS = 120.0  # within which a network file system shows what another machine has written


def file_hash(path: Path) -> str:
    """A hash of a file's whole content, 32 hexadecimal digits."""
    total = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            total.update(block)
    return total.hexdigest()


def _what_is_seen(file: Path) -> str:
    """What is visibly wrong with the vectors of a damaged file; "" when they cannot be read or look sound."""
    try:
        faults = find_faults(np.load(file, mmap_mode="r")["vector"])
    except (EOFError, IndexError, OSError, ValueError):
        return ""
    return f": vector {min(faults)} is {faults[min(faults)]}" if faults else ""


class TeacherVectors(VectorReader):
    """Vectors of one teacher, by text, computed where they are missing. Make it with `TeacherVectors.open`.

    Nothing is kept in memory but one key per vector.

    Example:
        >>> vectors = TeacherVectors.open("cache", teacher).ensure(texts)  # doctest: +SKIP
        >>> rows = vectors.rows(texts)  # once  # doctest: +SKIP
        >>> vectors.take(rows[:32]).shape  # in every step  # doctest: +SKIP
        (32, 4096)
    """

    absent_mend = "Call ensure first."
    bad_mend = "Delete this file; its vectors are computed again."

    def __init__(self, folder: Path, teacher: Teacher | None, fingerprint: str, stored_dtype: str):
        super().__init__(folder, salt=hashlib.blake2b(fingerprint.encode("utf-8"), digest_size=32).digest())
        self.folder = folder
        self.stored_dtype = stored_dtype
        self._teacher = teacher

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
        return {**super().__getstate__(), "_teacher": None}

    def _map(self, file: Path) -> np.ndarray:
        return np.load(file, mmap_mode="r")["vector"]

    def refresh(self) -> None:
        """Take in shards that other processes have written. Rows known before keep their numbers.

        Raises:
            TeacherVectorsError: a file is damaged.
        """
        new = sorted(set(self.folder.glob("shard-*.npy")) - set(self._files))
        for file in new:
            self._check(file)
            self._add(file, self._map(file))
        if new:
            self._index(np.concatenate([np.load(file, mmap_mode="r")["key"] for file in self._files]))

    def _check(self, file: Path) -> None:
        if file.stem != f"shard-{file_hash(file)}":
            raise TeacherVectorsError(
                f"{file}: damaged, its content does not match its name{_what_is_seen(file)}. {self.bad_mend}"
            )
        dimension = self._map(file).shape[1]
        if self.dimension not in (None, dimension):
            known = f"{self.dimension} in {self._files[0].name}"
            raise TeacherVectorsError(f"{file}: vectors of length {dimension}, but {known}. {self.bad_mend}")

    def missing(self, texts: Sequence[str]) -> list[str]:
        """The distinct texts that have no vector yet, in their order.

        Raises:
            TeacherVectorsError: a text has a vector that is not finite or zero.
        """
        distinct = list(dict.fromkeys(texts))
        return [text for text, row in zip(distinct, self._find(distinct), strict=True) if row < 0]

    def ensure(self, texts: Sequence[str], shard_size: int = SHARD_SIZE, progress: bool = True) -> "TeacherVectors":
        """Compute the vectors that are missing, and store them shard by shard. The teacher is unloaded afterwards.

        With several ranks every rank must call it, with the same texts. Each encodes its share with its own teacher:
        the missing texts are dealt out by length, so that all have equally much to do, and one rank says which are
        missing, so that the shares fit together whatever another run writes meanwhile.

        Args:
            texts: any texts, in any order; equal ones are computed once.
            shard_size: vectors per file: what a killed run loses at most. A process keeps a file handle per shard, so
                raise it beyond some million texts.
            progress: show a bar with throughput and time left, on rank 0.

        Returns:
            The store itself.

        Raises:
            TeacherVectorsError: a vector is not finite or zero, in the store or new; the message names the text. Or
                this rank does not see what another one wrote.
        """
        if shard_size < 1:
            raise ValueError(f"shard_size is {shard_size}. It must be at least 1.")
        with LongWaitGroup() as ranks:
            self.refresh()
            missing = ranks.broadcast_from_main(lambda: self.missing(texts))
            if not missing:
                return self.see(texts)
            if self._teacher is None:
                raise TeacherVectorsError(
                    f"{self.folder}: no vectors of {len(missing)} texts, the first {shorten(missing[0])}. "
                    "Open the store with the teacher itself to compute them."
                )
            distinct = len(set(texts))
            done = distinct - len(missing)
            logger.info("Teacher vectors: %d of %d are stored, %d to compute.", done, distinct, len(missing))
            share = sorted(missing, key=len, reverse=True)[ranks.rank :: ranks.size]
            shards = -(-len(share) // shard_size)
            shown = progress and ranks.rank == 0
            with tqdm(total=distinct, initial=done, desc="Teacher", unit=" texts", disable=not shown) as bar:
                for number in range(shards):  # each with texts of all lengths: the time left is right from the start
                    self._write_shard(share[number::shards], lambda count: _advance(bar, count * ranks.size))
            self._teacher.unload()
            ranks.wait()
        return self.see(texts)

    def see(self, texts: Sequence[str]) -> "TeacherVectors":
        """Take in what other processes have written, and wait a moment for a network file system to show it.

        Raises:
            TeacherVectorsError: the vectors of some texts do not appear.
        """
        end = time.monotonic() + VISIBLE_SECONDS
        self.refresh()
        while missing := self.missing(texts):
            if time.monotonic() > end:
                raise TeacherVectorsError(
                    f"{self.folder}: the vectors of {len(missing)} texts that another process has written do not "
                    f"appear here, the first {shorten(missing[0])}. Put the folder on a file system that all machines "
                    "share, and give every process the same texts."
                )
            time.sleep(1)
            self.refresh()
        return self

    def _write_shard(self, texts: list[str], advance: Callable[[int], object]) -> None:
        texts = sorted(texts, key=len, reverse=True)  # texts of a length together need little padding
        parts = []
        for start in range(0, len(texts), ENCODE_TEXTS):
            parts.append(self._encode(texts[start : start + ENCODE_TEXTS]))
            advance(len(parts[-1]))
        self.write(texts, np.concatenate(parts))

    def write(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Store the vectors of texts as one shard; `refresh` makes them known.

        Args:
            texts: N distinct texts.
            vectors: (N, D), unit length.
        """
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
        for row, fault in find_faults(vectors).items():
            raise TeacherVectorsError(
                f"The teacher's vector of the text {shorten(texts[row])} is {fault}; {self.folder} stays without it. "
                "Remove the text, or run the teacher in float32."
            )
        return vectors


def _advance(bar: tqdm, count: int) -> None:
    """Move a bar on, not beyond its end: the other ranks' part is an estimate."""
    bar.update(min(count, bar.total - bar.n))
