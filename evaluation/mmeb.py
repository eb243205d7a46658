# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""MMEB: each row has a query and its own list of candidates, of which the first is right.

Two layouts are read:

- MMEB-eval: `qry_text`, `qry_img_path`, `tgt_text` [...], `tgt_img_path` [...]. The strings carry instruction and
  image token and are encoded raw.
- The layout of VLM2Vec-V2 with the instructions split off: `qry_inst` and `tgt_inst` beside the fields above. The
  processor puts the string together again. `tgt_inst` is one string for all candidates or a list with one for each.

Reported are precision@1, recall@5 and @10 among the row's candidates, and the mean reciprocal rank. A candidate of the same
content as the first one is as right.
"""

from typing import Any

import numpy as np

from evaluation.metrics.mrr.mrr import mrr
from evaluation.metrics.precision_at_1.precision_at_1 import precision_at_1
from evaluation.metrics.ranking import right_ranks
from evaluation.metrics.recall_at_k.recall_at_k import recall_at_k
from evaluation.similarities import Similarities
from evaluation.task import Row, RowError, Score, Task, make_example, require
from unime.data.example import Example

IMAGE_TOKEN = "<|image_1|>"
RAW = ""  # the instruction that makes the processor use a text as it is


class MMEBTask(Task):
    """Rows with candidate lists of their own. See the top of the file."""

    form = "mmeb"
    fields = {"qry_text", "tgt_text"}
    accepts = "qry_text, qry_img_path, tgt_text, tgt_img_path (MMEB; with qry_inst, tgt_inst: VLM2Vec-V2 layout)"
    headline = ("precision@1",)

    def parse_row(self, values: dict[str, Any]) -> Row:
        return Row(*parse_fields(values))

    def measure(self, similarities: Similarities) -> Score:
        ranks = [
            right_ranks(similarities.scores(query, candidates), np.flatnonzero(candidates == candidates[0]))
            for query, candidates in zip(self.queries, self.candidates, strict=True)
        ]
        counts = [len(candidates) for candidates in self.candidates]
        recalls = {f"recall@{k}": recall_at_k(ranks, k) for k in (5, 10)}
        # Contents in random order: those identical to the right one are right as well, identical wrong ones take one place.
        chance = float(np.mean([1 / len(np.unique(candidates)) for candidates in self.candidates]))
        return Score(
            metrics={"precision@1": precision_at_1(ranks), **recalls, "mrr": mrr(ranks)},
            chance={"precision@1": chance},
            details={"candidates": {"min": min(counts), "mean": float(np.mean(counts)), "max": max(counts)}},
        )


def parse_fields(values: dict[str, Any]) -> tuple[Example, list[Example]]:
    """The query and its candidates, the right one first, of a row of either layout."""
    texts = require(values, "tgt_text", list, "texts of the candidates")
    images = require(values, "tgt_img_path", list, "image paths of the candidates")
    if not texts:
        raise RowError("field 'tgt_text' is empty; the first candidate must be the right one")
    if len(texts) != len(images):
        raise RowError(f"'tgt_text' has {len(texts)} entries but 'tgt_img_path' has {len(images)}")
    instructions = values.get("tgt_inst")
    if not isinstance(instructions, list):
        instructions = [instructions] * len(texts)
    if len(instructions) != len(texts):
        raise RowError(
            f"'tgt_inst' has {len(instructions)} entries but there are {len(texts)} candidates; give one string or all"
        )
    query = make_example(
        "the query (qry_text, qry_img_path)",
        require(values, "qry_text", str, "text of the query"),
        require(values, "qry_img_path", str, "image path of the query"),
        _instruction(values.get("qry_inst"), "qry_inst"),
    )
    candidates = []
    for number, (text, image, instruction) in enumerate(zip(texts, images, instructions, strict=True)):
        for name, value in (("tgt_text", text), ("tgt_img_path", image)):
            if not isinstance(value, str | None):
                raise RowError(f"entry {number} of {name!r} must be a str, got {type(value).__name__}")
        name = f"candidate {number} (tgt_text, tgt_img_path)"
        candidates.append(make_example(name, text, image, _instruction(instruction, "tgt_inst")))
    return query, candidates


def _instruction(value: Any, name: str) -> str:
    """Read an instruction; without one the text is raw. The image token is dropped: the processor puts it first."""
    if value is None:
        return RAW
    if not isinstance(value, str):
        raise RowError(f"field {name!r} (instruction) must be a str, got {type(value).__name__}")
    return value.replace(IMAGE_TOKEN, "").strip()
