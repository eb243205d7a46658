# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Reads what the demo left in its folder: settings, timings, results, training records."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.runs import Run, TableError, check_comparable
from unime.output_folder import RECORD_FILE

MODELS = {
    "base": "Base (no training)",
    "stage1": "Stage 1",
    "unime": "UniME (stage 1 + 2)",
    "vlm2vec": "VLM2Vec recipe",
}
TRAINED = ("stage1", "unime", "vlm2vec")


class ReportError(ValueError):
    """The demo folder is not complete. The message names the file."""


@dataclass(frozen=True)
class Demo:
    """A finished demo folder.

    Args:
        folder: The folder.
        summary: `seed`, `size`, `hardware` (words, or what `evaluation.report.environment` gives), `total_seconds`.
        timings: Name of a step to its seconds.
        results: Key of `MODELS` to the content of its results.json.
        records: Key of `TRAINED` to the content of its training record.
    """

    folder: Path
    summary: dict[str, Any]
    timings: dict[str, float]
    results: dict[str, dict[str, Any]]
    records: dict[str, dict[str, Any]]

    @property
    def hardware(self) -> str:
        """The machine in words."""
        place = self.summary["hardware"]
        if isinstance(place, str):
            return place
        words = f"{place['cpu']}, {place['cores']} cores, {place['threads']} threads"
        return f"{words}, {place['accelerator']}" if "accelerator" in place else words

    @property
    def data(self) -> Path:
        """Folder of the data set."""
        return self.folder / "data"

    def model(self, key: str) -> Path:
        """Folder of a model."""
        return self.folder / "models" / key

    @property
    def runs(self) -> list[Run]:
        """The evaluations of the models, the base first."""
        return [Run(self.results[key], self.folder / "results" / key, name) for key, name in MODELS.items()]


def read_demo(folder: str | Path) -> Demo:
    """Read a finished demo folder and check that its results belong together."""
    folder = Path(folder)
    demo = Demo(
        folder,
        summary=_read(folder / "summary.json", ("seed", "size", "hardware", "total_seconds")),
        timings=_read(folder / "timings.json"),
        results={
            key: _read(folder / "results" / key / "results.json", ("data_sets", "wall_seconds")) for key in MODELS
        },
        records={key: _read(folder / "models" / key / RECORD_FILE, ("steps", "log_history")) for key in TRAINED},
    )
    base, *others = demo.runs
    for run in others:
        if other := base.results.keys() ^ run.results.keys():
            names = ", ".join(sorted(other))
            raise ReportError(
                f"{folder}: {run.label} and {base.label} were evaluated on different data sets ({names})"
            )
    try:
        check_comparable(demo.runs)
    except TableError as error:
        raise ReportError(f"{folder}: {error}") from error
    return demo


def _read(path: Path, fields: tuple[str, ...] = ()) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReportError(f"{path} is missing; run the demo to its end first") from error
    except json.JSONDecodeError as error:
        raise ReportError(f"{path} is not valid JSON: {error}") from error
    missing = [name for name in fields if name not in content]
    if missing:
        raise ReportError(f"{path} has no field {', '.join(missing)}")
    return content
