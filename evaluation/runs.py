# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Runs: what their results.json hold and the rows beside them, for whatever shows one or compares several."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from evaluation.averages import Draws, Result, mean_lines
from evaluation.row_values import draw, read_rows


class TableError(ValueError):
    """Results cannot be put side by side, or a document has no place for the table."""


class Run:
    """One results.json.

    Args:
        content: What the file holds.
        folder: Where it lies, with `rows/` in it. Default: no failures to show and no intervals of differences.
        label: What the run is called in tables. Default: the name of its model's folder.
    """

    def __init__(self, content: dict[str, Any], folder: Path | None = None, label: str = ""):
        self.content = content
        self.folder = folder
        self.label = label or Path(content["model"].rpartition(":")[2]).name
        self.failed = {entry["name"]: str(entry["failed"]) for entry in content["data_sets"] if "failed" in entry}
        self.results: dict[str, Result] = {
            entry["name"]: entry for entry in content["data_sets"] if "failed" not in entry
        }

    @classmethod
    def read(cls, path: str | Path, label: str = "") -> "Run":
        """A results.json; TableError if it is none."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if not all("name" in result for result in content["data_sets"]):
                raise KeyError("name")
            return cls(content, Path(path).parent, label)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TableError(f"{path}: not a results.json of evaluation.run ({error!r})") from error

    def rows(self, name: str) -> dict[str, Any]:
        """What is kept of the rows of a data set: `values` and `failures`; nothing where they are not there."""
        return read_rows(self.folder, name) if self.folder else {}

    def failures(self, name: str) -> list[dict[str, Any]]:
        """The rows of a data set in which the model is most wrong."""
        return self.rows(name).get("failures", [])

    @cached_property
    def draws(self) -> Draws:
        """Of each data set whose rows are there, its figures under resampling of them."""
        values = {name: self.rows(name).get("values") for name in self.results}
        return {name: draw(name, rows) for name, rows in values.items() if rows}

    @property
    def means(self) -> list[Result]:
        """The means in the fields of a result, each with its extent in words and whether it is complete."""
        return [{"complete": not self.failed, **line} for line in mean_lines(self.content["summary"])]


def check_comparable(runs: Sequence[Run]) -> None:
    """Refuse runs that measured a data set on different rows."""
    seen: dict[str, tuple[Run, Result]] = {}
    for run in runs:
        for name, result in run.results.items():
            first, other = seen.setdefault(name, (run, result))
            for key in ("form", "rows", "chance"):
                if result[key] != other[key]:
                    raise TableError(
                        f"{name}: {key} is {other[key]} in {first.label!r} but {result[key]} in {run.label!r}; "
                        "evaluate both on the same rows"
                    )
