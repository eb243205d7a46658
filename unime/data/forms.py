# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The forms in which training rows come, and how each of them is read.

| form | columns |
| --- | --- |
| general | query, positive, and if wanted negatives (one or a list), instruction, source |
| SimCSE | sent0, sent1, and if wanted hard_neg, source |
| MMEB | qry, qry_image_path, pos_text, pos_image_path, and if wanted neg_text, neg_image_path, source |
| UniME-V2 | query_text, query_image, pos_text, pos_image, query_pos_scores, hard_negatives, hard_negatives_scores |

In the first two a value is what `SentenceTransformer.encode` takes: a text, a picture, or a dict of text, image and
instruction; None and "" are absent. In MMEB's and UniME-V2's, texts carry their own instruction and image token.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from unime.data.columns import SourceError, text_fault
from unime.data.example import Example
from unime.data.judged_rows import check_judged_columns, is_judged, parse_judged_row
from unime.data.mmeb_rows import RowFault, TrainingRow, check_mmeb_columns, parse_mmeb_row

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


class Form(NamedTuple):
    """What checks the columns of a source, and what reads its rows."""

    check_columns: Callable[[Sequence[str], str], None]
    parse: Callable[[dict], TrainingRow]


class _Names(NamedTuple):
    """Columns of a query, its positive and its negatives."""

    query: str
    positive: str
    negatives: str


GENERAL, SIMCSE = _Names("query", "positive", "negatives"), _Names("sent0", "sent1", "hard_neg")


def find_form(columns: Sequence[str], needs_query: bool = True) -> Form:
    """The form of a source by the columns of its first row; MMEB's where no other is meant, whose check says what lacks.

    Args:
        columns: of the row.
        needs_query: False for sources of which only the positives count.
    """
    if not needs_query:
        return Form(partial(check_mmeb_columns, needs_query=False), partial(parse_mmeb_row, needs_query=False))
    for names in (GENERAL, SIMCSE):
        if names.query in columns:
            return Form(partial(_check_names, names), partial(_parse_named, names))
    if is_judged(columns):
        return Form(check_judged_columns, parse_judged_row)
    return Form(check_mmeb_columns, parse_mmeb_row)


def _check_names(names: _Names, columns: Sequence[str], file: str) -> None:
    if names.positive not in columns:
        raise SourceError(
            f"{file}: no column {names.positive!r}. Its columns are: {', '.join(columns)}. Rows with a "
            f"{names.query!r} need one."
        )


def _parse_named(names: _Names, values: Mapping[str, Any]) -> TrainingRow:
    query = parse_value(values.get(names.query), names.query, values.get("instruction"))
    positive = parse_value(values.get(names.positive), names.positive)
    for name, example in (("query", query), ("positive", positive)):
        if example.is_empty:
            raise RowFault(f"the {name} has neither a text nor a picture (column {getattr(names, name)!r})")
    negatives = values.get(names.negatives)
    negatives = negatives if isinstance(negatives, list | tuple) and not _is_array(negatives) else [negatives]
    read = (parse_value(negative, names.negatives) for negative in negatives)
    return TrainingRow(query, positive, tuple(example for example in read if not example.is_empty))


def parse_value(value: Any, column: str, instruction: str | None = None) -> Example:
    """A value of the general form as an example, whose image is the picture as it was given, not opened.

    Args:
        value: see the top of the file.
        column: for messages.
        instruction: of a value that has none of its own.

    Raises:
        RowFault: a dict has keys that are not known, or a text is none.
    """
    if not isinstance(value, Mapping) or set(value) == {"bytes", "path"}:  # the latter is what `datasets.Image` stores
        value = {"image" if _is_picture(value) else "text": value}
    unknown = sorted(set(value) - {"text", "image", "instruction"})
    if unknown:
        raise RowFault(
            f"column {column!r} has the key {unknown[0]!r}; a value is a text, a picture, or a dict of text, image and "
            "instruction"
        )
    text, own = value.get("text"), value.get("instruction")
    for name, part in (("text", text), ("instruction", instruction if own is None else own)):
        fault = None if part is None else text_fault(part)
        if fault:
            raise RowFault(f"the {name} of column {column!r} {fault}")
    image = value.get("image")
    absent = image is None or (isinstance(image, str) and not image) or _is_empty_image(image)
    text = None if text is None or not text.strip() else text
    return Example(text, None if absent else image, instruction if own is None else own)


def _is_picture(value: Any) -> bool:
    """Whether a value by itself is a picture: all but a text, and a text that is the path of an image file."""
    if value is None:
        return False
    return not isinstance(value, str) or (value.lower().endswith(PICTURE_SUFFIXES) and os.path.isfile(value))


def _is_empty_image(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("bytes") is None and not value.get("path")


def _is_array(value: Sequence) -> bool:
    """Whether a list is one picture: Arrow gives an array of numbers back as lists of lists of numbers."""
    return bool(value) and isinstance(value[0], list | tuple) and bool(value[0]) and not isinstance(value[0][0], str)
