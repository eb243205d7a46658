# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the studies share: commands that are run once, small result files that are kept, tables of means over seeds.

A study trains many tiny models. Each command runs in a process of its own; a run whose result file is there is not
repeated, so a study that was stopped goes on where it was. The models may be deleted; the result files are committed.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evaluation.report import markdown_table, to_json
from unime.files import write_atomically

Result = dict[str, Any]


def run_command(module: str, *words: object, **options: object) -> None:
    """Run `python -m module`.

    Args:
        module: For example "trainers.train_stage1".
        words: What comes first, such as a recipe.
        options: By name; lists become several values, None is left out.

    Raises:
        RuntimeError: The command failed; the end of what it said is in the message.
    """
    command = [sys.executable, "-m", module, *map(str, words)]
    for name, value in options.items():
        if value is not None:
            command += [f"--{name}", *map(str, value if isinstance(value, (list, tuple)) else [value])]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")


def once(file: Path, make: Callable[[], Result]) -> Result:
    """The content of a result file, made first if it is not there."""
    if not file.is_file():
        write_atomically(file, to_json(make()))
    return json.loads(file.read_text(encoding="utf-8"))


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and, of more than one value, sample standard deviation, as "12.3 ± 0.4"."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def table_of_runs(
    groups: dict[str, list[Result]], columns: dict[str, Callable[[Result], float | None]], first: str
) -> str:
    """One row per group of runs (one per seed), one column per measure.

    Args:
        groups: Name of the row -> results of its runs.
        columns: Title -> the measure of one result, None where it has none.
        first: Title of the first column.

    Returns:
        Markdown.
    """
    rows = []
    for name, results in groups.items():
        cells = [name, str(len(results))]
        for measure in columns.values():
            values = [value for result in results if (value := measure(result)) is not None]
            cells.append(spread(values) if values else "–")
        rows.append(cells)
    return markdown_table([first, "runs", *columns], rows)


def machines_of(results: Sequence[Result]) -> str:
    """Where and when the runs were made, for the line below a table."""
    return f"Seeds {seeds_of(results)}; {processors_of(results)}; {dates_of(results)}."


def seeds_of(results: Sequence[Result]) -> str:
    """The seeds of runs, each once."""
    return ", ".join(map(str, sorted({result["seed"] for result in results})))


def processors_of(results: Sequence[Result]) -> str:
    """What runs were made on, each once."""
    names = {f"{result['hardware']['cpu']}, {result['hardware']['threads']} thread(s)" for result in results}
    return "; ".join(sorted(names))


def dates_of(results: Sequence[Result]) -> str:
    """The first and the last day of runs."""
    days = sorted({result["created"][:10] for result in results})
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
