# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Loading training rows of MMEB (query, positive, hard negatives) or UniME-V2 (with scores) of many files for stage 2."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from trainers.data.mixing import rows_per_epoch
from trainers.data.pairs import PAIR_SCHEMA, PairDataset, PairSource
from unime.data.bad_rows import BadRows, Place, as_bad_rows
from unime.data.columns import SourceError
from unime.data.datasets_source import expand_configs
from unime.data.example import Example
from unime.data.forms import Form, find_form
from unime.data.image_check import ImageFact, check_images
from unime.data.image_sizes import AllImageSizes, ImageSizes
from unime.data.images import DEFAULT_MAX_PIXELS, ImageStore
from unime.data.mmeb_rows import RowFault, TrainingRow
from unime.data.rows import expand_source, read_rows, suffix_of

logger = logging.getLogger(__name__)

FOLDER_PATTERNS = ("train_*.jsonl", "train_*.jsonl.gz")
READ_SCHEMA = pa.schema([field for field in PAIR_SCHEMA if "group" not in field.name])
BLOCK = 4096  # rows that are Python objects at a time; all others are in Arrow

ImageKey = tuple[int, str]  # which store, path


class _File(NamedTuple):
    """A file to read, with what its entry among the sources says about it."""

    name: str
    weight: float
    image_root: str | os.PathLike | None
    instruction: str


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


def _per_source(values: object, count: int, option: str) -> list:
    """One value per source from one for all, or from a list, whose length is checked."""
    if values is None or isinstance(values, (str, os.PathLike, int, float)):
        return [values] * count
    values = list(values)
    if len(values) != count:
        raise ValueError(f"{option} has {len(values)} values for {count} sources. Give one per source.")
    return values


def _expand(source: str, split: str) -> list[str]:
    """The files of a source, or the configs of a data set as it is published (TIGER-Lab/MMEB-train has one per set)."""
    path = Path(source).expanduser()
    if path.is_dir() and (path / "README.md").is_file() and not any(any(path.rglob(name)) for name in FOLDER_PATTERNS):
        return expand_configs(str(path), split)
    names = expand_source(source, FOLDER_PATTERNS)
    return expand_configs(source, split) if names == [source] and suffix_of(source) is None else names


def _list_files(
    sources: Sequence[str], weights: Sequence[float], roots: Sequence, instructions: Sequence[str | None], split: str
) -> list[_File]:
    files: dict[str, _File] = {}
    for source, weight, root, instruction in zip(sources, weights, roots, instructions, strict=True):
        rows_per_epoch(1, weight)  # a bad weight is refused before anything is read
        for name in _expand(source, split):
            key = os.path.realpath(name)
            if key in files:
                raise ValueError(f"{name} comes in two sources. To see its rows twice, give its source the weight 2.")
            files[key] = _File(name, weight, root, instruction or "")
    return list(files.values())


def _read_file(
    file: str, index: int, bad_rows: BadRows, max_rows: int | None, needs_query: bool = True, instruction: str = ""
) -> pa.Table:
    """The usable rows of one file as far as its text tells, without groups."""
    batches, block = [], []
    form: Form | None = None
    checked: set[tuple[str, ...]] = set()
    for row in read_rows(file, bad_rows, max_rows=max_rows):
        try:
            columns = tuple(row.values)
            if columns not in checked:  # JSON rows may differ from each other
                if not checked:
                    form = find_form(columns, needs_query)
                    form.check_columns(columns, file)
                else:
                    _recheck(columns, file, form)
                checked.add(columns)
            parsed = form.parse(row.values)
            images = [image_path(example) for example in parsed.examples]
        except RowFault as fault:
            bad_rows.add(row.place, str(fault), "Fix or remove the row.")
            continue
        block.append({**table_row(parsed, row.place.line, images, instruction), "source": index})
        if len(block) == BLOCK:
            batches.append(pa.RecordBatch.from_pylist(block, READ_SCHEMA))
            block = []
    batches.append(pa.RecordBatch.from_pylist(block, READ_SCHEMA))
    return pa.Table.from_batches(batches, READ_SCHEMA)


def image_path(example: Example) -> str | None:
    """The image of an example of a file, which can only name it.

    Raises:
        RowFault: it is something else.
    """
    if not isinstance(example.image, str | None):
        raise RowFault(f"an image is of type {type(example.image).__name__}, not a path")
    return example.image


def table_row(row: TrainingRow, line: int, images: Sequence[str | None], instruction: str = "") -> dict:
    """A row of the table, without its source.

    Args:
        row: as it was read.
        line: where, counted from 1.
        images: a name for the image of each of `row.examples`.
        instruction: of a query whose text is raw; put before it in MMEB's form.
    """
    query, positive, *negatives = (
        {"text": example.text, "image": image, "instruction": example.instruction}
        for example, image in zip(row.examples, images, strict=True)
    )
    query["instruction"] = query["instruction"] or (instruction if row.query.instruction == "" else None)
    return {"query": query, "positive": positive, "negatives": negatives, "scores": row.scores, "line": line}


def _recheck(columns: tuple[str, ...], file: str, form: Form) -> None:
    """Columns of a later row: what is an error of the file in its first row is a fault of the row here."""
    try:
        form.check_columns(columns, file)
    except SourceError as error:
        raise RowFault(str(error).removeprefix(f"{file}: ").removesuffix(".")) from error


def _rows_of(table: pa.Table) -> Iterator[dict]:
    for batch in table.to_batches(max_chunksize=BLOCK):
        yield from batch.to_pylist()


def _images_of(row: dict) -> list[str]:
    """The images that a row names."""
    examples = [row["query"], row["positive"], *row["negatives"]]
    return [example["image"] for example in examples if example["image"] is not None]


def _find_stores(
    files: Sequence[_File], tables: Sequence[pa.Table], max_pixels: int
) -> tuple[list[ImageStore], list[int]]:
    """The image stores that are needed, and which of them each file uses; -1 for a file without images."""
    stores: dict[tuple, ImageStore] = {}
    used = []
    for file, table in zip(files, tables, strict=True):
        if not any(_images_of(row) for row in _rows_of(table)):
            used.append(-1)
            continue
        if file.image_root is None and not Path(file.name).exists():
            raise ValueError(f"{file.name}: its rows name images. Say where they are with image_root.")
        store = ImageStore.find(file.name, file.image_root, max_pixels)
        key = tuple(os.path.realpath(root) for root in store.roots)
        stores.setdefault(key, store)
        used.append(list(stores).index(key))
    return list(stores.values()), used


def _check_all(
    tables: Sequence[pa.Table], used: Sequence[int], stores: Sequence[ImageStore], stop_at_fault: bool, **options
) -> dict[ImageKey, ImageFact]:
    """A fact for every image, in the order in which rows name them; with `stop_at_fault` up to the first fault."""
    keys = dict.fromkeys(
        (store, image)
        for table, store in zip(tables, used, strict=True)
        for row in _rows_of(table)
        for image in _images_of(row)
    )
    facts: dict[ImageKey, ImageFact] = {}
    checked = check_images([(stores[store], image) for store, image in keys], **options)
    for fact, key in zip(checked, keys, strict=True):
        facts[key] = fact
        if fact.fault and stop_at_fault:
            checked.close()
            break
    return facts


class _Groups:
    """Numbers for contents: the same text with the same picture has the same number, given in order of appearance."""

    def __init__(self, facts: dict[ImageKey, ImageFact]):
        self.facts = facts
        self.numbers: dict[bytes, int] = {}

    def number(self, example: dict, store: int) -> int:
        text = (example["text"] or "").strip().encode("utf-8")
        image = b"" if example["image"] is None else self.facts[store, example["image"]].identity
        identity = hashlib.blake2b(b"%d:%s%s" % (len(text), text, image), digest_size=16).digest()
        return self.numbers.setdefault(identity, len(self.numbers))


def _finish_table(file: str, table: pa.Table, store: int, groups: _Groups, bad_rows: BadRows) -> pa.Table:
    """Leave out rows with unusable images, and add the groups."""
    keep, positive_groups, negative_groups, query_groups = [], [], [], []
    for row in _rows_of(table):
        # Up to the first fault only: when one stops the run, the images after it were not looked at.
        fault = next((fault for image in _images_of(row) if (fault := groups.facts[store, image].fault)), None)
        keep.append(fault is None)
        if fault:
            bad_rows.add(Place(file, row["line"]), fault, "Replace the image, or remove the row.")
            continue
        positive_groups.append(groups.number(row["positive"], store))
        negative_groups.append([groups.number(negative, store) for negative in row["negatives"]])
        query_groups.append(groups.number(row["query"], store))
    if not positive_groups:
        first = next((f" The first fault: {row}" for row in bad_rows.rows if row.place.file == file), "")
        raise SourceError(f"{file}: no usable row.{first}")
    kept = table.filter(pa.array(keep, pa.bool_()))
    columns = [
        *kept.columns,
        pa.array(positive_groups, pa.int64()),
        pa.array(negative_groups, pa.large_list(pa.int64())),
        pa.array(query_groups, pa.int64()),
    ]
    return pa.table(columns, schema=PAIR_SCHEMA)


def load_mmeb_train(
    sources: str | Sequence[str],
    image_root: str | os.PathLike | Sequence[str | os.PathLike | None] | None = None,
    weights: Sequence[float] | None = None,
    max_rows_per_source: int | None = None,
    on_bad_row: str | BadRows = "error",
    image_check: str = "full",
    instructions: Sequence[str | None] | None = None,
    split: str = "original",
    candidates: Sequence[str] = (),
    seed: int = 0,
    threads: int | None = None,
    progress: bool = True,
    max_image_pixels: int = DEFAULT_MAX_PIXELS,
    sizes: ImageSizes | AllImageSizes | None = None,
) -> PairDataset:
    """Load training rows with the columns of MMEB-train.

    The columns are `qry`, `qry_image_path`, `pos_text`, `pos_image_path`, `neg_text`, `neg_image_path`; an empty
    string or an absent column means that a modality is absent, and the negative columns may hold lists. Strings are
    kept raw (instruction ""), since they carry their instruction and image token. A source may also have the columns that
    UniME-V2's data is published with (`unime.data.judged_rows`): its rows then carry a judge's scores.

    Two rows get the same `group` when their positives are identical in content: the same text apart from surrounding
    white space, and the same pixels. They are false negatives of each other that similarity to the positive does not
    show (UniME, arXiv 2504.17432, Eq. 3: their similarity equals the positive's and stays below its margin).

    Args:
        sources: files, folders (every train_*.jsonl and train_*.jsonl.gz below), glob patterns, or names
            "name[:config][:split]" of data sets, on the Hub or in a local copy of their repository; without a config all
            of them. Each file or config found is a source of its own in the mixture.
        image_root: folder or zip archive of the images, for all sources or one per entry of `sources`; None: the
            folder of the data file, then `images.zip` beside it.
        weights: one per entry of `sources`, for each file in it: how often an epoch sees each row, on average
            (default 1.0; 2 is every row twice, 0.5 another half of the rows in each epoch; see
            `trainers.data.mixing`).
        max_rows_per_source: use the first rows of each file, this many (the paper: 50,000); None uses all.
        on_bad_row: "error" stops at the first row that cannot be used, in the order of the sources; "skip" leaves
            such rows out. A `BadRows` collects them for the caller.
        image_check: "full" decodes every image once, now; "exists" only looks whether it is there, and then groups
            know pictures by their path and not by their pixels.
        instructions: one per entry of `sources`: put before its queries in MMEB's form. Default: none, as MMEB's
            strings carry their own.
        split: of data sets that are named without one and have several configs ("original" or "diverse_instruction" of
            MMEB-train).
        candidates: more sources, which come last and of which only the positives count: their rows have an empty query
            and no negatives, and need no query columns. They share the image root if it is one for all. Files that are
            among `sources` are left out.
        seed: for the choice of rows where a weight is no whole number.
        threads: for the image check; None: one per processor core.
        progress: show a progress bar for the image check.
        max_image_pixels: width times height above which an image is refused before it is decoded.
        sizes: knows which sizes of images the model's processor can take; None: all are taken. Sizes are looked at by
            the image check "full" only.

    Returns:
        The data set. It can be pickled: in a run of many processes, load it in one and broadcast it.

    Raises:
        FileNotFoundError: a source matches nothing.
        SourceError: a file is broken, lacks a column, has one that looks misspelt, or has no usable row.
        BadRowError: a bad row under the policy "error".
        ValueError: an option is wrong, or the same file comes twice.
    """
    sources = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if not sources:
        raise ValueError("The list of sources is empty. Name at least one file.")
    weights = _per_source(1.0 if weights is None else weights, len(sources), "weights")
    roots = _per_source(image_root, len(sources), "image_root")
    instructions = _per_source(instructions, len(sources), "instructions")
    files = _list_files([str(source) for source in sources], weights, roots, instructions, split)
    with_queries, known = len(files), {os.path.realpath(file.name) for file in files}
    roots = _per_source(
        image_root if isinstance(image_root, (str, os.PathLike)) else None, len(candidates), "image_root"
    )
    count = len(candidates)
    extra = _list_files([str(source) for source in candidates], [1.0] * count, roots, [None] * count, split)
    files += [file for file in extra if os.path.realpath(file.name) not in known]
    bad_rows = as_bad_rows(on_bad_row)
    tables = [
        _read_file(file.name, i, bad_rows, max_rows_per_source, i < with_queries, file.instruction)
        for i, file in enumerate(files)
    ]
    stores, used = _find_stores(files, tables, max_image_pixels)
    names = _short_names([file.name for file in files])
    pair_sources = [
        PairSource(name, file.name, store, len(table), file.weight)
        for name, file, store, table in zip(names, files, used, tables, strict=True)
    ]
    return finish_dataset(pair_sources, tables, stores, bad_rows, image_check, seed, threads, progress, sizes)


def finish_dataset(
    sources: Sequence[PairSource],
    tables: Sequence[pa.Table],
    stores: Sequence[ImageStore],
    bad_rows: BadRows,
    image_check: str = "full",
    seed: int = 0,
    threads: int | None = None,
    progress: bool = True,
    sizes: ImageSizes | None = None,
) -> PairDataset:
    """The data set of rows that have been read, after a look at their images: without bad rows, with groups.

    Args:
        sources: of the rows, with the number of rows read.
        tables: the rows of each source, by `READ_SCHEMA`.
        stores: of images, by the numbers in `sources`.
        bad_rows: told of rows whose image cannot be used.
        image_check: see `load_mmeb_train`.
        seed: see `load_mmeb_train`.
        threads: see `load_mmeb_train`.
        progress: see `load_mmeb_train`.
        sizes: see `load_mmeb_train`.
    """
    stop = bad_rows.policy == "error"
    used = [source.store for source in sources]
    facts = _check_all(tables, used, stores, stop, check=image_check, threads=threads, progress=progress, sizes=sizes)
    groups = _Groups(facts)
    tables = [
        _finish_table(source.file, table, source.store, groups, bad_rows)
        for source, table in zip(sources, tables, strict=True)
    ]
    if len(bad_rows):
        logger.warning(bad_rows.report(max_rows=20))
    sources = [replace(source, rows=len(table)) for source, table in zip(sources, tables, strict=True)]
    return PairDataset(pa.concat_tables(tables).combine_chunks(), sources, stores, seed)
