# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Checks of the columns and texts that a source offers."""

from collections.abc import Iterable, Sequence

from unime.data.bad_rows import SourceError

COLUMN_MARK = "::"  # between a source and the columns to read of it


def check_columns(available: Iterable[str], wanted: Sequence[str], file: str) -> None:
    """Make sure that a source has the columns asked for; SourceError names the file, the column and those that exist."""
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
    return None if value.isascii() else half_character(value)  # which takes longer, and there are many


def half_character(text: str) -> str | None:
    """What is wrong with a text that UTF-8 cannot carry, to be read after its name; None if it can."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"holds half a character (a lone surrogate) at position {error.start + 1}"
    return None
