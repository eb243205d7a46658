# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""One training row in the form that UniME-V2 is published with: hard negatives, and a judge's score of every candidate."""

from collections.abc import Sequence

from unime.data.columns import SourceError
from unime.data.example import Example
from unime.data.mmeb_rows import RowFault, TrainingRow, parse_example, parse_side

QUERY, POSITIVE = ("query_text", "query_image"), ("pos_text", "pos_image")
POSITIVE_SCORE, NEGATIVES, NEGATIVE_SCORES = "query_pos_scores", "hard_negatives", "hard_negatives_scores"
COLUMNS = (*QUERY, *POSITIVE, POSITIVE_SCORE, NEGATIVES, NEGATIVE_SCORES)


def is_judged(available: Sequence[str]) -> bool:
    """Whether columns are meant to be those of this form, complete or not; mined rows of MMEB's form hold scores too."""
    return "qry" not in available and any(column in available for column in (QUERY[0], NEGATIVES, NEGATIVE_SCORES))


def check_judged_columns(available: Sequence[str], file: str) -> None:
    """Make sure that a file has all columns of the form. Other columns are allowed.

    Raises:
        SourceError: naming the file, the column and the columns that exist.
    """
    absent = [column for column in COLUMNS if column not in available]
    if absent:
        raise SourceError(
            f"{file}: no column {absent[0]!r}. Its columns are: {', '.join(map(str, available))}. Rows with a judge's "
            f"scores need {', '.join(COLUMNS)}."
        )


def _score(value: object, column: str) -> float:
    """A score of a judge: the probability of Yes."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RowFault(f"{column} is of type {type(value).__name__}, not a number")
    if not 0 <= value <= 1:  # NaN, too
        raise RowFault(f"{column} is {value}, not a number from 0 to 1")
    return float(value)


def _list(values: dict, column: str) -> list:
    value = values.get(column)
    if not isinstance(value, list):
        raise RowFault(f"column {column!r} is of type {type(value).__name__}, not a list")
    return value


def _negative(entry: object, number: int) -> Example:
    """A negative out of [text, image path]."""
    column = f"{NEGATIVES}[{number}]"
    if not isinstance(entry, list) or len(entry) != 2:
        raise RowFault(f"{column} is not a pair of text and image path")
    example = parse_example(*entry, (column, column))
    if example is None:
        raise RowFault(f"{column} has neither a text nor an image")
    return example


def parse_judged_row(values: dict) -> TrainingRow:
    """Read one row.

    Args:
        values: the columns: `query_text`, `query_image`, `pos_text`, `pos_image`, where an empty string or a null means that
            this modality is absent; `query_pos_scores`, the positive's score; `hard_negatives`, a list of [text, image
            path]; `hard_negatives_scores`, one score for each. Scores are probabilities, from 0 to 1.

    Returns:
        The row. Texts are kept to the letter, with the image token and the final newline that MMEB has.

    Raises:
        RowFault: an example is empty, a column is of the wrong type, a score is no probability, or the lists differ in
            length.
    """
    query, positive = parse_side(values, QUERY, "query"), parse_side(values, POSITIVE, "positive")
    entries, judged = _list(values, NEGATIVES), _list(values, NEGATIVE_SCORES)
    if len(entries) != len(judged):
        raise RowFault(f"{len(entries)} {NEGATIVES!r} have {len(judged)} {NEGATIVE_SCORES!r}")
    negatives = tuple(_negative(entry, number) for number, entry in enumerate(entries))
    scores = [_score(values.get(POSITIVE_SCORE), repr(POSITIVE_SCORE))]
    scores += [_score(score, f"{NEGATIVE_SCORES}[{number}]") for number, score in enumerate(judged)]
    return TrainingRow(query, positive, negatives, tuple(scores))
