# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The one reader of data files: rows, each with the place it came from, whatever they are for.

JSON Lines and CSV are read line by line and not through `datasets`, because a message about a bad row has to name the
line as an editor shows it. Parquet and `datasets` sources stream through Arrow and are never in memory as a whole.

Files come from strangers, and none may end a run. Lines are read up to a limit, since a compressed file of 2 MB may hold
one of 2 GiB. JSON that Python cannot take is a fault of its row like broken JSON. Parquet is taken row by row where a batch
holds something that cannot be read.
"""

import csv
import glob
import gzip
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from unime.data.bad_rows import BadRows, Place, SourceError
from unime.data.columns import check_columns
from unime.data.datasets_source import load_dataset

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")
MAX_LINE = 2**26  # bytes; a row of MMEB with a thousand long candidates takes some megabytes
MAX_JSON = 2**31  # bytes of a file that is one JSON value, which has to be in memory as a whole
MAX_CSV_FIELD = 2**24  # characters; the csv module stops at 131,072 otherwise
ARROW_ROWS = 256  # at a time; a row of an evaluation set may hold a thousand candidates
PIECE = 2**20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Numbered = tuple[int, dict[str, Any] | None, str | None]  # line or row, its columns, or why it cannot be read


class Row(NamedTuple):
    """One row: its columns, and where it came from."""

    values: dict[str, Any]
    place: Place


class JSONFault(ValueError):
    """JSON that cannot be read. The message is to be read after the name of its place; `line` counts from 1."""

    def __init__(self, message: str, line: int = 1):
        super().__init__(message)
        self.line = line


def suffix_of(file: str | os.PathLike) -> str | None:
    """The suffix of a file that `read_rows` can read, for example ".jsonl.gz"; None for any other name."""
    return next((suffix for suffix in SUFFIXES if str(file).lower().endswith(suffix)), None)


def expand_source(source: str, inside_folders: Sequence[str] = ()) -> list[str]:
    """The files that a file, folder, glob pattern or name of a `datasets` source stands for, in sorted order.

    A folder stands for what matches `inside_folders` at any depth; without these for a data set that `datasets` saved.
    """
    if not source.strip():  # a shell variable that is not set, which would mean the folder one is in
        raise ValueError("a source of data has an empty name; give a file, a folder or the name of a data set")
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


def read_rows(
    source: str | os.PathLike,
    bad_rows: BadRows,
    columns: Sequence[str] | None = None,
    max_rows: int | None = None,
) -> Iterator[Row]:
    """Read the rows of one file or `datasets` source in their order, of `max_rows` at most, bad ones counted.

    A source is a .jsonl, .json (a list of objects, or an object of objects) or .csv file, each also as .gz; a .parquet file;
    a folder saved by `datasets`, or a data set of the Hub as "name[:config][:split]". `bad_rows` is told of lines that are no
    rows, and of rows that lack a column which the first one has; a broken file, or one without the columns, is a SourceError.
    """
    source = str(source)
    wanted = columns or ()
    first = True
    for count, (line, values, fault) in enumerate(_numbered_rows(source, columns), start=1):
        place = Place(source, line)
        if fault is None and first:
            check_columns(values, wanted, source)
            first = False
        lacking = [] if fault else [column for column in wanted if column not in values]
        if fault or lacking:
            bad_rows.add(place, fault or f"no column {lacking[0]!r}")
        else:
            yield Row({column: values[column] for column in columns} if columns else values, place)
        if count == max_rows:
            return


def _numbered_rows(source: str, columns: Sequence[str] | None) -> Iterator[Numbered]:
    suffix, path = suffix_of(source), Path(source)
    if suffix is None and path.is_file():
        raise SourceError(f"{source}: the kind of file is not known. Use one of {', '.join(SUFFIXES)}.")
    if suffix and not path.exists():
        raise FileNotFoundError(f"{source}: no such file. Check the path.")
    if suffix is None or path.is_dir():
        return _read_dataset(source, columns)
    if suffix == ".parquet":
        return _read_parquet(source, columns)
    readers = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv}
    return _decompressed(source, readers[suffix.removesuffix(".gz")](source))


def _decompressed(file: str, rows: Iterator[Numbered]) -> Iterator[Numbered]:
    line = 0
    try:
        for line, values, fault in rows:
            yield line, values, fault
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(
            f"{file}: broken compressed data after {Place(file, line).within} ({error}). Fetch the file again."
        ) from error


def _open(file: str):
    return gzip.open(file) if file.lower().endswith(".gz") else open(file, "rb")


def _lines(file: str) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines, split at line feeds only, as editors count; None for one above `MAX_LINE` bytes."""
    with _open(file) as stream:
        line = 0
        while content := stream.readline(MAX_LINE + 1):
            line += 1
            if len(content) > MAX_LINE:
                while content and not content.endswith(b"\n"):
                    content = stream.readline(PIECE)
                yield line, None
            else:
                yield line, content.removeprefix(BYTE_ORDER_MARK) if line == 1 else content


def _parse_json(content: bytes) -> Any:
    """A value out of JSON; JSONFault where it is none, or one that Python cannot take."""
    try:
        return json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1)
        raise JSONFault(f"not UTF-8 ({error.reason} at byte {column + 1} of the line)", line) from error
    except json.JSONDecodeError as error:
        message = f"not JSON ({error.msg.removesuffix(' at')}, at character {error.colno})"
        raise JSONFault(message, error.lineno) from error
    except RecursionError as error:
        raise JSONFault("JSON that is nested too deeply") from error
    except ValueError as error:  # of int()
        raise JSONFault("JSON with a number of too many digits") from error


def _as_row(number: int, value: Any) -> Numbered:
    if isinstance(value, dict):
        return number, value, None
    return number, None, f"a JSON {type(value).__name__}, not an object of columns"


def _read_jsonl(file: str) -> Iterator[Numbered]:
    for line, content in _lines(file):
        if content is None:
            yield line, None, f"more than {MAX_LINE} bytes"
        elif content.strip():
            try:
                row = _as_row(line, _parse_json(content))
            except JSONFault as fault:
                row = line, None, str(fault)
            yield row


def _read_json(file: str) -> Iterator[Numbered]:
    content = bytearray()
    with _open(file) as stream:
        while piece := stream.read(PIECE):
            content += piece
            if len(content) > MAX_JSON:
                raise SourceError(f"{file}: more than {MAX_JSON} bytes as one value. Save it as JSON Lines (.jsonl).")
    try:
        values = _parse_json(bytes(content).removeprefix(BYTE_ORDER_MARK))
    except JSONFault as fault:
        hint = "If it holds one object a line, name it .jsonl." if "Extra data" in str(fault) else "Mend the file."
        raise SourceError(f"{file} line {fault.line}: {fault}. {hint}") from fault
    if isinstance(values, dict) and any(isinstance(value, dict) for value in values.values()):
        values = list(values.values())  # SugarCrepe's form
    if not isinstance(values, list):
        raise SourceError(f"{file}: holds a JSON {type(values).__name__}. A list of objects is needed.")
    for number, value in enumerate(values, start=1):
        yield _as_row(number, value)


def _text_lines(file: str) -> Iterator[str]:
    for line, content in _lines(file):
        if content is None:
            raise SourceError(f"{file} line {line}: more than {MAX_LINE} bytes. Check the quotes.")
        try:
            yield content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise SourceError(f"{file} line {line}: not UTF-8 ({error.reason}). Save the file as UTF-8.") from error


def _read_csv(file: str) -> Iterator[Numbered]:
    csv.field_size_limit(MAX_CSV_FIELD)
    reader = csv.reader(_text_lines(file), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) != len(header):
            raise SourceError(f"{file}: a column name occurs twice in the header {header}. Rename one.")
        line = reader.line_num + 1  # a quoted field may span lines: a row is named by its first line
        for fields in reader:
            if fields and len(fields) != len(header):
                yield line, None, f"{len(fields)} fields where the header has {len(header)}"
            elif fields:
                yield line, dict(zip(header, fields, strict=True)), None
            line = reader.line_num + 1
    except csv.Error as error:
        raise SourceError(f"{file} line {reader.line_num}: not CSV ({error}). Check the quotes.") from error


def _read_parquet(file: str, columns: Sequence[str] | None) -> Iterator[Numbered]:
    row = 0
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            check_columns(table.schema_arrow.names, columns or (), file)
            for row, values, fault in _rows_of(table.iter_batches(ARROW_ROWS, columns=columns and list(columns))):
                yield row, values, fault
    except (pyarrow.ArrowException, OSError) as error:
        raise SourceError(f"{file}: broken Parquet after row {row} ({error}). Fetch the file again.") from error


def _read_dataset(source: str, columns: Sequence[str] | None) -> Iterator[Numbered]:
    loaded = load_dataset(source)
    check_columns(loaded.column_names, columns or (), source)
    if columns:
        loaded = loaded.select_columns(list(columns))
    yield from _rows_of(loaded.with_format("arrow").iter(batch_size=ARROW_ROWS))


def _rows_of(batches: Iterator[pyarrow.RecordBatch | pyarrow.Table]) -> Iterator[Numbered]:
    row = 0
    for batch in batches:
        try:
            rows = [(values, None) for values in batch.to_pylist()]
        except (ValueError, OverflowError):  # a text that is not UTF-8, a time that Python does not know, ...
            rows = [_only_row(batch.slice(number, 1)) for number in range(batch.num_rows)]
        for values, fault in rows:
            row += 1
            yield row, values, fault


def _only_row(batch: pyarrow.RecordBatch | pyarrow.Table) -> tuple[dict[str, Any] | None, str | None]:
    try:
        return batch.to_pylist()[0], None
    except (ValueError, OverflowError) as error:
        return None, f"a value that cannot be read ({error})"
