# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Texts of stage 1. The distillation loss needs no pairs, so that every text of a row is one more text."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import datasets

from trainers.data.held_rows import HeldRows
from unime.data.bad_rows import BadRows, as_bad_rows
from unime.data.columns import COLUMN_MARK, text_fault
from unime.data.rows import expand_source, read_rows

logger = logging.getLogger(__name__)

DEFAULT_COLUMNS = ("sent0", "sent1", "hard_neg")  # of files
# Of data sets in memory: those that are there.
KNOWN_COLUMNS = (
    "text texts sentence sentences sent0 sent1 hard_neg sentence1 sentence2 anchor query positive negative negatives "
    "caption captions"
).split()


@dataclass
class TextArguments:
    """The texts of stage 1."""

    texts: list[str] = field(
        metadata={
            "help": "Files (.jsonl, .jsonl.gz, .json, .csv, .parquet), globs, folders or names of data sets. "
            "FILE::column1,column2 gives a source columns of its own."
        }
    )
    columns: list[str] = field(
        default_factory=lambda: list(DEFAULT_COLUMNS),
        metadata={"help": "Columns with texts, or with lists of texts, of the sources that name none."},
    )
    max_rows_per_source: int | None = field(default=None, metadata={"help": "Rows read of each file. Default: all."})
    on_bad_row: str = field(
        default="error",
        metadata={
            "help": "Rows with a missing or empty text: stop before training (error), or leave them out and list them "
            "(skip).",
            "choices": ["error", "skip"],
        },
    )


def split_columns(source: str, default: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Take the columns off "path::column1,column2"; a source without has the default ones."""
    path, mark, names = source.rpartition(COLUMN_MARK)
    if not mark:
        return source, tuple(default)
    columns = tuple(name.strip() for name in names.split(",") if name.strip())
    if not columns:
        raise ValueError(f"{source}: no column is named; write path{COLUMN_MARK}column1,column2")
    return path, columns


def texts_of_row(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """The texts of a row, in the order of the columns and of lists, stripped; ValueError, to be read after the row's name."""
    texts = []
    for column in columns:
        value = row.get(column)  # which a dict in memory may lack
        is_list = isinstance(value, list | tuple)
        if is_list and not value:
            raise ValueError(f"column {column!r} is an empty list")
        for text in value if is_list else [value]:
            fault = text_fault(text) or (None if text.strip() else "is empty")
            if fault:
                raise ValueError(f"{'a member of ' if is_list else ''}column {column!r} {fault}")
            texts.append(text.strip())
    return texts


def load_texts(
    sources: str | Sequence[str],
    columns: Sequence[str] = DEFAULT_COLUMNS,
    on_bad_row: str | BadRows = "error",
    max_rows: int | None = None,
) -> datasets.Dataset:
    """The distinct texts of files, in their order, as a data set with the column "text".

    A text that occurs twice in a batch would compete with itself in the softmax of the distillation loss.

    Sources are those of `unime.data.rows.read_rows`; "source::column1,column2" gives one columns of its own, with texts or
    lists of texts. The policy "skip" leaves a row without one of its texts out as a whole.
    """
    sources = [sources] if isinstance(sources, str) else list(sources)
    bad_rows = as_bad_rows(on_bad_row)
    already_bad = len(bad_rows)
    texts: dict[str, None] = {}
    for source in sources:
        pattern, wanted = split_columns(source, columns)
        for file in expand_source(pattern):
            for row in read_rows(file, bad_rows, wanted, max_rows):
                try:
                    texts |= dict.fromkeys(texts_of_row(row.values, wanted))
                except ValueError as fault:
                    bad_rows.add(row.place, str(fault), "Fill or remove the row.")
    if len(bad_rows) > already_bad:
        logger.warning(bad_rows.report())
    if not texts:
        raise ValueError(f"no text was found in {', '.join(sources) or 'an empty list of sources'}; check the sources")
    return datasets.Dataset.from_dict({"text": list(texts)})


def row_texts(rows: Sequence[Mapping], name: str, columns: Sequence[str] | None = None) -> list[list[str]]:
    """The texts of each row of a data set in memory, in the columns named, else in those of a known name, else in the only
    column of texts."""
    held = HeldRows(rows, name)
    columns = find_text_columns(held, columns)
    bad_rows, found = BadRows(has_option=False), []
    for row in held.read(columns):
        try:
            found.append(texts_of_row(row.values, columns))
        except ValueError as fault:
            bad_rows.add(row.place, str(fault), "Fill or remove the row.")
    return found


def find_text_columns(held: HeldRows, columns: Sequence[str] | None) -> list[str]:
    """The columns that hold texts, of those asked for or else of all."""
    present = ", ".join(held.columns)
    if columns is not None:
        absent = [column for column in columns if column not in held.columns]
        if absent:
            raise ValueError(f"{held.name} has no column {absent[0]!r}; its columns are {present}")
        return list(columns)
    known = [column for column in KNOWN_COLUMNS if column in held.columns]
    strings = known or [column for column, value in held[0].items() if isinstance(value, str)]
    if not known and len(strings) != 1:
        raise ValueError(f"which columns of {held.name} hold texts? Name them as text_columns; it has {present}")
    return strings
