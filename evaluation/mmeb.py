# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""MMEB: each row has a query and its own list of candidates, of which the first is right.

Two layouts are read:

- MMEB-eval: `qry_text`, `qry_img_path`, `tgt_text` [...], `tgt_img_path` [...]. The strings carry instruction and
  image token and are encoded raw.
- The layout of VLM2Vec-V2 with the instructions split off: `qry_inst` and `tgt_inst` beside the fields above. The
  processor puts the string together again. `tgt_inst` is one string for all candidates or a list with one for each.

Reported are precision@1, recall@5 and @10 among the row's candidates, and the mean reciprocal rank. A row is right
when the first candidate scores strictly higher than every candidate of other content.
"""

from typing import Any

import numpy as np

from evaluation.metrics import Similarities, chance_level, ranking_metrics, truth_rank
from evaluation.task import ParsedRow, RowError, Score, Task, require, require_content
from unime.data.example import Example

IMAGE_TOKEN = "<|image_1|>"
RAW = ""  # the instruction that makes the processor use a text as it is


class MMEBTask(Task):
    """Rows with candidate lists of their own. See the top of the file."""

    form = "mmeb"
    accepts = "qry_text, qry_img_path, tgt_text, tgt_img_path (MMEB; with qry_inst, tgt_inst: VLM2Vec-V2 layout)"
    headline = ("precision@1",)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.queries: list[int] = []
        self.candidates: list[np.ndarray] = []

    @classmethod
    def recognises(cls, values: dict[str, Any]) -> bool:
        """See `Task.recognises`."""
        return {"qry_text", "tgt_text"} <= values.keys()

    def parse_row(self, values: dict[str, Any]) -> ParsedRow:
        """See `Task.parse_row`."""
        query, candidates = parse_fields(values)
        return ParsedRow([query, *candidates])

    def keep(self, numbers: np.ndarray, extra: Any) -> None:
        """See `Task.keep`."""
        self.queries.append(int(numbers[0]))
        self.candidates.append(numbers[1:])

    def score(self, embeddings: np.ndarray) -> Score:
        """See `Task.score`."""
        similarities = Similarities(embeddings, self.name)
        self.check_not_constant(embeddings, self.queries, "queries")
        self.check_not_constant(embeddings, np.concatenate(self.candidates), "candidates")
        ranks = []
        for query, candidates in zip(self.queries, self.candidates, strict=True):
            scores = similarities.scores(query, candidates)  # (C,)
            ranks.append(truth_rank(scores, identical=candidates == candidates[0]))
        counts = [len(candidates) for candidates in self.candidates]
        return Score(
            metrics=ranking_metrics(ranks),
            chance={"precision@1": chance_level([len(np.unique(candidates)) for candidates in self.candidates])},
            details={"candidates": {"min": min(counts), "mean": float(np.mean(counts)), "max": max(counts)}},
        )


def parse_fields(values: dict[str, Any]) -> tuple[Example, list[Example]]:
    """Read a row of either layout.

    Args:
        values: Fields of the row.

    Returns:
        The query and its candidates, the right one first.

    Raises:
        RowError: If a field is missing or wrong, or an example is empty.
    """
    texts = require(values, "tgt_text", list, "texts of the candidates")
    images = require(values, "tgt_img_path", list, "image paths of the candidates")
    if not texts:
        raise RowError("field 'tgt_text' is empty; the first candidate must be the right one")
    if len(texts) != len(images):
        raise RowError(f"'tgt_text' has {len(texts)} entries but 'tgt_img_path' has {len(images)}")
    query = Example.from_fields(
        require(values, "qry_text", str, "text of the query"),
        require(values, "qry_img_path", str, "image path of the query"),
        _instruction(values.get("qry_inst"), "qry_inst"),
    )
    instructions = _candidate_instructions(values.get("tgt_inst"), len(texts))
    candidates = []
    for number, (text, image, instruction) in enumerate(zip(texts, images, instructions, strict=True)):
        for name, value in (("tgt_text", text), ("tgt_img_path", image)):
            if not isinstance(value, str | None):
                raise RowError(f"entry {number} of {name!r} must be a str, got {type(value).__name__}")
        example = Example.from_fields(text, image, instruction)
        candidates.append(require_content(example, f"candidate {number} (tgt_text, tgt_img_path)"))
    return require_content(query, "the query (qry_text, qry_img_path)"), candidates


def _candidate_instructions(value: Any, count: int) -> list[str]:
    if not isinstance(value, list):
        return [_instruction(value, "tgt_inst")] * count
    if len(value) != count:
        raise RowError(f"'tgt_inst' has {len(value)} entries but there are {count} candidates; give one string or all")
    return [_instruction(entry, "tgt_inst") for entry in value]


def _instruction(value: Any, name: str) -> str:
    """Read an instruction; without one the text is raw. The image token is dropped: the processor puts it first."""
    if value is None:
        return RAW
    if not isinstance(value, str):
        raise RowError(f"field {name!r} (instruction) must be a str, got {type(value).__name__}")
    return value.replace(IMAGE_TOKEN, "").strip()
