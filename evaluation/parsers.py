# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""From the files of a suite's data set to a checked task, by the suite's form and `dataset_parser`."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets

from evaluation.arguments import EvaluationArguments
from evaluation.data_sets import DataSet
from evaluation.load import FORMS, fill_task, load_task
from evaluation.pages import PagesTask
from evaluation.suites import TABLES
from evaluation.task import Task
from unime.data.bad_rows import BadRows, DataError, Place, SourceError
from unime.data.image_sizes import ImageSizes
from unime.data.images import ImageError, ImageStore
from unime.data.rows import Row, read_rows

CAPTION_COLUMNS = ("captions", "text", "caption")


class TableImages(ImageStore):
    """Images in a column of Parquet files, memory-mapped; the path of one is the number of its row, from 0."""

    def __init__(self, table: datasets.Dataset, column: str, max_pixels: int):
        self.table, self.column, self.max_pixels, self._roots = table.select_columns([column]), column, max_pixels, []

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"column {self.column!r}"

    def locate(self, path: str) -> tuple[Path, str] | None:
        return Path(self.column), path

    def read_bytes(self, path: str) -> bytes:
        cell = self.table[int(path)][self.column]
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if not content:
            raise ImageError(f"the image of row {int(path) + 1} is empty")
        return content


def load_data_set(data_set: DataSet, arguments: EvaluationArguments, sizes: ImageSizes | None = None) -> Task:
    """Read a data set of a run and check all its rows and images, see `load_task`, and that it is what its suite says."""
    if data_set.fault is not None:
        raise DataError(data_set.fault)
    if data_set.benchmark is None:
        return load_task(
            data_set.files[0],
            arguments.image_root,
            arguments.limit,
            arguments.on_bad_row,
            arguments.max_image_pixels,
            sizes,
        )
    limit = arguments.limit
    options, form, files = data_set.benchmark.options, data_set.benchmark.form, data_set.files
    bad_rows = BadRows(arguments.on_bad_row)
    places = data_set.places or (Path(files[0]).parent,)
    store = ImageStore(*places, max_pixels=arguments.max_image_pixels)
    if form == "pages":
        task = _load_pages(data_set, store, sizes, limit, bad_rows)
    else:
        kind = next(kind for kind in FORMS if kind.form == form)
        if form == "captions":
            rows, store = _captions(options, files, store, bad_rows)
        else:
            rows = chain.from_iterable(read_rows(file, bad_rows) for file in files)
        task = fill_task(
            lambda row: kind(data_set.name, files[0], store, sizes), islice(rows, limit), bad_rows, files[0]
        )
    task.suite = data_set.benchmark.suite
    if limit is None:
        check_counts(task, options)
    return task


def check_counts(task: Task, options: dict[str, Any]) -> None:
    """Refuse a data set with other counts than its suite says; one of fewer than `published_rows` is a part of it."""
    count, published = len(task.queries) + len(task.skipped), options.get("published_rows", 0)
    expected = options.get("rows") or (published if count > published > 0 else count)
    if count != expected:
        raise DataError(
            f"{task.source}: has {count} rows, but the suite says {expected}; --limit makes a trial of a part"
        )
    wanted = options.get("candidates")
    odd = next((row for row, own in enumerate(task.candidates) if len(own) != wanted), None)
    if wanted and count >= (options.get("rows") or published) and odd is not None:
        raise DataError(
            f"{task.source}: row {odd + 1} of those that were read has {len(task.candidates[odd])} candidates, but the suite says "
            f"{wanted}; --limit {count} evaluates it all the same, as a trial"
        )


def _captions(
    options: dict[str, Any], files: Sequence[str], store: ImageStore, bad_rows: BadRows
) -> tuple[Iterator[Row], ImageStore]:
    """Rows with `image` and `captions` out of the layouts that caption sets have."""
    parser, count = options.get("dataset_parser"), options.get("captions")
    if parser == "urban1k" and files[0].endswith(".txt"):
        return _urban1k(files, store), store
    if parser == "sharegpt4v":
        rows = read_rows(files[0], bad_rows, max_rows=options.get("rows"))
        return (row._replace(values=_of_conversation(row.values)) for row in rows), store
    rows, store = _table(files, store, bad_rows)

    def first_captions(values: dict[str, Any]) -> dict[str, Any]:
        texts = next((values[name] for name in CAPTION_COLUMNS if name in values), None)
        return {"image": values.get("image"), "captions": texts[:count] if isinstance(texts, list) else texts}

    return (row._replace(values=first_captions(row.values)) for row in rows), store


def _of_conversation(values: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"image": values["image"], "captions": values["conversations"][1]["value"].replace("\n", " ")}
    except (KeyError, IndexError, TypeError, AttributeError):
        return values  # which the form refuses by the field that it lacks


def _urban1k(files: Sequence[str], store: ImageStore) -> Iterator[Row]:
    for file in map(Path, files):
        lines = file.read_text(encoding="utf-8").splitlines()
        names = [f"image/{path.name}" for path in file.parent.parent.glob(f"image/{file.stem}.*")]
        name = names[0] if names else f"image/{file.stem}.jpg"
        root = next((root for root in store.roots if file.parent.parent.is_relative_to(root)), None)
        inside = file.parent.parent.relative_to(root).as_posix() if root else "."
        yield Row({"image": f"{inside}/{name}", "captions": lines[0] if lines else ""}, Place(str(file), 1))


def _table(files: Sequence[str], store: ImageStore, bad_rows: BadRows) -> tuple[Iterator[Row], ImageStore]:
    """Rows of files, and where their images are: in the files themselves, where the column `image` holds pictures."""
    if all(file.endswith(".parquet") for file in files):
        try:
            table = datasets.load_dataset("parquet", data_files=list(files), split="train")
        except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
            raise SourceError(f"{files[0]}: not readable as Parquet ({error})") from error
        kind = table.features.get("image")
        if isinstance(kind, datasets.Image):
            table = table.cast_column("image", datasets.Image(decode=False))
        if kind is not None and kind != datasets.Value("string"):
            rest = table.remove_columns("image")
            rows = (
                Row({**(rest[number] if rest.column_names else {}), "image": str(number)}, Place(files[0], number + 1))
                for number in range(len(table))
            )
            return rows, TableImages(table, "image", store.max_pixels)
    return chain.from_iterable(read_rows(file, bad_rows) for file in files), store


def _load_pages(
    data_set: DataSet, store: ImageStore, sizes: ImageSizes | None, limit: int | None, bad_rows: BadRows
) -> Task:
    files = {table: [file for file in data_set.files if _table_of(file) == table] for table in TABLES}
    rows, images = _table(files["corpus"], store, bad_rows)
    task = PagesTask(data_set.name, files["queries"][0], images, sizes)
    options = data_set.benchmark.options
    task.instructions = (options.get("query_instruction"), options.get("target_instruction"))
    task.add_pages(rows, bad_rows)
    task.add_relevance(chain.from_iterable(read_rows(file, bad_rows) for file in files["qrels"]), bad_rows)
    queries = chain.from_iterable(read_rows(file, bad_rows) for file in files["queries"])
    judged = (row for row in queries if str(row.values.get("query-id")) in task.relevance)
    return fill_task(lambda row: task, islice(judged, limit), bad_rows, files["queries"][0])


def _table_of(file: str) -> str:
    path = Path(file)
    return next(table for table in TABLES if path.name.startswith(table) or path.parent.name == table)
