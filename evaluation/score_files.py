# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Scores in the files of VLM2Vec's harness, `image/GQA_score.json` and the like, so that its leaderboard scripts read them.

The fields are those of its `RankingMetrics`; the ranks follow our tie rule, so that tied candidates never help.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.kinds import bare_name, mmeb_sets
from unime.files import write_atomically

CUTS = (1, 5, 10)
MODALITIES = {"mmeb": "image", "pages": "visdoc"}  # form -> the folder in which the report script looks


def score_fields(ranks: Sequence[np.ndarray]) -> dict[str, float]:
    """The fields of a score file, of each row's rising ranks (from 1) of its different right candidates."""
    fields: dict[str, list[float]] = {}
    for row in ranks:
        gains = 1 / np.log2(1 + np.arange(1, len(row) + 1))  # of the best possible order
        for k in CUTS:
            found = row[row <= k]
            precision, recall = len(found) / k, len(found) / len(row)
            ndcg = float((1 / np.log2(1 + found)).sum() / gains[:k].sum())
            values = {
                "hit": float(len(found) > 0),
                "ndcg_linear": ndcg,
                "ndcg_exponential": ndcg,  # the same where a candidate is right or wrong
                "precision": precision,
                "recall": recall,
                "f1": 2 * precision * recall / (precision + recall) if len(found) else 0.0,
                "map": float((np.arange(1, len(found) + 1) / found).sum() / min(len(row), k)),
                "mrr": float(1 / found[0]) if len(found) else 0.0,
            }
            for name, value in values.items():
                fields.setdefault(f"{name}@{k}", []).append(value)
    return {name: float(np.mean(values)) for name, values in fields.items()}


def write_score_files(folder: Path, results: Sequence[dict[str, Any]]) -> None:
    """Take the scores out of the results that have some, and write each into a file below the folder."""
    taken: set[Path] = set()
    for result in results:
        scores = result.pop("scores", None)
        if scores is None:
            continue
        name = bare_name(result["name"])
        known = mmeb_sets().get(name.lower())
        path = folder / MODALITIES[result["form"]] / f"{known.name if known else name}_score.json"
        if path in taken:  # a second set of that name
            path = path.with_name(f"{result['name'].replace('/', '-')}_score.json")
        taken.add(path)
        content = {**scores, "num_pred": result["rows"], "num_data": result["rows"]}
        write_atomically(path, json.dumps(content, indent=4) + "\n")
