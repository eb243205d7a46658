# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""One row of an MMEB training file: which columns it must have, and what they mean."""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

from modeling_unime.pictures import is_picture
from unime.data.columns import SourceError, text_fault
from unime.data.example import Example

QUERY, POSITIVE, NEGATIVE = ("qry", "qry_image_path"), ("pos_text", "pos_image_path"), ("neg_text", "neg_image_path")
KNOWN_COLUMNS = QUERY + POSITIVE + NEGATIVE
IMAGE_TOKEN = "<|image_1|>"  # marks the image in MMEB strings; the processor turns it into the model's own
LOOKALIKE_CUTOFF = 0.75  # ratio of difflib; "qry_img_path" and "negative_text" are above it, "ques_type" is below


class RowFault(ValueError):
    """Why a row cannot be used."""


class TrainingRow(NamedTuple):
    """A query, its positive and its hard negatives; a judge's scores of positive and negatives, where there are any."""

    query: Example
    positive: Example
    negatives: tuple[Example, ...]
    scores: tuple[float, ...] | None = None

    @property
    def examples(self) -> tuple[Example, ...]:
        """All of them, the query first."""
        return self.query, self.positive, *self.negatives


def check_mmeb_columns(available: Sequence[str], file: str, needs_query: bool = True) -> None:
    """Make sure that a file has the columns of MMEB training rows, and none that looks like a misspelt one of them.

    Other columns are allowed. A negative that is misspelt would otherwise go unused without a word. Files of candidates
    need no query.

    Raises:
        SourceError: naming the file, the column and the columns that exist.
    """
    columns = f"Its columns are: {', '.join(map(str, available)) or 'none'}"
    absent = [column for column in KNOWN_COLUMNS if column not in available]
    if "qry" in absent and "tgt_text" in available:
        raise SourceError(
            f"{file}: no column 'qry'. {columns}. This looks like an evaluation file: give a training file."
        )
    for column in available:
        if column not in KNOWN_COLUMNS:
            meant = difflib.get_close_matches(column, absent, n=1, cutoff=LOOKALIKE_CUTOFF)
            if meant:
                raise SourceError(
                    f"{file}: unknown column {column!r} looks like {meant[0]!r}. {columns}. Rename or remove it."
                )
    if needs_query and "qry" in absent:
        raise SourceError(f"{file}: no column 'qry'. {columns}. It holds the text of the query.")
    if all(column in absent for column in POSITIVE):
        raise SourceError(f"{file}: no column 'pos_text' and none 'pos_image_path'. {columns}. One of them is needed.")


def parse_example(text: object, image: object, columns: tuple[str, str]) -> Example | None:
    """A raw MMEB string and its image as an example; None when there is neither.

    Raises:
        RowFault: one of the two is not a text; it goes by the name of its column.
    """
    is_path = isinstance(image, str) or not is_picture(image)  # rows in memory may hold the picture itself
    for column, value in zip(columns, (text, image if is_path else None), strict=True):
        fault = text_fault(value) if value is not None else None
        if fault:
            raise RowFault(f"column {column!r} {fault}")
    # MMEB strings carry their own instruction and image token, hence the empty instruction: the text as it stands.
    # A text of nothing but the token names an image that is not there, and says nothing else.
    has_words = bool(text and text.replace(IMAGE_TOKEN, "").strip())
    image = (image or None) if is_path else image  # an array has no truth value
    if not has_words and image is None:
        return None
    return Example(text=text or None, image=image, instruction="")


def parse_side(values: dict, columns: tuple[str, str], name: str) -> Example:
    """The query or the positive.

    Raises:
        RowFault: a column is not a text, or both are empty.
    """
    example = parse_example(values.get(columns[0]), values.get(columns[1]), columns)
    if example is None:
        raise RowFault(f"the {name} has neither a text nor an image (columns {columns[0]!r}, {columns[1]!r})")
    return example


def _negatives(values: dict) -> tuple[Example, ...]:
    texts, images = (values.get(column) for column in NEGATIVE)
    if not isinstance(texts, list) and not isinstance(images, list):
        texts, images = [texts], [images]
    # One column may be a list and the other absent or empty; two lists go together member by member.
    texts = texts if isinstance(texts, list) else [texts] * len(images)
    images = images if isinstance(images, list) else [images] * len(texts)
    texts, images = texts or [None] * len(images), images or [None] * len(texts)
    if len(texts) != len(images):
        raise RowFault(f"columns {NEGATIVE[0]!r} and {NEGATIVE[1]!r} list {len(texts)} and {len(images)} negatives")
    examples = (parse_example(text, image, NEGATIVE) for text, image in zip(texts, images, strict=True))
    return tuple(example for example in examples if example is not None)


def parse_mmeb_row(values: dict, needs_query: bool = True) -> TrainingRow:
    """Read one row.

    Args:
        values: the columns. An empty string, a null or an absent column means that this modality is absent. The
            negative columns may hold lists, for several hard negatives.
        needs_query: False for a row of which only the positive counts: its query is left empty, and it has no negatives.

    Returns:
        The row. Texts are kept to the letter, with the image token and the final newline that MMEB has.

    Raises:
        RowFault: the query or the positive is empty, a column is not a text, or two lists differ in length.
    """
    positive = parse_side(values, POSITIVE, "positive")
    if not needs_query:
        return TrainingRow(Example(), positive, ())
    return TrainingRow(parse_side(values, QUERY, "query"), positive, _negatives(values))
