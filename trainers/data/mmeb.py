# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Training rows of stage 2: files to rows to examples to one checked table, whichever of `unime.data.forms` they have."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from tqdm.auto import tqdm

from trainers.data.mixing import rows_per_epoch
from trainers.data.pairs import PAIR_SCHEMA, PairDataset, PairSource, read_example
from unime.data.bad_rows import BadRows, Place, SourceError, as_bad_rows
from unime.data.content import ContentIndex
from unime.data.datasets_source import expand_configs
from unime.data.example import Example
from unime.data.forms import Form, RowFault, find_form
from unime.data.image_sizes import ImageSizes
from unime.data.images import DEFAULT_MAX_PIXELS, ImageStore
from unime.data.rows import Row, expand_source, read_rows, suffix_of

logger = logging.getLogger(__name__)

FOLDER_PATTERNS = ("train_*.jsonl", "train_*.jsonl.gz")
READ_SCHEMA = pa.schema([field for field in PAIR_SCHEMA if "group" not in field.name])
ROWS_AT_A_TIME = 4096  # that are Python objects; all others are in Arrow
CHECKED_AT_A_TIME = 128  # rows, whose images are decoded together; more would wake the garbage collector often


def load_mmeb_train(
    sources: str | Sequence[str],
    image_root: str | os.PathLike | None = None,
    weights: Sequence[float] | None = None,
    max_rows_per_source: int | None = None,
    on_bad_row: str | BadRows = "error",
    image_check: str = "full",
    instructions: Sequence[str | None] | None = None,
    split: str = "original",
    candidates: Sequence[str] = (),
    seed: int = 0,
    progress: bool = True,
    max_image_pixels: int = DEFAULT_MAX_PIXELS,
    sizes: ImageSizes | None = None,
) -> PairDataset:
    """Load training rows of files, in any of the forms of `unime.data.forms`.

    Two rows get the same `group` when their positives are identical in content: the same text apart from surrounding
    white space, and the same pixels. They are false negatives of each other that similarity to the positive does not
    show (UniME, arXiv 2504.17432, Eq. 3: their similarity equals the positive's and stays below its margin).

    Args:
        sources: files, folders (every train_*.jsonl and train_*.jsonl.gz below), glob patterns, or names
            "name[:config][:split]" of data sets, on the Hub or in a local copy of their repository; without a config all
            of them. Each file or config found is a source of its own in the mixture.
        image_root: folder or zip archive of the images; None: the folder of the data file, then `images.zip` beside it.
        weights, instructions: one per entry of `sources`; see `trainers.data.mixing`, and `read_table`.
        max_rows_per_source: use the first rows of each file, this many (the paper: 50,000).
        on_bad_row: "error" or "skip", or a `BadRows` that collects rows for the caller.
        image_check, sizes: see `ContentIndex`.
        split: of data sets that are named without one and have several configs.
        candidates: more sources, which come last and of which only the positives count: their rows have an empty query
            and no negatives, and need no query columns. Files that are among `sources` are left out.
        seed: for the choice of rows where a weight is no whole number.
    """
    sources = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if not sources:
        raise ValueError("The list of sources is empty. Name at least one file.")
    for option, values in (("weights", weights), ("instructions", instructions)):
        if values is not None and len(values) != len(sources):
            raise ValueError(f"{option} has {len(values)} values for {len(sources)} sources. Give one per source.")
    files = _list_files(sources, weights or [1.0] * len(sources), instructions or [None] * len(sources), split)
    known = {os.path.realpath(file.name) for file in files}
    extra = _list_files(candidates, [1.0] * len(candidates), [None] * len(candidates), split, needs_query=False)
    files += [file for file in extra if os.path.realpath(file.name) not in known]

    bad_rows = as_bad_rows(on_bad_row)
    stores: dict[tuple, ImageStore] = {}
    pair_sources, tables = [], []
    for number, (name, file) in enumerate(zip(_short_names([file.name for file in files]), files, strict=True)):
        rows = read_rows(file.name, bad_rows, max_rows=max_rows_per_source)
        table = read_table(rows, file.name, bad_rows, lambda values, n=number: n, file.needs_query, file.instruction)
        store = _find_store(file.name, image_root, table, max_image_pixels, stores)
        pair_sources.append(PairSource(name, file.name, store, len(table), file.weight))
        tables.append(table)
    stores = list(stores.values())
    return finish_dataset(pair_sources, tables, stores, bad_rows, image_check, seed, progress, sizes)


class _File(NamedTuple):
    """A file to read, with what its entry among the sources says about it."""

    name: str
    weight: float
    instruction: str
    needs_query: bool


def _list_files(
    sources: Sequence[str | os.PathLike],
    weights: Sequence[float],
    instructions: Sequence[str | None],
    split: str,
    needs_query: bool = True,
) -> list[_File]:
    files: dict[str, _File] = {}
    for source, weight, instruction in zip(map(str, sources), weights, instructions, strict=True):
        rows_per_epoch(1, weight)  # a bad weight is refused before anything is read
        for name in _expand(source, split):
            key = os.path.realpath(name)
            if key in files:
                raise ValueError(f"{name} comes in two sources. To see its rows twice, give its source the weight 2.")
            files[key] = _File(name, weight, instruction or "", needs_query)
    return list(files.values())


def _expand(source: str, split: str) -> list[str]:
    """The files of a source, or the configs of a data set as it is published (TIGER-Lab/MMEB-train has one per set)."""
    path = Path(source).expanduser()
    if (
        source
        and path.is_dir()
        and (path / "README.md").is_file()
        and not any(any(path.rglob(name)) for name in FOLDER_PATTERNS)
    ):
        return expand_configs(str(path), split)
    names = expand_source(source, FOLDER_PATTERNS)
    return expand_configs(source, split) if names == [source] and suffix_of(source) is None else names


def _short_names(files: Sequence[str]) -> list[str]:
    """Names for logs: "cifar10/train_i2t_class", or a data set's config, where that is unique, else the file itself."""
    short = []
    for file in files:
        path, suffix, config = Path(file), suffix_of(file), file.split(":")[1:2]
        short.append(
            f"{path.resolve().parent.name}/{path.name.removesuffix(suffix)}" if suffix else (*config, file)[0]
        )
    counts = Counter(short)
    return [name if counts[name] == 1 else file for name, file in zip(short, files, strict=True)]


def _find_store(
    file: str, image_root: str | os.PathLike | None, table: pa.Table, max_pixels: int, stores: dict[tuple, ImageStore]
) -> int:
    """Which of the stores has the images of a file; -1 for a file without images."""
    sides = [table["query"], table["positive"], pc.list_flatten(table["negatives"])]
    if all(pc.struct_field(side, "image").null_count == len(side) for side in sides):
        return -1
    if image_root is None and not Path(file).exists():
        raise ValueError(f"{file}: its rows name images. Say where they are with image_root.")
    store = ImageStore.find(file, image_root, max_pixels)
    key = tuple(os.path.realpath(root) for root in store.roots)
    stores.setdefault(key, store)
    return list(stores).index(key)


def read_table(
    rows: Iterable[Row],
    name: str,
    bad_rows: BadRows,
    source_of: Callable[[dict], int],
    needs_query: bool = True,
    instruction: str = "",
    name_image: Callable[[Example, int, int], str | None] | None = None,
) -> pa.Table:
    """The usable rows of one file or data set, all of one form, as far as its text tells, by `READ_SCHEMA`.

    `source_of` gives the number of a row's source, and `name_image` the name of the image of a row's i-th example from
    example, line and i (None: its path). An `instruction` is put before queries whose text is raw, in MMEB's form.
    """
    batches, block = [], []
    form: Form | None = None
    checked: set[tuple[str, ...]] = set()
    for row in rows:
        try:
            columns = tuple(row.values)
            if columns not in checked:  # JSON rows may differ from each other
                form = form or find_form(columns, needs_query)
                fault = form.column_fault(columns)
                if fault and not checked:  # what is an error of the file in its first row is a fault of a later one
                    raise SourceError(f"{name}: {fault}.")
                if fault:
                    raise RowFault(fault)
                checked.add(columns)
            parsed = form.parse(row.values)
            entries = [
                {"text": e.text, "image": (name_image or _path_of)(e, row.place.line, i), "instruction": e.instruction}
                for i, e in enumerate(parsed.examples)
            ]
        except RowFault as fault:
            bad_rows.add(row.place, str(fault))
            continue
        query, positive, *negatives = entries
        if instruction and query["instruction"] == "":
            query["instruction"] = instruction
        block.append(
            {
                "query": query,
                "positive": positive,
                "negatives": negatives,
                "source": source_of(row.values),
                "line": row.place.line,
                "scores": parsed.scores,
            }
        )
        if len(block) == ROWS_AT_A_TIME:
            batches.append(pa.RecordBatch.from_pylist(block, READ_SCHEMA))
            block = []
    batches.append(pa.RecordBatch.from_pylist(block, READ_SCHEMA))
    return pa.Table.from_batches(batches, READ_SCHEMA)


def _path_of(example: Example, line: int, number: int) -> str | None:
    if not isinstance(example.image, str | None):
        raise RowFault(f"an image is of type {type(example.image).__name__}, not a path")
    return example.image


def finish_dataset(
    sources: Sequence[PairSource],
    tables: Sequence[pa.Table],
    stores: Sequence[ImageStore],
    bad_rows: BadRows,
    image_check: str = "full",
    seed: int = 0,
    progress: bool = True,
    sizes: ImageSizes | None = None,
) -> PairDataset:
    """The data set of what `read_table` gave for each source, after a look at its images: without bad rows, with groups."""
    index = ContentIndex(sizes, image_check)
    finished = []
    with tqdm(total=sum(map(len, tables)), desc="Checking images", unit=" rows", disable=not progress) as bar:
        for source, table in zip(sources, tables, strict=True):
            store = stores[source.store] if source.store >= 0 else None
            numbered = []
            for batch in table.to_batches(max_chunksize=CHECKED_AT_A_TIME):
                numbered.append(_number_rows(batch, source.file, store, index, bad_rows))
                bar.update(len(batch))
            finished.append(pa.Table.from_batches(numbered, PAIR_SCHEMA))
            if not len(finished[-1]):
                first = next(
                    (f" The first fault: {row}" for row in bad_rows.rows if row.place.file == source.file), ""
                )
                raise SourceError(f"{source.file}: no usable row.{first}")
    if len(bad_rows):
        logger.warning(bad_rows.report())
    sources = [replace(source, rows=len(table)) for source, table in zip(sources, finished, strict=True)]
    return PairDataset(pa.concat_tables(finished).combine_chunks(), sources, stores, seed, index.keys)


def _number_rows(
    batch: pa.RecordBatch, file: str, store: ImageStore | None, index: ContentIndex, bad_rows: BadRows
) -> pa.RecordBatch:
    """Look at the images of some rows, leave out those with an unusable one, and add the groups."""
    rows = batch.to_pylist()
    examples = [
        [read_example(entry, store) for entry in (row["query"], row["positive"], *row["negatives"])] for row in rows
    ]
    index.look_at(chain.from_iterable(examples))
    keep, groups = [], []
    for row, row_examples in zip(rows, examples, strict=True):
        fault = next(filter(None, map(index.fault, row_examples)), None)
        keep.append(fault is None)
        if fault:
            bad_rows.add(Place(file, row["line"]), fault, "Replace the image, or remove the row.")
        else:
            # The same thing under another instruction is no negative either.
            groups.append([index.number(example, with_instruction=False) for example in row_examples])
    columns = [
        *batch.filter(pa.array(keep, pa.bool_())).columns,
        pa.array([row_groups[1] for row_groups in groups], pa.int64()),
        pa.array([row_groups[2:] for row_groups in groups], pa.large_list(pa.int64())),
        pa.array([row_groups[0] for row_groups in groups], pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PAIR_SCHEMA)
