# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Text triplets (query, positive, hard negative) for the contrastive baseline of stage 1.

A text that occurs in several rows is kept once, and rows hold numbers. The number says which candidates are equal, on
all ranks alike, and tokenising or hashing a text is done once.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trainers.data.texts import DEFAULT_COLUMNS, TextFault, clean_text, read_text_rows
from unime.data.bad_rows import BadRows, as_bad_rows

logger = logging.getLogger(__name__)


class Triplets(NamedTuple):
    """Triplets by number.

    Args:
        texts: the distinct texts, in order of appearance.
        rows: (N, 3) int32 numbers of query, positive and hard negative; -1 where there is none.
    """

    texts: list[str]
    rows: np.ndarray


def load_triplets(
    sources: str | Sequence[str],
    columns: Sequence[str] = DEFAULT_COLUMNS,
    on_bad_row: str | BadRows = "error",
    max_rows: int | None = None,
) -> Triplets:
    """Load triplets, in the order of the sources and their rows.

    Args:
        sources: see `trainers.data.texts.load_texts`.
        columns: query, positive and hard negative; two columns mean that there are no hard negatives. A hard negative
            may also be null or empty in single rows.
        on_bad_row: "error" stops at the first row without a query or positive, or with a value that is no text; "skip"
            leaves such rows out. A `BadRows` collects them for the caller.
        max_rows: read this many rows of each file at most; None reads all.

    Returns:
        The triplets. Texts are without surrounding white space.

    Raises:
        SourceError: a file is broken, or lacks a column.
        BadRowError: a bad row under the policy "error".
        ValueError: a source names one column or more than three, or there is no triplet at all.

    Example:
        >>> load_triplets(["nli.csv", "pairs.jsonl::question,answer"])  # doctest: +SKIP
    """
    numbers: dict[str, int] = {}
    rows: list[tuple[int, int, int]] = []
    bad_rows = as_bad_rows(on_bad_row)
    already_bad = len(bad_rows)
    for row, wanted in read_text_rows(sources, columns, bad_rows, max_rows):
        if len(wanted) not in (2, 3):
            raise ValueError(
                f"{row.place.file}: {len(wanted)} columns ({', '.join(wanted)}). Triplets need two or three: query, "
                "positive and, if there is one, hard negative."
            )
        try:
            texts = [clean_text(column, row.values[column]) for column in wanted[:2]]
            texts += [
                clean_text(column, row.values[column]) for column in wanted[2:] if not _absent(row.values[column])
            ]
        except TextFault as fault:
            bad_rows.add(row.place, str(fault), "Fill or remove the row.")
            continue
        query, positive, *negative = (numbers.setdefault(text, len(numbers)) for text in texts)
        rows.append((query, positive, negative[0] if negative else -1))
    if len(bad_rows) > already_bad:
        logger.warning(bad_rows.report(max_rows=20))
    if not rows:
        raise ValueError(f"No triplet was found in {sources}. Check the sources.")
    return Triplets(list(numbers), np.array(rows, np.int32))


def _absent(value: object) -> bool:
    """Whether a hard negative is left out: null, or nothing but white space."""
    return value is None or (isinstance(value, str) and not value.strip())
