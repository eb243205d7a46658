# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""SugarCrepe: does an image lie nearer to its caption than to a caption with one thing changed?

Two layouts are read:

- The original JSON object with `filename`, `caption`, `negative_caption`, one file per subset, named after it. Image
  and captions get the paper's own prompts ("Summary above ... in one word:", arXiv 2504.17432, section 4).
- MMEB-like rows (`qry_text`, `qry_img_path`, `tgt_text`, `tgt_img_path`) with a `subset`; the strings are used raw.

A row is right when the caption scores strictly higher. Replace, Swap and Add are unweighted means over subsets.
"""

from typing import Any

import numpy as np

from evaluation import mmeb
from evaluation.metrics import Similarities, precision_at_1
from evaluation.task import ParsedRow, RowError, Score, Task, require, require_content
from unime.data.data_files import SUGARCREPE_STEMS, stem_of
from unime.data.example import Example

GROUPS = {
    "replace": ("replace_obj", "replace_att", "replace_rel"),
    "swap": ("swap_obj", "swap_att"),
    "add": ("add_obj", "add_att"),
}


class SugarCrepeTask(Task):
    """Image, caption, negative caption. See the top of the file."""

    form = "sugarcrepe"
    accepts = "filename, caption, negative_caption (SugarCrepe), or MMEB fields with a SugarCrepe 'subset'"
    headline = ("accuracy",)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.rows: list[np.ndarray] = []  # each (3,): image, caption, negative caption
        self.subsets: list[str] = []

    @classmethod
    def recognises(cls, values: dict[str, Any]) -> bool:
        """See `Task.recognises`."""
        if {"filename", "caption", "negative_caption"} <= values.keys():
            return True
        return mmeb.MMEBTask.recognises(values) and values.get("subset") in SUGARCREPE_STEMS

    def parse_row(self, values: dict[str, Any]) -> ParsedRow:
        """See `Task.parse_row`."""
        examples, subset = self._parse(values)
        if examples[1] == examples[2]:
            raise RowError("the caption and the negative caption are the same")
        return ParsedRow(examples, subset)

    def keep(self, numbers: np.ndarray, extra: str) -> None:
        """See `Task.keep`."""
        self.rows.append(numbers)
        self.subsets.append(extra)

    def _parse(self, values: dict[str, Any]) -> tuple[list[Example], str]:
        if "subset" in values:
            subset = values["subset"]
            if subset not in SUGARCREPE_STEMS:
                raise RowError(f"field 'subset' must be one of {', '.join(SUGARCREPE_STEMS)}; got {subset!r}")
            query, candidates = mmeb.parse_fields(values)
            if len(candidates) != 2:
                raise RowError(f"expected 2 candidates (caption, negative caption), got {len(candidates)}")
            return [query, *candidates], subset
        subset = stem_of(self.source).lower()
        if subset not in SUGARCREPE_STEMS:
            raise RowError(
                f"the file name gives the subset and must be one of {', '.join(SUGARCREPE_STEMS)}; got {subset!r}"
            )
        image = require_content(
            Example.from_fields(None, require(values, "filename", str, "image path")), "field 'filename'"
        )
        captions = [
            require_content(Example.from_fields(require(values, name, str, "caption"), None), f"field {name!r}")
            for name in ("caption", "negative_caption")
        ]
        return [image, *captions], subset

    def score(self, embeddings: np.ndarray) -> Score:
        """See `Task.score`."""
        similarities = Similarities(embeddings, self.name)
        rows = np.stack(self.rows)  # (N, 3)
        self.check_not_constant(embeddings, rows[:, 0], "images")
        self.check_not_constant(embeddings, rows[:, 1:], "captions")
        right = np.array([precision_at_1(similarities.scores(row[0], row[1:])) for row in rows])  # (N,)
        subsets = {}
        for subset in dict.fromkeys(self.subsets):
            chosen = right[np.array(self.subsets) == subset]  # (rows of the subset,)
            subsets[subset] = {"rows": len(chosen), "accuracy": float(chosen.mean())}
        return Score(
            metrics={"accuracy": float(right.mean())},
            chance={"accuracy": 0.5},
            details={"candidates": {"min": 2, "mean": 2.0, "max": 2}, "subsets": subsets},
        )


def group_means(subsets: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Replace, Swap and Add, and the mean of the three.

    Args:
        subsets: Subset name to a dictionary with its `accuracy`.

    Returns:
        The unweighted mean over subsets of each group whose subsets are all there, and under "overall" that of the
        three groups if all are.
    """
    means = {
        group: float(np.mean([subsets[name]["accuracy"] for name in names]))
        for group, names in GROUPS.items()
        if subsets.keys() >= set(names)
    }
    if len(means) == len(GROUPS):
        means["overall"] = float(np.mean(list(means.values())))
    return means
