# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""From a data file to a checked task: form detected by its fields, rows and images checked, bad rows dealt with."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from evaluation.captions import CaptionTask
from evaluation.mmeb import MMEBTask
from evaluation.sts import STSTask
from evaluation.sugarcrepe import SugarCrepeTask
from evaluation.task import ParsedRow, RowError, Task
from unime.data.data_files import DataError, RawRow, data_set_name, read_rows
from unime.data.image_sizes import ImageSizes
from unime.data.images import DEFAULT_MAX_PIXELS, ImageError, ImageStore
from unime.data.raw_rows import half_character

FORMS: tuple[type[Task], ...] = (SugarCrepeTask, STSTask, CaptionTask, MMEBTask)  # the first that recognises a row
ROWS_AT_A_TIME = 64  # their images are checked together


@dataclass
class LoadedTask:
    """A task that is ready to be encoded.

    Args:
        task: The task.
        skipped: Place and reason of each row that was left out.
    """

    task: Task
    skipped: list[dict[str, str]]


def load_task(
    path: Path,
    image_root: str | None = None,
    limit: int | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
    threads: int = 4,
    max_image_pixels: int = DEFAULT_MAX_PIXELS,
    sizes: ImageSizes | None = None,
) -> LoadedTask:
    """Read a data file and check all its rows and images.

    Args:
        path: The data file.
        image_root: Folder or archive of the images; default as in `ImageStore.find`.
        limit: Use the first so many rows (default: all).
        on_bad_row: "error" stops at the first bad row or image; "skip" leaves such rows out and lists them.
        threads: Images decoded at the same time.
        max_image_pixels: Larger images are bad.
        sizes: Knows which sizes of images the model's processor can take. Default: all are taken.

    Returns:
        The task and what was skipped.

    Raises:
        DataError: If the file or its form cannot be read, a row is bad (with "error"), or no row is left.
        ImageError: If the image root cannot be used.
    """
    rows = read_rows(path, limit)
    task: Task | None = None
    skipped: list[dict[str, str]] = []

    def bad(row: RawRow, reason: object) -> None:
        if on_bad_row == "error":
            raise DataError(f"{path}, {row.place}: {reason} (--on_bad_row skip leaves such rows out)")
        skipped.append({"row": row.place, "reason": str(reason)})

    for chunk in _chunks(rows, ROWS_AT_A_TIME):
        checked: list[tuple[RawRow, ParsedRow | str]] = []  # each row with what came of it
        for row in chunk:
            if row.fault is None and task is None:
                store = ImageStore.find(path, image_root, max_image_pixels)
                task = detect_form(path, row)(data_set_name(path), path, store, threads, sizes)
            checked.append((row, row.fault or _parse(task, row)))
        parsed = [outcome for _, outcome in checked if isinstance(outcome, ParsedRow)]
        if task is not None:
            task.look_at_images(parsed)
        for row, outcome in checked:
            try:
                if isinstance(outcome, str):
                    bad(row, outcome)
                else:
                    task.add_row(outcome)
            except ImageError as error:
                bad(row, error)
    if task is None or task.row_count == 0:
        reason = f"; the first: {skipped[0]['row']}: {skipped[0]['reason']}"
        raise DataError(f"{path}: all {len(skipped)} rows are bad{reason}")
    return LoadedTask(task, skipped)


def detect_form(path: Path, row: RawRow) -> type[Task]:
    """Find the form of a data file by the fields of a row.

    Args:
        path: The data file, for the message.
        row: Its first readable row.

    Returns:
        The task class.

    Raises:
        DataError: If no form has these fields; lists what is accepted.
    """
    for form in FORMS:
        if form.recognises(row.values):
            return form
    accepted = "".join(f"\n  - {form.accepts}" for form in FORMS)
    raise DataError(
        f"{path}, {row.place}: unknown form, its fields are {', '.join(map(str, row.values))}. Accepted:{accepted}"
    )


def _parse(task: Task, row: RawRow) -> ParsedRow | str:
    try:
        parsed = task.read_row(row.values)
    except RowError as error:
        return str(error)
    for example in parsed.examples:
        for name in ("text", "image", "instruction"):
            value = getattr(example, name)
            fault = half_character(value or "")
            if fault:
                return f"the {name} {value[:60]!r} {fault}"
    return parsed


def _chunks(rows: Iterator[RawRow], size: int) -> Iterator[list[RawRow]]:
    while chunk := list(islice(rows, size)):
        yield chunk
