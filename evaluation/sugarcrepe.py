# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""SugarCrepe: does an image lie nearer to its caption than to a caption with one thing changed?

Two layouts are read:

- The original JSON object with `filename`, `caption`, `negative_caption`, one file per subset, named after it. Image
  and captions get the paper's own prompts ("Summary above ... in one word:", arXiv 2504.17432, section 4).
- MMEB-like rows (`qry_text`, `qry_img_path`, `tgt_text`, `tgt_img_path`) with a `subset`; the strings are used raw.
"""

from typing import Any

from evaluation.metrics.paired_accuracy.paired_accuracy import paired_accuracy
from evaluation.metrics.ranking import right_ranks
from evaluation.mmeb import MMEBTask, parse_fields
from evaluation.similarities import Similarities
from evaluation.task import Row, RowError, Score, Task, make_example, require
from unime.data.data_files import SUGARCREPE_STEMS, stem_of


class SugarCrepeTask(Task):
    """Image, caption and negative caption, each row of a subset. See the top of the file."""

    form = "sugarcrepe"
    fields = {"filename", "caption", "negative_caption"}
    accepts = "filename, caption, negative_caption (SugarCrepe), or MMEB fields with a SugarCrepe 'subset'"
    headline = ("accuracy",)
    sides = ("images", "captions")

    @classmethod
    def recognises(cls, values: dict[str, Any]) -> bool:
        return super().recognises(values) or (MMEBTask.recognises(values) and values.get("subset") in SUGARCREPE_STEMS)

    def parse_row(self, values: dict[str, Any]) -> Row:
        names = ", ".join(SUGARCREPE_STEMS)
        if "subset" in values:
            subset = values["subset"]
            if subset not in SUGARCREPE_STEMS:
                raise RowError(f"field 'subset' must be one of {names}; got {subset!r}")
            image, captions = parse_fields(values)
            if len(captions) != 2:
                raise RowError(f"expected 2 candidates (caption, negative caption), got {len(captions)}")
        else:
            subset = stem_of(self.source).lower()
            if subset not in SUGARCREPE_STEMS:
                raise RowError(f"the file name gives the subset and must be one of {names}; got {subset!r}")
            image = make_example("field 'filename'", image=require(values, "filename", str, "image path"))
            captions = [
                make_example(f"field {name!r}", require(values, name, str, "caption"))
                for name in ("caption", "negative_caption")
            ]
        if captions[0] == captions[1]:
            raise RowError("the caption and the negative caption are the same")
        return Row(image, captions, subset)

    def measure(self, similarities: Similarities) -> Score:
        ranks: dict[str, list] = {}  # by subset
        for image, captions, subset in zip(self.queries, self.candidates, self.labels, strict=True):
            ranks.setdefault(subset, []).append(right_ranks(similarities.scores(image, captions), [0]))
        subsets = {subset: {"rows": len(rows), "accuracy": paired_accuracy(rows)} for subset, rows in ranks.items()}
        return Score(
            metrics={"accuracy": paired_accuracy([row for rows in ranks.values() for row in rows])},
            chance={"accuracy": 0.5},
            details={"candidates": {"min": 2, "mean": 2.0, "max": 2}, "subsets": subsets},
        )
