# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the benchmarks have in common: rows of examples in, numbers of contents kept, metrics out.

A task is filled row by row and keeps only small integers per row, since a set of MMEB names a million candidates.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from evaluation.encoder import BaseEncoder
from evaluation.metrics import check_not_constant
from unime.data.content import ContentIndex, ImageCheck
from unime.data.example import Example
from unime.data.image_sizes import ImageSizes
from unime.data.images import ImageStore


class RowError(ValueError):
    """A row does not have the fields of its form. The message names the field."""


@dataclass
class Score:
    """What a task measured.

    Args:
        metrics: Name to value, fractions or correlations; not percentages.
        chance: What a random model gets in each headline metric.
        details: Further facts, ready for JSON.
    """

    metrics: dict[str, float]
    chance: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ParsedRow:
    """A row whose fields have been checked, but not its images.

    Args:
        examples: All that is to be encoded, in the order in which `Task.keep` gets the numbers.
        extra: What else the task needs of the row: a human score, a subset.
    """

    examples: list[Example]
    extra: Any = None


class Task(ABC):
    """One data set in one form.

    Args:
        name: Data set name, for messages and the progress bar.
        source: The data file.
        store: Where its images lie.
        threads: Images checked at the same time.
        sizes: Knows which sizes of images can be processed. Default: all.
    """

    form: ClassVar[str]
    """Short name of the form, stored in the results."""
    accepts: ClassVar[str]
    """Fields of the form, for messages."""
    headline: ClassVar[tuple[str, ...]]
    """The metrics that go into tables."""

    def __init__(self, name: str, source: Path, store: ImageStore, threads: int = 4, sizes: ImageSizes | None = None):
        self.name = name
        self.source = source
        self.store = store
        self.index = ContentIndex(ImageCheck(store, threads, sizes))
        self.row_count = 0

    @classmethod
    @abstractmethod
    def recognises(cls, values: dict[str, Any]) -> bool:
        """Whether a row's fields are those of this form."""

    @abstractmethod
    def parse_row(self, values: dict[str, Any]) -> ParsedRow:
        """Check the fields of a row.

        Args:
            values: Fields of the row.

        Returns:
            The row.

        Raises:
            RowError: If a field is missing or wrong.
        """

    def read_row(self, values: dict[str, Any]) -> ParsedRow:
        """See `parse_row`; its examples know where their images are."""
        row = self.parse_row(values)
        return ParsedRow([example.placed(self.store) for example in row.examples], row.extra)

    @abstractmethod
    def keep(self, numbers: np.ndarray, extra: Any) -> None:
        """Remember a row.

        Args:
            numbers: (N,) content numbers of the row's examples.
            extra: As `parse_row` gave it.
        """

    def look_at_images(self, rows: list[ParsedRow]) -> None:
        """Check the images of several rows at the same time.

        Args:
            rows: The rows, which are not kept yet.
        """
        examples = (example for row in rows for example in row.examples)
        self.index.images.look_at(example.image for example in examples if example.image is not None)

    def add_row(self, row: ParsedRow) -> None:
        """Check the images of a row and keep it.

        Args:
            row: The row.

        Raises:
            ImageError: If an image is missing, unreadable or cannot be processed; the row is then not kept.
        """
        self.keep(self.index.add(row.examples), row.extra)
        self.row_count += 1

    @abstractmethod
    def score(self, embeddings: np.ndarray) -> Score:
        """Compute the metrics.

        Args:
            embeddings: (U, D), one row per content of `index`.

        Returns:
            The score.
        """

    def evaluate(self, encoder: BaseEncoder) -> Score:
        """Encode each content once and score.

        Args:
            encoder: Any encoder.

        Returns:
            The score.
        """
        return self.score(encoder.encode(self.index.examples, description=self.name))

    def check_not_constant(self, embeddings: np.ndarray, numbers: Any, role: str) -> None:
        """Refuse a side of the task on which different contents all have the same embedding.

        Args:
            embeddings: (U, D), one row per content.
            numbers: Content numbers of that side.
            role: "queries", "candidates", ...
        """
        distinct = np.unique(np.asarray(numbers))  # (V,)
        check_not_constant(embeddings[distinct], f"{role} of {self.name}")


def require(values: dict[str, Any], name: str, kind: type, meaning: str) -> Any:
    """Take a field out of a row.

    Args:
        values: Fields of the row.
        name: Field name.
        kind: Expected type.
        meaning: What the field is for, for the message.

    Returns:
        The value.

    Raises:
        RowError: If the field is missing or of another type.
    """
    if name not in values:
        raise RowError(f"field {name!r} ({meaning}) is missing")
    value = values[name]
    if value is None and kind is str:
        return ""
    if not isinstance(value, kind):
        hint = "; CSV cannot hold lists, use JSON Lines or Parquet" if kind is list and isinstance(value, str) else ""
        raise RowError(f"field {name!r} ({meaning}) must be a {kind.__name__}, got {type(value).__name__}{hint}")
    return value


def require_content(example: Example, name: str) -> Example:
    """Refuse an example without text and image.

    Args:
        example: The example.
        name: Where it came from, for the message.

    Returns:
        The same example.

    Raises:
        RowError: If it is empty.
    """
    if example.is_empty:
        raise RowError(f"{name} has neither a text nor an image")
    return example
