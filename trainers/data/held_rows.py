# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Training rows that the caller already holds: a `datasets.Dataset`, a `DatasetDict` by source, or a list of rows.

Pictures stay where they are: the table made of the rows names them by row, and [`RowImages`] opens them by that name.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from torch.utils.data import IterableDataset

from trainers.data.mmeb import finish_dataset, read_table
from trainers.data.pairs import PairDataset, PairSource
from unime.data.bad_rows import BadRows, Place, as_bad_rows
from unime.data.example import Example
from unime.data.forms import Form, find_form
from unime.data.image_sizes import ImageSizes
from unime.data.rows import Row

ACCEPTED = "a datasets.Dataset, a DatasetDict (or dict) by source, a list of them, or a list of rows"


def is_plain(rows: Any) -> bool:
    """Whether rows are an Arrow table as it is, not what a function of the caller makes of one."""
    return isinstance(rows, datasets.Dataset) and rows.format["type"] != "custom"


class HeldRows:
    """Rows of a data set, or of anything with a length whose entries are dicts, as plain dicts; pictures not decoded."""

    def __init__(self, rows: Sequence[Mapping], name: str):
        self.name = name
        self.rows = rows.with_format("arrow") if is_plain(rows) else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Mapping[str, Any]:
        row = self.rows[number]
        return row.to_pylist()[0] if isinstance(row, pa.Table) else row

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[number] for number in range(len(self)))


class RowImages:
    """Opens the pictures of held rows, as an `ImageStore` those of files. "3/1" is the second example of row 3."""

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
        """A picture, decoded to RGB; ImageError if it cannot be."""
        row, number = map(int, path.split("/"))
        example = self.form.parse(self.rows[row - 1]).examples[number]
        return example.open()

    def stamp(self, path: str) -> tuple[int, int]:
        """What tells whether a picture has changed, as one of a row that is held does not."""
        return 0, 0


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
            `unime.data.forms` for the columns. Rows may name their source themselves, in a column `source`. A
            `PairDataset` is returned as it is.
        name: of the data, for messages, and of its source where it has no other.
        on_bad_row, image_check, seed, progress, sizes: see `trainers.data.mmeb.load_mmeb_train`.

    Raises:
        TypeError: the data are of a kind that cannot be read by row.
        SourceError, BadRowError: columns or a row cannot be used; names them.
    """
    if isinstance(data, PairDataset):
        return data
    bad_rows = as_bad_rows(on_bad_row)
    tables, stores, sources = [], [], []
    for part_name, part in parts_of(data, name):
        held = HeldRows(part, part_name)
        # Numbers of the sources in this part, in the order of appearance.
        numbers: dict[str | None, int] = defaultdict(count(len(sources)).__next__)
        rows = (Row(values, Place(part_name, number)) for number, values in enumerate(held, start=1))
        table = read_table(rows, part_name, bad_rows, lambda v, n=numbers: n[v.get("source")], name_image=_name_image)
        stores.append(RowImages(held, find_form(list(held[0]))))
        for source_name, number in (numbers or {None: len(sources)}).items():
            tables.append(table.filter(pc.equal(table["source"], number)))
            sources.append(PairSource(source_name or part_name, part_name, len(stores) - 1, len(tables[-1]), 1.0))
    return finish_dataset(sources, tables, stores, bad_rows, image_check, seed, progress=progress, sizes=sizes)


def _name_image(example: Example, row: int, number: int) -> str | None:
    return None if example.image is None else f"{row}/{number}"


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
