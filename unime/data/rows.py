# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Rows of data files, each with the place it came from.

JSON Lines and CSV are read line by line and not through `datasets`, because a message about a bad row has to name the
line as an editor shows it. Parquet and `datasets` sources stream through Arrow and are never in memory as a whole.
"""

import csv
import glob
import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from unime.data.bad_rows import BadRows, Place
from unime.data.columns import SourceError, check_columns
from unime.data.datasets_source import read_datasets_source
from unime.data.raw_rows import (
    MAX_LINE,
    JSONFault,
    allow_long_fields,
    batch_rows,
    numbered_lines,
    parse_json,
    read_whole,
)

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")


class Row(NamedTuple):
    """One row: its columns, and where it came from."""

    values: dict[str, Any]
    place: Place


def suffix_of(file: str | os.PathLike) -> str | None:
    """The suffix of a file that `read_rows` can read, for example ".jsonl.gz"; None for any other name."""
    return next((suffix for suffix in SUFFIXES if str(file).lower().endswith(suffix)), None)


def expand_source(source: str, inside_folders: Sequence[str] = ()) -> list[str]:
    """The files that one source stands for, in sorted order.

    Args:
        source: a file, a folder, a glob pattern (`**` crosses folders) or the name of a `datasets` source.
        inside_folders: name patterns that a folder stands for, looked up at any depth. Without any, a folder is kept
            as it is (a data set saved by `datasets`).

    Returns:
        Paths, or the source itself where it is neither a folder nor a pattern.

    Raises:
        FileNotFoundError: nothing matches.
    """
    path = Path(source).expanduser()
    if path.is_dir() and inside_folders:
        found = sorted({str(file) for pattern in inside_folders for file in path.rglob(pattern) if file.is_file()})
        if not found:
            wanted = " or ".join(inside_folders)
            raise FileNotFoundError(
                f"{source}: no file named {wanted} in this folder or below. Name the files instead."
            )
        return found
    if not path.exists() and glob.has_magic(source):
        found = sorted(file for file in glob.glob(str(path), recursive=True) if Path(file).is_file())
        if not found:
            raise FileNotFoundError(f"{source}: no file matches this pattern. Check the folder and the pattern.")
        return found
    return [str(path) if path.exists() else source]


@contextmanager
def _whole_file(file: str) -> Iterator[None]:
    """Name a file whose compressed data are broken."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{file}: broken compressed data ({error}). Fetch the file again.") from error


def _text_lines(file: str) -> Iterator[tuple[int, bytes | None]]:
    """See `numbered_lines`."""
    line = 0
    try:
        for line, content in numbered_lines(file):
            yield line, content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(
            f"{file}: broken compressed data after line {line} ({error}). Fetch the file again."
        ) from error


def _read_jsonl(file: str, bad_rows: BadRows) -> Iterator[tuple[int, dict | None]]:
    for line, content in _text_lines(file):
        if content is not None and not content.strip():
            continue
        value = None
        try:
            value = None if content is None else parse_json(content)
            fault = None if isinstance(value, dict) else f"a JSON {type(value).__name__}, not an object of columns"
            fault = fault if content is not None else f"more than {MAX_LINE} bytes"
        except JSONFault as error:
            fault = str(error)
        if fault:
            bad_rows.add(Place(file, line), fault, "Mend or remove the line.")
        yield line, None if fault else value


def _read_json(file: str, bad_rows: BadRows) -> Iterator[tuple[int, dict | None]]:
    try:
        with _whole_file(file):
            content = read_whole(file)
        values = parse_json(content)
    except JSONFault as error:
        hint = "If it holds one object a line, name it .jsonl." if "Extra data" in str(error) else "Mend the file."
        raise SourceError(f"{file} line {error.line}: {error}. {hint}") from error
    if not isinstance(values, list):
        raise SourceError(f"{file}: holds a JSON {type(values).__name__}. A list of objects is needed.")
    for line, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            fault = f"a JSON {type(value).__name__}, not an object of columns"
            bad_rows.add(Place(file, line), fault, "Mend or remove the row.")
            value = None
        yield line, value


def _decoded_lines(file: str) -> Iterator[str]:
    for line, content in _text_lines(file):
        if content is None:
            raise SourceError(f"{file} line {line}: more than {MAX_LINE} bytes. Check the quotes.")
        try:
            yield content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise SourceError(f"{file} line {line}: not UTF-8 ({error.reason}). Save the file as UTF-8.") from error


def _read_csv(file: str, bad_rows: BadRows) -> Iterator[tuple[int, dict | None]]:
    allow_long_fields()
    reader = csv.reader(_decoded_lines(file), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) != len(header):
            raise SourceError(f"{file}: a column name occurs twice in the header {header}. Rename one.")
        line = reader.line_num + 1  # a quoted field may span lines: a row is named by its first line
        for fields in reader:
            if fields and len(fields) != len(header):
                fault = f"{len(fields)} fields where the header has {len(header)}"
                bad_rows.add(Place(file, line), fault, "Put texts with commas in double quotes.")
                yield line, None
            elif fields:
                yield line, dict(zip(header, fields, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise SourceError(f"{file} line {reader.line_num}: not CSV ({error}). Check the quotes.") from error


def _read_parquet(file: str, columns: Sequence[str] | None, bad_rows: BadRows) -> Iterator[tuple[int, dict | None]]:
    line = 0
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            check_columns(table.schema_arrow.names, columns or (), file)
            for batch in table.iter_batches(batch_size=1024, columns=columns and list(columns)):
                for values, fault in batch_rows(batch):
                    line += 1
                    if fault:
                        bad_rows.add(Place(file, line), fault, "Mend or remove the row.")
                    yield line, values
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{file}: broken Parquet after row {line} ({error}). Fetch the file again.") from error


def _read_source(source: str, columns: Sequence[str] | None, bad_rows: BadRows) -> Iterator[tuple[int, dict | None]]:
    """Rows of any source with their numbers; None for a row that was reported as bad."""
    suffix = suffix_of(source)
    if suffix is None and Path(source).is_file():
        raise SourceError(f"{source}: the kind of file is not known. Use one of {', '.join(SUFFIXES)}.")
    if suffix and not Path(source).exists():
        raise FileNotFoundError(f"{source}: no such file. Check the path.")
    if suffix is None or Path(source).is_dir():
        return read_datasets_source(source, columns, bad_rows)
    if suffix == ".parquet":
        return _read_parquet(source, columns, bad_rows)
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv}
    return readers[suffix.removesuffix(".gz")](source, bad_rows)


def read_rows(
    source: str, bad_rows: BadRows, columns: Sequence[str] | None = None, max_rows: int | None = None
) -> Iterator[Row]:
    """Read the rows of one file or `datasets` source in their order.

    Args:
        source: a .jsonl, .json (a list of objects) or .csv file, each also as .gz; a .parquet file; a folder saved by
            `datasets` or a data set of the Hub as "name[:config][:split]".
        bad_rows: told of lines that are no rows, and of rows that lack a column which the first row has.
        columns: read these only; None reads all.
        max_rows: read this many rows at most, bad ones counted.

    Yields:
        Rows with their places.

    Raises:
        FileNotFoundError: there is no such file.
        SourceError: the file is broken, or its first row lacks one of `columns`.
        BadRowError: a bad row under the policy "error".
    """
    first = True
    for count, (line, values) in enumerate(_read_source(source, columns, bad_rows), start=1):
        if values is not None:
            if first:
                check_columns(values, columns or (), source)
                first = False
            lacking = [column for column in columns or () if column not in values]
            if lacking:
                bad_rows.add(Place(source, line), f"no column {lacking[0]!r}", "Every row of a file needs it.")
            else:
                yield Row({column: values[column] for column in columns} if columns else values, Place(source, line))
        if max_rows is not None and count >= max_rows:
            return
