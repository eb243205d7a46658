# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The data set of stage 2: queries, positives and hard negatives of several sources, in Arrow memory.

A Python object per row would be copied into every DataLoader worker, one reference count at a time; an Arrow table is
shared by them. Images are named here and opened by whoever needs them, so that a pair is cheap to pass around.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image
from torch.utils.data import Dataset

from trainers.data.known_positives import KnownPositives
from trainers.data.mixing import mix_rows, rows_per_epoch
from unime.data.bad_rows import BadRowError, Place
from unime.data.example import Example
from unime.data.images import ImageError, ImageStore

_EXAMPLE = pa.struct([("text", pa.large_string()), ("image", pa.large_string()), ("instruction", pa.large_string())])
PAIR_SCHEMA = pa.schema(
    [
        ("query", _EXAMPLE),
        ("positive", _EXAMPLE),
        ("negatives", pa.large_list(_EXAMPLE)),
        ("source", pa.int32()),  # which of the data set's sources
        ("line", pa.int64()),
        ("scores", pa.large_list(pa.float64())),  # null: the source has none
        ("group", pa.int64()),
        ("negative_groups", pa.large_list(pa.int64())),
        ("query_group", pa.int64()),  # of the query's content, out of the same numbers
    ]
)


def read_example(entry: dict, store: ImageStore | None) -> Example:
    """An example of the table; without an image it is the same whatever store is beside it."""
    return Example(**entry, store=None if entry["image"] is None else store)


class Pair(NamedTuple):
    """One training row. Its examples name their images; `open` opens them."""

    query: Example
    positive: Example
    negatives: tuple[Example, ...]
    source: str  # its name
    group: int  # equal for rows whose positives are identical in content: those are no negatives of each other
    negative_groups: tuple[int, ...]  # of each of the negatives, out of the same numbers
    place: Place
    scores: tuple[float, ...] | None = None  # a judge's of the positive and of each negative, from 0 to 1
    known_positives: tuple[int, ...] = ()  # groups of the query's positives in all rows; none where it has only one

    @property
    def examples(self) -> tuple[Example, ...]:
        """Query, positive, negatives."""
        return self.query, self.positive, *self.negatives

    def open(self, example: Example) -> Image.Image | None:
        """The image of one of its examples; BadRowError, which names the row, if it cannot be read (any more)."""
        try:
            return example.open()
        except ImageError as error:
            raise BadRowError(
                f"{self.place}: {error}. It may have changed since it was checked: restore it."
            ) from error


@dataclass(frozen=True)
class PairSource:
    """One file of a mixture."""

    name: str  # unique in the mixture
    file: str
    store: int  # which of `PairDataset.stores` has its images; -1 if it names none
    rows: int  # that can be used
    weight: float  # how often an epoch sees each row, on average

    @property
    def rows_per_epoch(self) -> int:
        """How many rows of it one epoch sees."""
        return rows_per_epoch(self.rows, self.weight)


class PairDataset(Dataset):
    """Rows of several sources, mixed by weights. Made by `load_mmeb_train` and `hold_rows`.

    An epoch holds `weight x rows` rows of a source (see `trainers.data.mixing`): which ones depends on the seed and
    the epoch alone. The order is by source; shuffling is the sampler's work. The data set can be pickled, so that one
    process of many may load it and send it to the others.
    """

    def __init__(
        self,
        table: pa.Table,  # by PAIR_SCHEMA, source after source
        sources: Sequence[PairSource],
        stores: Sequence[ImageStore],
        seed: int,  # for the choice of rows where a weight is no whole number
        contents: np.ndarray,  # by the number of a group, what identifies its content, (groups, 16) bytes
    ):
        self.table = table
        self.sources = tuple(sources)
        self.stores = tuple(stores)
        self.seed = seed
        self.contents = contents
        # In shared memory, so that workers that outlive an epoch see the next one begin.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._rows: tuple[int, np.ndarray] | None = None
        # Here and not at the first row, so that workers share it.
        self._query_numbers = self.query_numbers
        groups = table["group"].to_numpy()
        self._known_positives = KnownPositives(self._query_numbers, groups, several=True)  # an only one is the row's

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if not self._epoch.is_shared():  # a copy made by plain pickle is not
            self._epoch.share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, before its first batch is fetched. The length stays the same.

        It matters only where a weight is no whole number. Accelerate passes its own `set_epoch` on to a data set
        unless the sampler takes it first, so that a trainer does well to call this from a callback.
        """
        self._epoch.fill_(int(epoch))

    @property
    def rows(self) -> np.ndarray:
        """Row of the table for each index of this epoch, (len(self),) int64."""
        epoch = int(self._epoch)
        if self._rows is None or self._rows[0] != epoch:
            counts, weights = [source.rows for source in self.sources], [source.weight for source in self.sources]
            self._rows = epoch, mix_rows(counts, weights, self.seed, epoch)
        return self._rows[1]

    @property
    def groups(self) -> np.ndarray:
        """Group of each index of this epoch, (len(self),) int64, for a sampler that keeps equal positives apart."""
        return self.table["group"].to_numpy()[self.rows]

    @property
    def source_indices(self) -> np.ndarray:
        """Index into `sources` for each index of this epoch, (len(self),) int32, for a sampler that goes by source."""
        return self.table["source"].to_numpy()[self.rows]

    def count_negatives(self) -> tuple[int, int]:
        """How many negatives the rows carry, and how many rows carry some."""
        counts = pc.list_value_length(self.table["negatives"]).to_numpy()  # (rows,)
        return int(counts.sum()), int((counts > 0).sum())

    @property
    def instruction_numbers(self) -> np.ndarray:
        """A number for the instruction of the query of each row of the table, (rows,) int64."""
        instructions = self.table["query"].combine_chunks().field("instruction")
        return instructions.dictionary_encode(null_encoding="encode").indices.to_numpy().astype(np.int64)

    @property
    def query_numbers(self) -> np.ndarray:
        """Number of the query of each row of the table, (rows,) int64: under another instruction it is another query."""
        instructions = self.instruction_numbers
        return self.table["query_group"].to_numpy() * (int(instructions.max(initial=0)) + 1) + instructions

    def known_positives(self, row: int) -> np.ndarray:
        """Groups of what the table calls a positive of the query of one of its rows; none where that is the row's only."""
        return self._known_positives.of(self._query_numbers[row])

    def __len__(self) -> int:
        return sum(source.rows_per_epoch for source in self.sources)

    def __getitem__(self, index: int) -> Pair:
        row = int(self.rows[index])
        values = self.table.slice(row, 1).to_pylist()[0]
        source = self.sources[values["source"]]
        images = self.stores[source.store] if source.store >= 0 else None
        return Pair(
            query=read_example(values["query"], images),
            positive=read_example(values["positive"], images),
            negatives=tuple(read_example(entry, images) for entry in values["negatives"]),
            source=source.name,
            group=values["group"],
            negative_groups=tuple(values["negative_groups"]),
            place=Place(source.file, values["line"]),
            scores=None if values["scores"] is None else tuple(values["scores"]),
            known_positives=tuple(self.known_positives(row).tolist()),
        )
