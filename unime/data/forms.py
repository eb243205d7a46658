# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The forms in which training rows come, and how each of them is read.

| form | columns |
| --- | --- |
| general | query, positive, and if wanted negatives (one or a list), instruction, source |
| SimCSE | sent0, sent1, and if wanted hard_neg, source |
| MMEB | qry, qry_image_path, pos_text, pos_image_path, and if wanted neg_text, neg_image_path, source |
| UniME-V2 | query_text, query_image, pos_text, pos_image, query_pos_scores, hard_negatives, hard_negatives_scores |

In the first two a value is what `SentenceTransformer.encode` takes: a text, a picture, or a dict of text, image and
instruction; None and "" are absent. In MMEB's and UniME-V2's, texts carry their own instruction and image token, and an
empty string, a null or an absent column means that a modality is absent; MMEB's negative columns may hold lists.
"""

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from modeling_unime.pictures import is_picture
from unime.data.columns import text_fault
from unime.data.example import Example

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
IMAGE_TOKEN = "<|image_1|>"  # marks the image in MMEB strings; the processor turns it into the model's own
LOOKALIKE_CUTOFF = 0.75  # ratio of difflib; "qry_img_path" and "negative_text" are above it, "ques_type" is below

GENERAL, SIMCSE = ("query", "positive", "negatives"), ("sent0", "sent1", "hard_neg")
# Of text and image of each side.
QUERY, POSITIVE, NEGATIVE = ("qry", "qry_image_path"), ("pos_text", "pos_image_path"), ("neg_text", "neg_image_path")
MMEB_COLUMNS = QUERY + POSITIVE + NEGATIVE
JUDGED_QUERY, JUDGED_POSITIVE = ("query_text", "query_image"), ("pos_text", "pos_image")
POSITIVE_SCORE, NEGATIVES, NEGATIVE_SCORES = "query_pos_scores", "hard_negatives", "hard_negatives_scores"
JUDGED_COLUMNS = (*JUDGED_QUERY, *JUDGED_POSITIVE, POSITIVE_SCORE, NEGATIVES, NEGATIVE_SCORES)


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


class Form(NamedTuple):
    """What says why rows with some columns cannot be used, and what reads a row (RowFault)."""

    column_fault: Callable[[Sequence[str]], str | None]
    parse: Callable[[Mapping[str, Any]], TrainingRow]


def find_form(columns: Sequence[str], needs_query: bool = True) -> Form:
    """The form of a source by the columns of its first row; MMEB's where no other is meant, whose check says what lacks.

    Without `needs_query` only the positives count: rows have an empty query and no negatives.
    """
    if needs_query:
        for names in (GENERAL, SIMCSE):
            if names[0] in columns:
                return Form(partial(_general_fault, names), partial(_parse_general, names))
        # Mined rows of MMEB's form hold scores, too.
        if QUERY[0] not in columns and any(name in columns for name in ("query_text", NEGATIVES, NEGATIVE_SCORES)):
            return Form(_judged_fault, _parse_judged)
    return Form(partial(_mmeb_fault, needs_query=needs_query), partial(_parse_mmeb, needs_query=needs_query))


def _listed(columns: Sequence[str]) -> str:
    return f"Its columns are: {', '.join(map(str, columns)) or 'none'}."


def _misspelt(columns: Sequence[str], known: Sequence[str]) -> str | None:
    """Other columns are allowed, unless they look like a misspelt one: a negative would go unused without a word."""
    absent = [column for column in known if column not in columns]
    for column in columns:
        meant = difflib.get_close_matches(column, absent, n=1, cutoff=LOOKALIKE_CUTOFF)
        if column not in known and meant:
            return f"unknown column {column!r} looks like {meant[0]!r}. {_listed(columns)} Rename or remove it"
    return None


# General and SimCSE


def _general_fault(names: tuple[str, str, str], columns: Sequence[str]) -> str | None:
    query, positive, negatives = names
    if positive not in columns:
        return f"no column {positive!r}. {_listed(columns)} Rows with a {query!r} need one"
    return _misspelt(columns, names) if negatives not in columns else None


def _parse_general(names: tuple[str, str, str], values: Mapping[str, Any]) -> TrainingRow:
    query = _parse_value(values.get(names[0]), names[0], values.get("instruction"))
    positive = _parse_value(values.get(names[1]), names[1])
    for name, column, example in (("query", names[0], query), ("positive", names[1], positive)):
        if example.is_empty:
            raise RowFault(f"the {name} has neither a text nor a picture (column {column!r})")
    negatives = values.get(names[2])
    negatives = negatives if isinstance(negatives, list | tuple) and not _is_array(negatives) else [negatives]
    read = (_parse_value(negative, names[2]) for negative in negatives)
    return TrainingRow(query, positive, tuple(example for example in read if not example.is_empty))


def _parse_value(value: Any, column: str, instruction: str | None = None) -> Example:
    """A value of the general form, its picture as it was given, not opened."""
    if not isinstance(value, Mapping) or set(value) == {"bytes", "path"}:  # the latter is what `datasets.Image` stores
        value = {"image" if _is_picture(value) else "text": value}
    unknown = sorted(set(value) - {"text", "image", "instruction"})
    if unknown:
        raise RowFault(
            f"column {column!r} has the key {unknown[0]!r}; a value is a text, a picture, or a dict of text, image and "
            "instruction"
        )
    text, image = value.get("text"), value.get("image")
    instruction = instruction if value.get("instruction") is None else value["instruction"]
    for name, part in (("text", text), ("instruction", instruction)):
        fault = None if part is None else text_fault(part)
        if fault:
            raise RowFault(f"the {name} of column {column!r} {fault}")
    if (isinstance(image, str) and not image) or _is_empty_image(image):
        image = None
    return Example(text if text and text.strip() else None, image, instruction)


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


# MMEB


def _mmeb_fault(columns: Sequence[str], needs_query: bool = True) -> str | None:
    absent = [column for column in MMEB_COLUMNS if column not in columns]
    if "qry" in absent and "tgt_text" in columns:
        return f"no column 'qry'. {_listed(columns)} This looks like an evaluation file: give a training file"
    if fault := _misspelt(columns, MMEB_COLUMNS):
        return fault
    if needs_query and "qry" in absent:
        return f"no column 'qry'. {_listed(columns)} It holds the text of the query"
    if all(column in absent for column in POSITIVE):
        return f"no column 'pos_text' and none 'pos_image_path'. {_listed(columns)} One of them is needed"
    return None


def _parse_mmeb(values: Mapping[str, Any], needs_query: bool = True) -> TrainingRow:
    positive = _parse_side(values, POSITIVE, "positive")
    if not needs_query:
        return TrainingRow(Example(), positive, ())
    query = _parse_side(values, QUERY, "query")
    texts, images = (values.get(column) for column in NEGATIVE)
    if not isinstance(texts, list) and not isinstance(images, list):
        texts, images = [texts], [images]
    # One column may be a list and the other absent or empty; two lists go together member by member.
    texts = texts if isinstance(texts, list) else [texts] * len(images)
    images = images if isinstance(images, list) else [images] * len(texts)
    texts, images = texts or [None] * len(images), images or [None] * len(texts)
    if len(texts) != len(images):
        raise RowFault(f"columns {NEGATIVE[0]!r} and {NEGATIVE[1]!r} list {len(texts)} and {len(images)} negatives")
    examples = (_parse_raw(text, image, NEGATIVE) for text, image in zip(texts, images, strict=True))
    return TrainingRow(query, positive, tuple(example for example in examples if not example.is_empty))


def _parse_side(values: Mapping[str, Any], columns: tuple[str, str], name: str) -> Example:
    example = _parse_raw(values.get(columns[0]), values.get(columns[1]), columns)
    if example.is_empty:
        raise RowFault(f"the {name} has neither a text nor an image (columns {columns[0]!r}, {columns[1]!r})")
    return example


def _parse_raw(text: object, image: object, columns: tuple[str, str]) -> Example:
    """A raw MMEB string, kept to the letter, and its image; rows in memory may hold the picture itself."""
    is_path = isinstance(image, str) or not is_picture(image)
    for column, value in zip(columns, (text, image if is_path else None), strict=True):
        fault = text_fault(value) if value is not None else None
        if fault:
            raise RowFault(f"column {column!r} {fault}")
    image = (image or None) if is_path else image  # an array has no truth value
    # A text of nothing but the token names an image that is not there, and says nothing else.
    has_words = bool(text and text.replace(IMAGE_TOKEN, "").strip())
    if not has_words and image is None:
        return Example()
    # MMEB strings carry their own instruction and image token, hence the empty instruction: the text as it stands.
    return Example(text or None, image, "")


# UniME-V2


def _judged_fault(columns: Sequence[str]) -> str | None:
    absent = [column for column in JUDGED_COLUMNS if column not in columns]
    needed = f"Rows with a judge's scores need {', '.join(JUDGED_COLUMNS)}"
    return f"no column {absent[0]!r}. {_listed(columns)} {needed}" if absent else None


def _parse_judged(values: Mapping[str, Any]) -> TrainingRow:
    query = _parse_side(values, JUDGED_QUERY, "query")
    positive = _parse_side(values, JUDGED_POSITIVE, "positive")
    for column in (NEGATIVES, NEGATIVE_SCORES):
        if not isinstance(values.get(column), list):
            raise RowFault(f"column {column!r} is of type {type(values.get(column)).__name__}, not a list")
    entries, judged = values[NEGATIVES], values[NEGATIVE_SCORES]
    if len(entries) != len(judged):
        raise RowFault(f"{len(entries)} {NEGATIVES!r} have {len(judged)} {NEGATIVE_SCORES!r}")
    negatives = []
    for number, entry in enumerate(entries):
        column = f"{NEGATIVES}[{number}]"
        if not isinstance(entry, list) or len(entry) != 2:
            raise RowFault(f"{column} is not a pair of text and image path")
        negatives.append(_parse_raw(*entry, (column, column)))
        if negatives[-1].is_empty:
            raise RowFault(f"{column} has neither a text nor an image")
    scores = [_score(values.get(POSITIVE_SCORE), repr(POSITIVE_SCORE))]
    scores += [_score(score, f"{NEGATIVE_SCORES}[{number}]") for number, score in enumerate(judged)]
    return TrainingRow(query, positive, tuple(negatives), tuple(scores))


def _score(value: object, column: str) -> float:
    """A score of a judge: the probability of Yes."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowFault(f"{column} is of type {type(value).__name__}, not a number")
    if not 0 <= value <= 1:  # NaN, too
        raise RowFault(f"{column} is {value}, not a number from 0 to 1")
    return float(value)
