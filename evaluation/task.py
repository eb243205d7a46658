# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A task: queries, their candidates, a label of each row, and how it is scored. Its forms say how a file's rows become that.

A task is filled row by row and keeps only small integers per row, since a set of MMEB names a million candidates.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from evaluation import histograms
from evaluation.encoder import BaseEncoder
from evaluation.row_values import Miss
from evaluation.similarities import Similarities, check_not_constant
from unime.data.columns import half_character
from unime.data.content import ContentIndex
from unime.data.example import Example
from unime.data.image_sizes import ImageSizes
from unime.data.images import ImageStore


class RowError(ValueError):
    """A row does not have the fields of its form. The message names the field."""


@dataclass
class Score:
    """What a data set gives; `details` are further facts, ready for JSON, `misses` the worst rows."""

    metrics: dict[str, float]
    chance: dict[str, float]  # of the headline metrics
    details: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Sequence[float]] = field(default_factory=dict)  # of each row, by metric
    misses: list[Miss] = field(default_factory=list)

    @classmethod
    def of_rows(cls, values: dict[str, Sequence[float]], chance: dict[str, float], **more: Any) -> "Score":
        """A score whose metrics are means over rows."""
        return cls({name: float(np.mean(rows)) for name, rows in values.items()}, chance, values=values, **more)


class Row(NamedTuple):
    """A row whose fields have been checked, but not its images; the label is a human score or a subset."""

    query: Example
    candidates: list[Example]
    label: Any = None


class Task(ABC):
    """One data set in one form.

    Args:
        name: Data set name, for messages and the progress bar.
        source: The data file.
        store: Where its images lie; None: its rows must not name any.
        sizes: Knows which sizes of images can be processed. Default: all.
    """

    form: ClassVar[str]  # stored in the results
    fields: ClassVar[set[str]]  # a row that has them is of this form
    accepts: ClassVar[str]  # the fields for people
    headline: ClassVar[tuple[str, ...]]  # the metrics that go into tables
    sides: ClassVar[tuple[str, str]] = ("queries", "candidates")  # what those are called in messages

    def __init__(self, name: str, source: str | Path, store: ImageStore | None, sizes: ImageSizes | None = None):
        self.name = name
        self.suite = ""  # that it is a set of
        self.source = source
        self.store = store
        self.index = ContentIndex(sizes)
        self.queries: list[int] = []  # content numbers
        self.candidates: list[np.ndarray] = []  # of each row, (C,) content numbers
        self.labels: list[Any] = []
        self._looked_at: dict[Example, Example] = {}  # rows share candidates, a million of them in a set of MMEB
        self._numbers: dict[Example, int] = {}
        self.skipped: list[dict[str, str]] = []  # place and reason of each row that was left out

    @classmethod
    def recognises(cls, values: dict[str, Any]) -> bool:
        """Whether a row's fields are those of this form."""
        return cls.fields <= values.keys()

    @abstractmethod
    def parse_row(self, values: dict[str, Any]) -> Row:
        """Check the fields of a row; RowError names the one that is missing or wrong."""

    @abstractmethod
    def measure(self, similarities: Similarities) -> Score:
        """The metrics, of the similarities among the contents of `index`."""

    def read_row(self, values: dict[str, Any]) -> Row:
        """`parse_row`, with a look at the texts; the examples of the row know where their images are."""
        row = self.parse_row(values)
        query, *candidates = map(self._placed, (row.query, *row.candidates))
        return row._replace(query=query, candidates=candidates)

    def _placed(self, example: Example) -> Example:
        if example not in self._looked_at:
            for name in ("text", "image", "instruction"):
                value = getattr(example, name) or ""
                if fault := half_character(value):
                    raise RowError(f"the {name} {value[:60]!r} {fault}")
            if example.image is not None and self.store is None:
                raise RowError(f"it names the image {example.image!r}; say where images are with image_root")
            self._looked_at[example] = example.placed(self.store)
        return self._looked_at[example]

    def look_at_images(self, rows: Sequence[Row]) -> None:
        """Check the images of several rows, which are not kept yet, at the same time."""
        examples = (example for row in rows for example in (row.query, *row.candidates))
        self.index.look_at(example for example in examples if example not in self._numbers)

    def add_row(self, row: Row) -> None:
        """Check the images of a row and keep it, unless ImageError says that one of them cannot be used."""
        new = [example for example in (row.query, *row.candidates) if example not in self._numbers]
        self._numbers.update(zip(new, self.index.add(new).tolist(), strict=True))
        self.queries.append(self._numbers[row.query])
        self.candidates.append(np.array([self._numbers[example] for example in row.candidates], dtype=np.int32))
        self.labels.append(row.label)

    def score(self, embeddings: np.ndarray) -> Score:
        """The metrics of (U, D) embeddings, one row per content of `index`.

        Raises:
            MetricError: An embedding is NaN, infinite or zero, or different contents of one side all have the same.
        """
        similarities = Similarities(embeddings, self.name)
        for numbers, side in zip((self.queries, np.concatenate(self.candidates)), self.sides, strict=True):
            check_not_constant(embeddings[np.unique(numbers)], f"{side} of {self.name}")
        score = self.measure(similarities)
        sample = histograms.spread(np.arange(len(self.queries)), histograms.ROWS)
        if cosines := histograms.histogram(similarities, map(self.contrast, sample)):
            score.details["cosines"] = cosines
        return score

    def scored(self, similarities: Similarities) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Query and candidates of each row, with the candidates' scores."""
        return zip(self.queries, self.candidates, similarities.rows(self.queries, self.candidates), strict=True)

    def contrast(self, row: int) -> tuple[int, np.ndarray, np.ndarray]:
        """Query, right and wrong candidates of a row whose cosines are shown against each other, as content numbers."""
        own = self.candidates[row]
        return self.queries[row], own[:1], np.unique(own[own != own[0]])

    def evaluate(self, encoder: BaseEncoder) -> Score:
        """Encode each content once and score."""
        return self.score(encoder.encode(self.index.examples, description=self.name))


def require(values: dict[str, Any], name: str, kind: type, meaning: str) -> Any:
    """Take a field out of a row; no text at all is an empty one."""
    if name not in values:
        raise RowError(f"field {name!r} ({meaning}) is missing")
    value = values[name]
    if value is None and kind is str:
        return ""
    if not isinstance(value, kind):
        hint = "; CSV cannot hold lists, use JSON Lines or Parquet" if kind is list and isinstance(value, str) else ""
        raise RowError(f"field {name!r} ({meaning}) must be a {kind.__name__}, got {type(value).__name__}{hint}")
    return value


def make_example(
    name: str, text: str | None = None, image: str | None = None, instruction: str | None = None
) -> Example:
    """An example out of the fields of a row, in which an empty string means "absent"; `name` says which in messages."""
    example = Example.from_fields(text, image, instruction)
    if example.is_empty:
        raise RowError(f"{name} has neither a text nor an image")
    return example
