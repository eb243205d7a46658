# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Texts for stage 1. The distillation loss needs no pairs, so that every text column of a source is one more text."""

import logging
from collections.abc import Iterator, Sequence

from unime.data.bad_rows import BadRows, as_bad_rows
from unime.data.columns import COLUMN_MARK, text_fault
from unime.data.rows import Row, expand_source, read_rows

logger = logging.getLogger(__name__)

DEFAULT_COLUMNS = ("sent0", "sent1", "hard_neg")


class TextFault(ValueError):
    """Why a column of one row gives no text."""


def split_columns(source: str, default: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Take the columns off "path::column1,column2".

    Args:
        source: a source, with or without columns of its own.
        default: the columns of a source without.

    Returns:
        The source and its columns.

    Raises:
        ValueError: no column is named.
    """
    path, mark, names = source.rpartition(COLUMN_MARK)
    if not mark:
        path, names = source, ",".join(default)
    columns = tuple(name.strip() for name in names.split(",") if name.strip())
    if not columns:
        raise ValueError(f"{source}: no column is named. Write path{COLUMN_MARK}column1,column2.")
    return path, columns


def clean_text(column: str, value: object, member: bool = False) -> str:
    """A text of a row without surrounding white space, which is no part of it.

    Args:
        column: its column, for the message.
        value: what should be a text.
        member: whether it stands in a list, for the message.

    Raises:
        TextFault: it is none, or empty.
    """
    fault = text_fault(value)
    if fault is None and not value.strip():
        fault = "is empty"
    if fault:
        raise TextFault(f"{'a member of ' if member else ''}column {column!r} {fault}")
    return value.strip()


def texts_of(column: str, value: object) -> Iterator[str]:
    """The texts of one column: itself, or the members of a list."""
    if not isinstance(value, list):
        yield clean_text(column, value)
    elif not value:
        raise TextFault(f"column {column!r} is an empty list")
    else:
        yield from (clean_text(column, member, member=True) for member in value)


def read_text_rows(
    sources: str | Sequence[str], columns: Sequence[str], bad_rows: BadRows, max_rows: int | None
) -> Iterator[tuple[Row, tuple[str, ...]]]:
    """Rows of sources, each with the columns to read of it.

    Args:
        sources: see `load_texts`.
        columns: those of sources that name none.
        bad_rows: told of lines that are no rows.
        max_rows: of each file; None reads all.
    """
    for source in [sources] if isinstance(sources, str) else sources:
        pattern, wanted = split_columns(source, columns)
        for file in expand_source(pattern):
            for row in read_rows(file, bad_rows, wanted, max_rows):
                yield row, wanted


def load_texts(
    sources: str | Sequence[str],
    columns: Sequence[str] = DEFAULT_COLUMNS,
    on_bad_row: str | BadRows = "error",
    max_rows: int | None = None,
    distinct: bool = True,
) -> list[str]:
    """Load the texts of stage 1, in the order of the sources, their rows, the columns, and the members of a list.

    Args:
        sources: files, glob patterns, folders saved by `datasets`, or names "name[:config][:split]" of data sets
            (see `unime.data.rows.read_rows`). "source::column1,column2" gives a source columns of its own.
        columns: the columns to read of all other sources. A column may hold a text or a list of texts, such as the
            captions of a picture.
        on_bad_row: "error" stops at the first row with a text that is missing, empty or no string; "skip" leaves such
            rows out as a whole. A `BadRows` collects them for the caller.
        max_rows: read this many rows of each file at most; None reads all.
        distinct: keep the first of equal texts only. A text that occurs twice in a batch would compete with itself in
            the softmax of the distillation loss.

    Returns:
        The texts, without surrounding white space.

    Raises:
        SourceError: a file is broken, or lacks a column.
        BadRowError: a bad row under the policy "error".
        ValueError: there are no sources, or no text at all.

    Example:
        >>> load_texts(["nli.csv", "captions.jsonl.gz::captions"], on_bad_row="skip")  # doctest: +SKIP
    """
    sources = [sources] if isinstance(sources, str) else list(sources)
    bad_rows = as_bad_rows(on_bad_row)
    already_bad = len(bad_rows)
    texts: list[str] = []
    for row, wanted in read_text_rows(sources, columns, bad_rows, max_rows):
        try:
            texts += [text for column in wanted for text in texts_of(column, row.values[column])]
        except TextFault as fault:
            bad_rows.add(row.place, str(fault), "Fill or remove the row.")
    if len(bad_rows) > already_bad:
        logger.warning(bad_rows.report(max_rows=20))
    if not texts:
        raise ValueError(
            f"No text was found in {', '.join(sources) or 'an empty list of sources'}. Check the sources."
        )
    return list(dict.fromkeys(texts)) if distinct else texts
