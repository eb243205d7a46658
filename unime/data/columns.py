# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Checks of the columns and texts that a source offers."""

from collections.abc import Iterable, Sequence

from unime.data.raw_rows import half_character

COLUMN_MARK = "::"  # between a source and the columns to read of it


class SourceError(ValueError):
    """A whole file or data set that cannot be used. Raised whatever the policy for bad rows is."""


def check_columns(available: Iterable[str], wanted: Sequence[str], file: str) -> None:
    """Make sure that a source has the columns asked for.

    Raises:
        SourceError: naming the file, the column and the columns that exist.
    """
    available = list(available)
    for column in wanted:
        if column not in available:
            raise SourceError(
                f"{file}: no column {column!r}. Its columns are: {', '.join(map(str, available)) or 'none'}. "
                f"Choose among them with {file}{COLUMN_MARK}column1,column2."
            )


def text_fault(value: object) -> str | None:
    """What makes a value unfit as a text, to be read after the column's name; None if it is fit. It may be empty."""
    if value is None:
        return "is null"
    if not isinstance(value, str):
        return f"is of type {type(value).__name__}, not a text"
    return half_character(value)
