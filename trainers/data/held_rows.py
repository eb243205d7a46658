# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Training rows that the caller already holds: a `datasets.Dataset`, a `DatasetDict` by source, or a list of rows.

Pictures stay where they are: the table made of the rows names them by row, and [`RowImages`] opens them by that name.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import datasets
import pyarrow.compute as pc
from PIL import Image
from torch.utils.data import IterableDataset

from trainers.data.mmeb import finish_dataset, read_table
from trainers.data.pairs import PairDataset, PairSource
from unime.data.bad_rows import BadRows, Place
from unime.data.example import Example
from unime.data.forms import Form, find_form
from unime.data.image_sizes import ImageSizes
from unime.data.rows import Row

ROWS_AT_A_TIME = 128  # whose pictures, not decoded, are in memory
ACCEPTED = "a datasets.Dataset, a DatasetDict (or dict) by source, a list of them, or a list of rows"


def is_plain(rows: Any) -> bool:
    """Whether rows are an Arrow table as it is, not what a function of the caller makes of one."""
    return isinstance(rows, datasets.Dataset) and rows.format["type"] != "custom"


class HeldRows:
    """Rows of a data set, or of anything with a length whose entries are dicts, as plain dicts; pictures not decoded."""

    def __init__(self, rows: Sequence[Mapping], name: str):
        self.name = name
        self.is_plain = is_plain(rows)
        self.rows = rows.with_format("arrow") if self.is_plain else rows
        self.columns = list(rows.column_names if self.is_plain else rows[0])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Mapping[str, Any]:
        row = self.rows[number]
        return row.to_pylist()[0] if self.is_plain else row

    def read(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """All rows with their places; of a table only these columns."""
        if self.is_plain:
            chosen = self.rows if columns is None else self.rows.select_columns(list(columns))
            rows = (row for table in chosen.iter(batch_size=ROWS_AT_A_TIME) for row in table.to_pylist())
        else:
            rows = (self.rows[number] for number in range(len(self)))
        for number, row in enumerate(rows, start=1):
            yield Row(row, Place(self.name, number))


class RowImages:
    """Opens the pictures of held rows, as an `ImageStore` those of files. "3/1" is the second example of row 3."""

    def __init__(self, rows: HeldRows, form: Form):
        self.rows = rows
        self.form = form

    def __repr__(self) -> str:
        return f"the rows of {self.rows.name}"

    def open(self, path: str) -> Image.Image:
        """A picture, decoded to RGB; ImageError if it cannot be."""
        row, number = map(int, path.split("/"))
        example = self.form.parse(self.rows[row - 1]).examples[number]
        return example.open()


def hold_rows(data: Any, name: str = "train_dataset", seed: int = 0, sizes: ImageSizes | None = None) -> PairDataset:
    """Make the data set of stage 2 of rows in memory (see `ACCEPTED`), after a look at every one of them.

    A `PairDataset` is returned as it is. Rows may name their source themselves, in a column `source`; for the other columns
    see `unime.data.forms`.
    """
    if isinstance(data, PairDataset):
        return data
    bad_rows = BadRows(has_option=False)
    tables, stores, sources = [], [], []
    for part_name, part in parts_of(data, name):
        held = HeldRows(part, part_name)
        # Numbers of the sources in this part, in the order of appearance.
        numbers: dict[str | None, int] = defaultdict(count(len(sources)).__next__)
        table = read_table(
            held.read(), part_name, bad_rows, lambda v, n=numbers: n[v.get("source")], name_image=_name_image
        )
        stores.append(RowImages(held, find_form(held.columns)))
        for source_name, number in (numbers or {None: len(sources)}).items():
            tables.append(table.filter(pc.equal(table["source"], number)))
            sources.append(PairSource(source_name or part_name, part_name, len(stores) - 1, len(tables[-1]), 1.0))
    return finish_dataset(sources, tables, stores, bad_rows, seed=seed, progress=False, sizes=sizes)


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
