# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""From a data file to a checked task: form detected by its fields, rows and images checked, bad rows dealt with."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from evaluation.task import Row, RowError, Task
from evaluation.tasks import CaptionTask, MMEBTask, STSTask, SugarCrepeTask
from unime.data.bad_rows import BadRows, DataError, Place
from unime.data.data_files import data_set_name
from unime.data.image_sizes import ImageSizes
from unime.data.images import DEFAULT_MAX_PIXELS, ImageError, ImageStore
from unime.data.rows import Row as ReadRow
from unime.data.rows import read_rows

FORMS: tuple[type[Task], ...] = (SugarCrepeTask, STSTask, CaptionTask, MMEBTask)  # the first that recognises a row
ROWS_AT_A_TIME = 64  # their images are checked together
REPLACE = "Replace the image, or remove the row."


def load_task(
    path: str | Path,
    image_root: str | None = None,
    limit: int | None = None,
    on_bad_row: Literal["error", "skip"] = "error",
    max_image_pixels: int = DEFAULT_MAX_PIXELS,
    sizes: ImageSizes | None = None,
) -> Task:
    """Read a data file or a `datasets` source and check all its rows and images.

    Raises:
        DataError: If the file or its form cannot be read, a row is bad (with "error"), or no row is left.
        FileNotFoundError: If there is no such file.
        ImageError: If the image root cannot be used, see `ImageStore.find`.
    """
    has_store = image_root is not None or Path(path).exists()
    store = ImageStore.find(path, image_root, max_image_pixels) if has_store else None
    bad_rows = BadRows(on_bad_row)
    rows = read_rows(path, bad_rows, max_rows=limit)
    return fill_task(lambda row: detect_form(row)(data_set_name(path), path, store, sizes), rows, bad_rows, str(path))


def fill_task(make_task: Callable[[ReadRow], Task], rows: Iterator[ReadRow], bad_rows: BadRows, source: str) -> Task:
    """A task of all rows that can be used; `make_task` is given the first of them."""
    task: Task | None = None
    while chunk := list(islice(rows, ROWS_AT_A_TIME)):
        if task is None:
            task = make_task(chunk[0])
        parsed: list[tuple[Place, Row]] = []
        for row in chunk:
            try:
                parsed.append((row.place, task.read_row(row.values)))
            except RowError as fault:
                bad_rows.add(row.place, str(fault))
        task.look_at_images([row for _, row in parsed])
        for place, row in parsed:
            try:
                task.add_row(row)
            except ImageError as fault:
                bad_rows.add(place, str(fault), REPLACE)
    skipped = [{"row": row.place.within, "reason": row.reason} for row in sorted(bad_rows.rows)]
    if not skipped and task is None:
        raise DataError(f"{source}: has no rows")
    if task is None or not task.queries:
        first = f"{skipped[0]['row']}: {skipped[0]['reason']}"
        raise DataError(f"{source}: all {len(skipped)} rows are bad; the first: {first}")
    task.skipped = skipped
    return task


def detect_form(row: ReadRow) -> type[Task]:
    """The form of a data set by the fields of its first readable row."""
    for form in FORMS:
        if form.recognises(row.values):
            return form
    accepted = "".join(f"\n  - {form.accepts}" for form in FORMS)
    raise DataError(
        f"{row.place}: unknown form, its fields are {', '.join(map(str, row.values))}. Accepted:{accepted}"
    )


def form_of(path: str | Path) -> type[Task] | None:
    """The form of a file, by its first row; None where that cannot be read."""
    try:
        return detect_form(next(read_rows(path, BadRows("skip"), max_rows=1)))
    except (DataError, OSError, StopIteration):
        return None
