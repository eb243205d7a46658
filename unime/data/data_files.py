# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Find and read data files: JSON Lines, JSON, CSV and Parquet, each row with the place it came from."""

import csv
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from unime.data.raw_rows import (
    MAX_LINE,
    JSONFault,
    allow_long_fields,
    batch_rows,
    numbered_lines,
    parse_json,
    read_whole,
)

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")
SUGARCREPE_STEMS = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")


class DataError(ValueError):
    """A data file, a row or a field cannot be used. The message names file, line and field."""


@dataclass(frozen=True)
class RawRow:
    """A row as it was read.

    Args:
        values: Field name to value; empty if the row could not be read.
        place: "line 7", "row 7" (CSV, Parquet, JSON list; counted from 1) or "key '7'" (JSON object).
        fault: Why the row could not be read; `None` if it could.
    """

    values: dict[str, Any]
    place: str
    fault: str | None = None

    @classmethod
    def of(cls, values: Any, place: str) -> "RawRow":
        """Make a row, with a fault if `values` is no object with fields."""
        if isinstance(values, dict):
            return cls(values, place)
        return cls({}, place, f"expected an object with fields, got {type(values).__name__}")


def suffix_of(path: Path) -> str:
    """The known suffix of a data file.

    Args:
        path: The file.

    Returns:
        One of `SUFFIXES`.

    Raises:
        DataError: If the suffix is none of them.
    """
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise DataError(f"{path}: unknown kind of file; readable are {', '.join(SUFFIXES)}")


def stem_of(path: Path) -> str:
    """File name without suffix and without the shard number of a single Parquet file (`-00000-of-00001`)."""
    return path.name[: -len(suffix_of(path))].removesuffix("-00000-of-00001")


def data_set_name(path: Path) -> str:
    """Name of the data set in a file: its folder, a slash, and the file name without suffix and `eval_`.

    Args:
        path: The file.

    Returns:
        For example "grocery/i2t_class" for `.../grocery/eval_i2t_class.jsonl`.
    """
    return f"{path.resolve().parent.name}/{stem_of(path).removeprefix('eval_')}"


def find_data_files(places: list[str]) -> list[Path]:
    """Expand the `data` option to files.

    A file stands for itself, whatever its name. Of a folder, these are taken, at any depth and in order of path:
    `eval_*` with a readable suffix, the seven files of SugarCrepe (`add_att.json`, ...), and Parquet files called
    `test-*` (the layout of MMEB-eval on the Hub). Everything else in a folder is left alone; name it to have it read.

    Args:
        places: Files and folders.

    Returns:
        The files, without repeats.

    Raises:
        DataError: If a place does not exist, a folder has no such file, or two files would share a data set name.
    """
    files: dict[Path, Path] = {}
    for place in map(Path, places):
        if place.is_file():
            found = [place]
        elif place.is_dir():
            found = sorted(path for path in place.rglob("*") if path.is_file() and _is_evaluation_file(path))
        else:
            raise DataError(f"data {str(place)!r} does not exist; give files or folders")
        if not found:
            raise DataError(
                f"data folder {str(place)!r} has no eval_*, test-*.parquet or SugarCrepe file; "
                "name the files themselves"
            )
        files |= {path.resolve(): path for path in found}
    names: dict[str, Path] = {}
    for path in files.values():
        other = names.setdefault(data_set_name(path), path)
        if other is not path:
            raise DataError(f"{other} and {path} would both be called {data_set_name(path)!r}; run them separately")
    return list(files.values())


def _is_evaluation_file(path: Path) -> bool:
    name = path.name.lower()
    if name.endswith(".json") and name.removesuffix(".json") in SUGARCREPE_STEMS:
        return True
    return bool(re.fullmatch(r"eval_.*(\.jsonl|\.jsonl\.gz|\.json|\.csv|\.parquet)|test-.*\.parquet", name))


def read_rows(path: Path, limit: int | None = None) -> Iterator[RawRow]:
    """Read the rows of a data file, one after the other.

    Args:
        path: The file. JSON may hold a list of rows or an object whose values are rows (SugarCrepe).
        limit: Stop after so many rows (default: all).

    Yields:
        The rows, those that cannot be parsed with their `fault`.

    Raises:
        DataError: If the file as a whole cannot be read as what its suffix says, or has no rows.
    """
    readers = {
        ".jsonl": _read_jsonl,
        ".jsonl.gz": _read_jsonl,
        ".json": _read_json,
        ".csv": _read_csv,
        ".parquet": _read_parquet,
    }
    count = 0
    try:
        for row in islice(readers[suffix_of(path)](path), limit):
            count += 1
            yield row
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{path}: cannot be read after {count} rows ({error})") from error
    if count == 0:
        raise DataError(f"{path}: has no rows")


def _read_jsonl(path: Path) -> Iterator[RawRow]:
    for number, content in numbered_lines(path):
        place = f"line {number}"
        if content is None:
            yield RawRow({}, place, f"more than {MAX_LINE} bytes")
        elif content.strip():
            try:
                row = RawRow.of(parse_json(content), place)
            except JSONFault as fault:
                row = RawRow({}, place, str(fault))
            yield row


def _read_json(path: Path) -> Iterator[RawRow]:
    try:
        content = parse_json(read_whole(path))
    except JSONFault as fault:
        raise DataError(f"{path}, line {fault.line}: {fault}") from fault
    if isinstance(content, dict):
        yield from (RawRow.of(values, f"key {key!r}") for key, values in content.items())
    elif isinstance(content, list):
        yield from (RawRow.of(values, f"row {number}") for number, values in enumerate(content, start=1))
    else:
        raise DataError(f"{path}: expected a list of rows or an object of rows, got {type(content).__name__}")


def _decoded_lines(path: Path) -> Iterator[str]:
    for number, content in numbered_lines(path):
        if content is None:
            raise DataError(f"{path}, line {number}: more than {MAX_LINE} bytes; check the quotes")
        try:
            yield content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number}: not UTF-8 ({error.reason}); save the file as UTF-8") from error


def _read_csv(path: Path) -> Iterator[RawRow]:
    allow_long_fields()
    reader = csv.DictReader(_decoded_lines(path))
    header = reader.fieldnames or []
    if len(set(header)) != len(header):
        raise DataError(f"{path}: a column name occurs twice in the header {header}; rename one")
    for number, values in enumerate(reader, start=1):
        uneven = None in values or None in values.values()
        fault = "not as many cells as in the header; check quotes and commas" if uneven else None
        yield RawRow(values, f"row {number}", fault)


def _read_parquet(path: Path) -> Iterator[RawRow]:
    try:
        number = 0
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                for values, fault in batch_rows(batch):
                    number += 1
                    yield RawRow(values or {}, f"row {number}", fault)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from error
