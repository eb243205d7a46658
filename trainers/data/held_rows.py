# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Training rows that the caller already holds: a `datasets.Dataset`, a `DatasetDict` by source, or a list of rows.

Pictures stay where they are: the table made of the rows names them by row, and [`RowImages`] opens them by that name.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import datasets
import pyarrow as pa
from PIL import Image
from torch.utils.data import IterableDataset

from modeling_unime.pictures import read_picture
from trainers.data.mmeb import READ_SCHEMA, finish_dataset, table_row
from trainers.data.pairs import PairDataset, PairSource
from unime.data.bad_rows import BadRows, Place, as_bad_rows
from unime.data.forms import Form, find_form
from unime.data.image_sizes import ImageSizes
from unime.data.images import ImageError
from unime.data.mmeb_rows import RowFault

ACCEPTED = "a datasets.Dataset, a DatasetDict (or dict) by source, a list of them, or a list of rows"


class HeldRows:
    """Rows of a data set as plain dicts, pictures of `datasets.Image` columns not decoded.

    Args:
        rows: anything with a length whose entries are dicts.
        name: for messages.
    """

    def __init__(self, rows: Sequence[Mapping], name: str):
        self.name = name
        plain = isinstance(rows, datasets.Dataset) and rows.format["type"] != "custom"
        self.rows = rows.with_format("arrow") if plain else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Mapping[str, Any]:
        row = self.rows[number]
        return row.to_pylist()[0] if isinstance(row, pa.Table) else row

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[number] for number in range(len(self)))


class RowImages:
    """Opens the pictures of held rows, as an `ImageStore` those of files. "3/1" is the second example of row 3.

    Args:
        rows: where the pictures are.
        form: reads a row.
    """

    roots = ()

    def __init__(self, rows: HeldRows, form: Form):
        self.rows = rows
        self.form = form

    def __repr__(self) -> str:
        return f"the rows of {self.rows.name}"

    def locate(self, path: str) -> tuple[str, str]:
        """Where a picture is: its row was read, so it is there."""
        return repr(self), path

    def open(self, path: str) -> Image.Image:
        """Decode a picture to RGB.

        Raises:
            ImageError: it cannot be decoded.
        """
        row, number = map(int, path.split("/"))
        picture = self.form.parse(self.rows[row]).examples[number].image
        try:
            return read_picture(picture)
        except ValueError as error:
            raise ImageError(f"a picture of {self!r} cannot be opened: {error}") from error

    def stamp(self, path: str) -> tuple[int, int]:
        """What tells whether a picture has changed: its size in pixels and a digest of them."""
        pixels = self.open(path).tobytes()
        return len(pixels), int.from_bytes(hashlib.blake2b(pixels, digest_size=8).digest(), "big")


def hold_rows(
    data: Any,
    name: str = "train_dataset",
    on_bad_row: str | BadRows = "error",
    image_check: str = "full",
    seed: int = 0,
    progress: bool = False,
    sizes: ImageSizes | None = None,
) -> PairDataset:
    """Make the data set of stage 2 of rows in memory, after a look at every one of them.

    Args:
        data: a `datasets.Dataset`, a `DatasetDict` or dict of them by source, a list of them, or a list of rows; see
            `unime.data.forms` for the columns. A `PairDataset` is returned as it is.
        name: of the data, for messages, and of its source where it has no other.
        on_bad_row: "error" stops at the first row that cannot be used; "skip" leaves such rows out. A `BadRows`
            collects them for the caller.
        image_check: "full" decodes every picture once, now, so that equal ones are known and damaged ones told.
        seed: for the choice of rows where a source has a weight.
        progress: show a bar for the check of the pictures.
        sizes: knows which sizes of pictures the model's processor can take; None: all are taken.

    Raises:
        TypeError: the data are of a kind that cannot be read by row.
        SourceError, BadRowError: columns or a row cannot be used; names them.
    """
    if isinstance(data, PairDataset):
        return data
    bad_rows = as_bad_rows(on_bad_row)
    tables, stores, sources = [], [], []
    for part_name, part in parts_of(data, name):
        rows = HeldRows(part, part_name)
        by_source, form = _read(rows, bad_rows)
        stores.append(RowImages(rows, form))
        for source_name, block in by_source.items():
            table = pa.Table.from_pylist([{**row, "source": len(sources)} for row in block], READ_SCHEMA)
            tables.append(table)
            sources.append(PairSource(source_name or part_name, part_name, len(stores) - 1, len(table), 1.0))
    return finish_dataset(sources, tables, stores, bad_rows, image_check, seed, progress=progress, sizes=sizes)


def parts_of(data: Any, name: str) -> list[tuple[str, Sequence[Mapping]]]:
    """The data sets in what a caller gave, each with its name."""
    if isinstance(data, datasets.IterableDataset | datasets.IterableDatasetDict | IterableDataset):
        raise TypeError(
            f"{name} is an iterable data set; rows are checked, shuffled and compared before training, which needs them by "
            "number: use one that is not streamed (streaming=False, or Dataset.from_generator)"
        )
    if isinstance(data, Mapping):
        return list(data.items())
    if isinstance(data, list | tuple) and data and not isinstance(data[0], Mapping):
        return [(f"{name}[{number}]", part) for number, part in enumerate(data)]
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__") or isinstance(data, str):
        raise TypeError(f"{name} is of type {type(data).__name__}; give {ACCEPTED}")
    if len(data) == 0:
        raise ValueError(f"{name} has no rows")
    return [(name, data)]


def _read(rows: HeldRows, bad_rows: BadRows) -> tuple[dict[str | None, list[dict]], Form]:
    """Rows of a table by the name of their source, in the order of appearance, and the form they have."""
    columns = list(rows[0])
    form = find_form(columns)
    form.check_columns(columns, rows.name)
    found: dict[str | None, list[dict]] = {}
    for number, values in enumerate(rows):
        try:
            row = form.parse(values)
        except RowFault as fault:
            bad_rows.add(Place(rows.name, number + 1), str(fault), "Fix or remove the row.")
            continue
        images = [None if e.image is None else f"{number}/{i}" for i, e in enumerate(row.examples)]
        found.setdefault(values.get("source"), []).append(table_row(row, number + 1, images))
    return found, form
