# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the readers of data files for training and for evaluation share, so that no file of a stranger ends a run.

Lines are read up to a limit, since a compressed file of 2 MB may hold one of 2 GiB. JSON that Python cannot take is a
fault of its row like broken JSON. Parquet is taken row by row where a batch holds something that cannot be read.
"""

import csv
import gzip
import json
import os
from collections.abc import Iterator
from typing import Any

import pyarrow

MAX_LINE = 2**26  # bytes; a row of MMEB with a thousand long candidates takes some megabytes
MAX_JSON = 2**31  # bytes of a file that is one JSON value, which has to be in memory as a whole
MAX_CSV_FIELD = 2**24  # characters; the csv module stops at 131,072 otherwise
_PIECE = 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JSONFault(ValueError):
    """JSON that cannot be read. The message is to be read after the name of its place; `line` counts from 1."""

    def __init__(self, message: str, line: int = 1):
        super().__init__(message)
        self.line = line


def allow_long_fields() -> None:
    """Let the csv module read cells of up to `MAX_CSV_FIELD` characters."""
    csv.field_size_limit(MAX_CSV_FIELD)


def numbered_lines(file: str | os.PathLike) -> Iterator[tuple[int, bytes | None]]:
    """Lines of a plain or gzipped file, split at line feeds only, as editors count.

    Args:
        file: The file; it is compressed if its name ends with `.gz`.

    Yields:
        The line's number from 1, and its bytes with their end and without a byte order mark; None in place of a line
        above `MAX_LINE` bytes, which is passed over in pieces.

    Raises:
        OSError, EOFError, zlib.error: The file cannot be read, or its compressed data are broken.
    """
    with gzip.open(file) if str(file).lower().endswith(".gz") else open(file, "rb") as stream:
        line = 0
        while content := stream.readline(MAX_LINE + 1):
            line += 1
            if len(content) > MAX_LINE:
                while content and not content.endswith(b"\n"):
                    content = stream.readline(_PIECE)
                yield line, None
            else:
                yield line, content.removeprefix(_BYTE_ORDER_MARK) if line == 1 else content


def read_whole(file: str | os.PathLike) -> bytes:
    """All bytes of a plain or gzipped file without a byte order mark.

    Raises:
        JSONFault: It holds more than `MAX_JSON` bytes.
        OSError, EOFError, zlib.error: See `numbered_lines`.
    """
    with gzip.open(file) if str(file).lower().endswith(".gz") else open(file, "rb") as stream:
        content = bytearray()
        while piece := stream.read(_PIECE):
            content += piece
            if len(content) > MAX_JSON:
                raise JSONFault(f"it holds more than {MAX_JSON} bytes as one value; save it as JSON Lines (.jsonl)")
    return bytes(content).removeprefix(_BYTE_ORDER_MARK)


def parse_json(content: bytes) -> Any:
    """A value out of JSON.

    Raises:
        JSONFault: It is not UTF-8, not JSON, or JSON that Python cannot take: nested too deeply, or with a number of
            thousands of digits.
    """
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


def batch_rows(batch: pyarrow.RecordBatch | pyarrow.Table) -> Iterator[tuple[dict[str, Any] | None, str | None]]:
    """Rows of Arrow memory, each with its columns or with what keeps it from being read.

    Args:
        batch: Some rows.

    Yields:
        Columns and None, or None and the fault.
    """
    try:
        yield from ((values, None) for values in batch.to_pylist())
        return
    except (ValueError, OverflowError):  # a text that is not UTF-8, a time that Python does not know, ...
        pass
    for number in range(batch.num_rows):
        try:
            yield batch.slice(number, 1).to_pylist()[0], None
        except (ValueError, OverflowError) as error:
            yield None, f"a value that cannot be read ({error})"


def half_character(text: str) -> str | None:
    """What is wrong with a text that UTF-8 cannot carry, to be read after its name; None if it can."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"holds half a character (a lone surrogate) at position {error.start + 1}"
    return None
