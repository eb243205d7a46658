# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What happens to a row that cannot be used: stop at once, or leave it out and say so at the end."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from unime.files import write_atomically

POLICIES = ("error", "skip")
SHOWN = 20  # rows of a report
LINE_SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz")


class Place(NamedTuple):
    """Where a row came from: a file or source, and a number from 1: of a line in JSON Lines and CSV, else of a row."""

    file: str
    line: int

    @property
    def within(self) -> str:
        """For example "line 7"."""
        return f"{'line' if self.file.endswith(LINE_SUFFIXES) else 'row'} {self.line}"

    def __str__(self) -> str:
        return f"{self.file} {self.within}"


class DataError(ValueError):
    """Data that cannot be used."""


class SourceError(DataError):
    """A whole file or data set that cannot be used. Raised whatever the policy for bad rows is."""


class BadRowError(DataError):
    """A row that cannot be used, under the policy "error"."""


class BadRow(NamedTuple):
    """One row that was left out: its place, what is wrong, and what to do about it."""

    place: Place
    reason: str
    mend: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}. {self.mend}".rstrip()


class BadRows:
    """Collects rows that cannot be used: "error" raises at the first one, "skip" leaves them out and remembers them.

    Who offers no choice between the two, as the trainers do of rows in memory, says so by `has_option`.
    """

    def __init__(self, policy: str = "error", has_option: bool = True):
        if policy not in POLICIES:
            raise ValueError(f"on_bad_row is {policy!r}. Use one of {', '.join(POLICIES)}.")
        self.policy = policy
        self.advice = " Or leave bad rows out with on_bad_row=skip, which lists them all." if has_option else ""
        self.rows: list[BadRow] = []

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, place: Place, reason: str, mend: str = "Fix or remove the row.") -> None:
        """Report a bad row: what is wrong with it, without a full stop, and what can be done about it, as a sentence."""
        row = BadRow(place, reason, mend)
        if self.policy == "error":
            raise BadRowError(f"{row}{self.advice}")
        self.rows.append(row)

    def report(self) -> str:
        """A text for people: the count per file, then the first rows."""
        counts = Counter(row.place.file for row in self.rows)
        lines = [f"{len(self.rows)} bad rows were left out:"]
        lines += [f"  {count} of {file}" for file, count in counts.items()]
        lines += [str(row) for row in self.rows[:SHOWN]]
        if SHOWN < len(self.rows):
            lines.append(f"... and {len(self.rows) - SHOWN} more")
        return "\n".join(lines)

    def write(self, path: str | os.PathLike) -> Path:
        """Write all bad rows as a JSON list of objects with file, line, reason and mend. Returns the path."""
        rows = [{**row.place._asdict(), "reason": row.reason, "mend": row.mend} for row in self.rows]
        text = json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
        # A row may be bad because it holds half a character, which plain UTF-8 cannot carry.
        return write_atomically(path, text.encode("utf-8", "backslashreplace"))


def as_bad_rows(on_bad_row: str | BadRows) -> BadRows:
    """A collector as it is, or a new one for the name of a policy."""
    return on_bad_row if isinstance(on_bad_row, BadRows) else BadRows(on_bad_row)
