# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The rows of an index, in SQLite: which files were seen, what parts they have, and where the vector of each lies.

A vector belongs to a content, which several parts may share: a copy of a picture, or one that was moved, is not encoded
again. A file's rows appear together or not at all.
"""

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from search.documents import Part
from unime.options import CommandError

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS contents (slot INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, changed INTEGER NOT NULL, digest TEXT NOT NULL, fault TEXT
);
CREATE TABLE IF NOT EXISTS parts (
    path TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, slot INTEGER NOT NULL, text TEXT,
    PRIMARY KEY (path, number)
);
CREATE INDEX IF NOT EXISTS parts_by_slot ON parts (slot);
"""


class FileRow(NamedTuple):
    """A file as it was when it was read; `fault` says why it could not be."""

    path: str
    size: int
    changed: int  # nanoseconds
    digest: str
    fault: str | None = None


class Catalog:
    """The tables of one index. Safe in threads; several processes may read while one writes."""

    def __init__(self, path: Path):
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        try:
            if not self._rows("SELECT 1 FROM sqlite_master WHERE name = 'parts_by_slot'"):
                self._connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        except sqlite3.DatabaseError as error:
            raise CommandError(f"{path} is no index, or damaged ({error}); delete it and index again") from error

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def transaction(self, write: bool = False) -> Iterator[None]:
        """What is read inside belongs together; what is written appears at the end, or not at all after an error."""
        with self._lock:
            if self._connection.in_transaction:  # inside another
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def version(self) -> tuple[int, int]:
        """Differs after every change, by this process or another."""
        return self._rows("PRAGMA data_version")[0][0], self._connection.total_changes

    def get(self, name: str, default: Any = None) -> Any:
        """What is noted under a name."""
        rows = self._rows("SELECT value FROM meta WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else default

    def put(self, **values: Any) -> None:
        """Note values, which JSON can hold, under names."""
        with self.transaction(write=True):
            for name, value in values.items():
                self._rows("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    def files(self, folder: str) -> dict[str, FileRow]:
        """The files that were seen in a folder, by path."""
        place = folder.rstrip("/") + "/"
        rows = self._rows("SELECT * FROM files WHERE substr(path, 1, ?) = ?", (len(place), place))
        return {row[0]: FileRow(*row) for row in rows}

    def put_file(self, file: FileRow, parts: Iterable[Part] = ()) -> None:
        """Replace what is known of a file; the contents of its parts must be there."""
        with self.transaction(write=True):
            self.remove([file.path])
            self._rows("INSERT INTO files VALUES (?, ?, ?, ?, ?)", file)
            for part in parts:
                self._rows(
                    "INSERT INTO parts SELECT ?, ?, ?, slot, ? FROM contents WHERE key = ?",
                    (part.path, part.number, part.kind, part.text, part.key),
                )

    def remove(self, paths: Iterable[str]) -> None:
        """Forget files."""
        with self.transaction(write=True):
            for path in paths:
                self._rows("DELETE FROM files WHERE path = ?", (path,))
                self._rows("DELETE FROM parts WHERE path = ?", (path,))

    def missing(self, keys: Iterable[str]) -> set[str]:
        """Which contents have no vector yet."""
        return {key for key in set(keys) if not self._rows("SELECT 1 FROM contents WHERE key = ?", (key,))}

    def next_slot(self) -> int:
        """Where the next vector goes; a place is never used twice, for a reader may hold its number."""
        return self.get("slots", 0)

    def put_contents(self, keys: Sequence[str]) -> None:
        """Say that vectors lie from `next_slot` on."""
        with self.transaction(write=True):
            first = self.next_slot()
            for slot, key in enumerate(keys, first):
                self._rows("INSERT INTO contents VALUES (?, ?)", (slot, key))
            self.put(slots=first + len(keys))

    def sweep(self) -> None:
        """Forget contents that no file has any more."""
        with self.transaction(write=True):
            self._rows("DELETE FROM contents WHERE slot NOT IN (SELECT slot FROM parts)")

    def renumber(self) -> np.ndarray:
        """Give the vectors of all contents new places from 0 on, without gaps: the old place of each, (n,) int64."""
        with self.transaction(write=True):
            old = [slot for (slot,) in self._rows("SELECT slot FROM contents ORDER BY slot")]
            for new, slot in enumerate(old):  # in order, so that the new place is free
                if new != slot:
                    self._rows("UPDATE contents SET slot = ? WHERE slot = ?", (new, slot))
                    self._rows("UPDATE parts SET slot = ? WHERE slot = ?", (new, slot))
            self.put(slots=len(old))
        return np.array(old, np.int64)

    def slots(self, kinds: Sequence[str]) -> np.ndarray:
        """The places of the vectors that can be found, (n,) int64, in order."""
        rows = self._rows(
            f"SELECT DISTINCT slot FROM parts WHERE kind IN ({', '.join('?' * len(kinds))}) ORDER BY slot", kinds
        )
        return np.array([slot for (slot,) in rows], np.int64)

    def count_contents(self) -> int:
        """Vectors that belong to a content."""
        return self._rows("SELECT COUNT(*) FROM contents")[0][0]

    def parts(self, slot: int, kinds: Sequence[str]) -> list[tuple[str, int, str, str | None]]:
        """Path, number, kind and text of the parts that have a vector, in the order of their paths."""
        return self._rows(
            f"SELECT path, number, kind, text FROM parts WHERE slot = ? AND kind IN ({', '.join('?' * len(kinds))}) "
            "ORDER BY path, number",
            (slot, *kinds),
        )

    def slot_of(self, path: str, number: int) -> int | None:
        """The place of a part's vector; None if the part is not there."""
        rows = self._rows("SELECT slot FROM parts WHERE path = ? AND number = ?", (path, number))
        return rows[0][0] if rows else None

    def summary(self) -> dict[str, int]:
        """Parts by kind, and the files that cannot be read."""
        counts = dict(self._rows("SELECT kind, COUNT(*) FROM parts GROUP BY kind ORDER BY kind"))
        broken = self._rows("SELECT COUNT(*) FROM files WHERE fault IS NOT NULL")[0][0]
        return {**counts, "broken files": broken} if broken else counts

    def faults(self) -> dict[str, str]:
        """Why files cannot be read, by path."""
        return dict(self._rows("SELECT path, fault FROM files WHERE fault IS NOT NULL ORDER BY path"))
