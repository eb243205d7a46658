# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What papers print for other models, read from `published.yaml`, with both averages of MMEB beside the printed one.

The "overall" of arXiv 2504.17432 is the mean of the 4 meta-tasks in all rows but one; everybody else prints the mean of
the 36 data sets, which is up to 4 points lower.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

SPLITS = {"in-distribution": "in_distribution", "out-of-distribution": "out_of_distribution"}  # columns of `mmeb`
RETRIEVAL = {
    "flickr30k": "flickr30k",
    "coco": "coco",
    "sharegpt4v-1k": "sharegpt4v",
    "urban1k": "urban1k",
}  # of `retrieval`
DATA_SETS = {"classification": 10, "vqa": 10, "retrieval": 12, "grounding": 4}  # of each meta-task of MMEB


@cache
def published() -> dict[str, Any]:
    """The whole file: `mmeb` and `retrieval` are lists of rows, `mmeb_by_data_set` a table."""
    return yaml.safe_load((Path(__file__).parent / "published.yaml").read_text(encoding="utf-8"))


def mean_of_meta_tasks(row: dict[str, Any]) -> float:
    """Unweighted mean of the four meta-tasks of a row."""
    return sum(row[task] for task in DATA_SETS) / len(DATA_SETS)


def mean_of_data_sets(row: dict[str, Any]) -> float:
    """Mean over the 36 data sets, from the means of the meta-tasks."""
    return sum(row[task] * count for task, count in DATA_SETS.items()) / sum(DATA_SETS.values())


def by_data_set(model: str) -> dict[str, float]:
    """Precision@1 x 100 of a model of `mmeb_by_data_set` on each of the 36 sets."""
    table = published()["mmeb_by_data_set"]
    column = table["models"].index(model)
    return {name: values[column] for name, values in table["data_sets"].items()}
