# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Scores of the same vectors cut to their first components, for models that were trained for that (Matryoshka)."""

from collections.abc import Sequence

import numpy as np

from evaluation.arguments import EvaluationArguments
from evaluation.averages import Result
from evaluation.encoders import find_model
from evaluation.runs import Run
from evaluation.task import Task
from unime.data.bad_rows import DataError
from unime.model_files import read_json_object


def find_dimensions(arguments: EvaluationArguments) -> list[int]:
    """The widths to score beside the full one: those that are asked for, or that the model's config names."""
    file = find_model(arguments.model) / "config.json"
    named = (read_json_object(file).get("matryoshka_dimensions") or []) if file.is_file() else []
    return sorted(set(arguments.dimensions or named))


def score_cut(task: Task, vectors: np.ndarray, dimensions: Sequence[int]) -> Result:
    """What a result says of its vectors (U, D) at other widths, by the width; cosines need no unit length."""
    if max(dimensions, default=0) > vectors.shape[1]:
        raise DataError(
            f"dimensions {max(dimensions)} is more than the {vectors.shape[1]} that the model's vectors have"
        )
    found = {}
    for width in (width for width in dimensions if width < vectors.shape[1]):
        score = task.score(vectors[:, :width])
        subsets = {"subsets": score.details["subsets"]} if "subsets" in score.details else {}  # SugarCrepe's
        found[str(width)] = {"metrics": score.metrics, **subsets}
    return {"dimensions": found} if found else {}


def cut_runs(run: Run) -> list[Run]:
    """A run as if its vectors were as wide as each of the widths, which is its label."""
    widths = next(iter(run.results.values()), {}).get("dimensions", {})
    return [
        Run({**run.content, "data_sets": [_at(entry, width) for entry in run.content["data_sets"]]}, label=width)
        for width in widths
    ]


def _at(entry: Result, width: str) -> Result:
    return entry if "failed" in entry else {**entry, **entry["dimensions"][width]}
