# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""From a data file to a checked task: form detected by its fields, rows and images checked, bad rows dealt with."""

from itertools import islice
from pathlib import Path
from typing import Literal

from evaluation.task import Row, RowError, Task
from evaluation.tasks import CaptionTask, MMEBTask, STSTask, SugarCrepeTask
from unime.data.data_files import DataError, RawRow, data_set_name, read_rows
from unime.data.image_sizes import ImageSizes
from unime.data.images import DEFAULT_MAX_PIXELS, ImageError, ImageStore
from unime.data.raw_rows import half_character

FORMS: tuple[type[Task], ...] = (SugarCrepeTask, STSTask, CaptionTask, MMEBTask)  # the first that recognises a row
ROWS_AT_A_TIME = 64  # their images are checked together


def load_task(
    path: Path,
    image_root: str | None = None,
    limit: int | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
    threads: int = 4,
    max_image_pixels: int = DEFAULT_MAX_PIXELS,
    sizes: ImageSizes | None = None,
) -> Task:
    """Read a data file and check all its rows and images.

    Args:
        path: The data file.
        image_root: Folder or archive of the images; default as in `ImageStore.find`.
        limit: Use the first so many rows (default: all).
        on_bad_row: "error" stops at the first bad row or image; "skip" leaves such rows out and lists them.
        threads: Images decoded at the same time.
        max_image_pixels: Larger images are bad.
        sizes: Knows which sizes of images the model's processor can take. Default: all are taken.

    Raises:
        DataError: If the file or its form cannot be read, a row is bad (with "error"), or no row is left.
        ImageError: If the image root cannot be used.
    """
    rows = read_rows(path, limit)
    task: Task | None = None
    skipped: list[dict[str, str]] = []
    while chunk := list(islice(rows, ROWS_AT_A_TIME)):
        outcomes: list[Row | str] = []  # each row, or what is wrong with it
        for row in chunk:
            if row.fault is None and task is None:
                store = ImageStore.find(path, image_root, max_image_pixels)
                task = detect_form(path, row)(data_set_name(path), path, store, threads, sizes)
            outcomes.append(row.fault or _parse(task, row))
        if task is not None:
            task.look_at_images([outcome for outcome in outcomes if not isinstance(outcome, str)])
        for row, outcome in zip(chunk, outcomes, strict=True):
            fault = outcome if isinstance(outcome, str) else _add(task, outcome)
            if fault is not None and on_bad_row == "error":
                raise DataError(f"{path}, {row.place}: {fault} (--on_bad_row skip leaves such rows out)")
            if fault is not None:
                skipped.append({"row": row.place, "reason": fault})
    if task is None or not task.queries:
        reason = f"; the first: {skipped[0]['row']}: {skipped[0]['reason']}"
        raise DataError(f"{path}: all {len(skipped)} rows are bad{reason}")
    task.skipped = skipped
    return task


def detect_form(path: Path, row: RawRow) -> type[Task]:
    """The form of a data file by the fields of its first readable row."""
    for form in FORMS:
        if form.recognises(row.values):
            return form
    accepted = "".join(f"\n  - {form.accepts}" for form in FORMS)
    raise DataError(
        f"{path}, {row.place}: unknown form, its fields are {', '.join(map(str, row.values))}. Accepted:{accepted}"
    )


def _parse(task: Task, row: RawRow) -> Row | str:
    try:
        parsed = task.parse_row(row.values)
    except RowError as error:
        return str(error)
    for example in (parsed.query, *parsed.candidates):
        for name in ("text", "image", "instruction"):
            value = getattr(example, name) or ""
            if fault := half_character(value):
                return f"the {name} {value[:60]!r} {fault}"
    return parsed


def _add(task: Task, row: Row) -> str | None:
    try:
        task.add_row(row)
    except ImageError as error:
        return str(error)
    return None
