# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Scores of the same vectors cut to their first components, for models that were trained for that (Matryoshka)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from evaluation.arguments import EvaluationArguments
from evaluation.encoders import find_model
from evaluation.report import markdown_table, mean_lines, metric_title, percent, summarise
from evaluation.task import Task
from unime.data.bad_rows import DataError
from unime.model_files import read_json_object

Result = dict[str, Any]


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
    scores = {width: task.score(vectors[:, :width]) for width in dimensions if width < vectors.shape[1]}
    found = {
        str(width): {
            "metrics": score.metrics,
            **{name: score.details[name] for name in ("subsets",) if name in score.details},
        }
        for width, score in scores.items()
    }
    return {"dimensions": found} if found else {}


def summaries(results: Sequence[Result]) -> dict[str, Any]:
    """The means of `evaluation.report.summarise` at each width that all results have."""
    done = [result for result in results if "failed" not in result]
    widths = done[0].get("dimensions", {}) if done else {}
    return {width: summarise([{**one, **one["dimensions"][width]} for one in done]) for width in widths}


def dimensions_page(content: dict[str, Any]) -> str:
    """Headline metrics and means of a results.json, a column for each width, in Markdown."""
    done = [result for result in content["data_sets"] if "failed" not in result]
    rows = []
    for result in done:
        for metric in result["headline"]:
            sides = [*result["dimensions"].values(), result]
            rows.append([result["name"], metric_title(metric), *(percent(side["metrics"][metric]) for side in sides)])
    for means in zip(*map(mean_lines, [*content["dimensions"].values(), content["summary"]]), strict=True):
        for metric in means[0]["chance"]:
            values = [f"**{percent(mean['metrics'][metric])}**" for mean in means]
            rows.append([f"**{means[0]['name']}**", f"{metric_title(metric)}, {means[0]['extent']}", *values])
    table = markdown_table(["data set", "metric", *content["dimensions"], "all"], rows, text_columns=2)
    return f"## By dimension\n\nThe same vectors, cut to their first components.\n\n{table}"
