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
from evaluation.metrics.mrr.mrr import MRR
from evaluation.metrics.ndcg_at_k.ndcg_at_k import NDCGAtK
from evaluation.metrics.recall_at_k.recall_at_k import RecallAtK
from unime.files import write_atomically

CUTS = (1, 5, 10)
MODALITIES = {"mmeb": "image", "pages": "visdoc"}  # form -> the folder in which the report script looks


def score_fields(ranks: Sequence[np.ndarray], gains: Sequence[np.ndarray] | None = None) -> dict[str, float]:
    """The fields of a score file, of each row's rising ranks (from 1) of its different right candidates, and their gains."""
    gains = gains or [np.ones(len(row)) for row in ranks]
    fields: dict[str, float] = {}
    for k in CUTS:
        first = [row[row <= k] for row in ranks]
        found, right = (np.array([len(row) for row in rows]) for rows in (first, ranks))
        precisions = [(np.arange(1, len(row) + 1) / row).sum() for row in first]
        values = {
            "hit": RecallAtK.row_values(ranks, k)[f"recall@{k}"],
            "ndcg_linear": NDCGAtK.row_values(ranks, k, gains)[f"ndcg@{k}"],
            "ndcg_exponential": NDCGAtK.row_values(ranks, k, [2**own - 1 for own in gains])[f"ndcg@{k}"],
            "precision": found / k,
            "recall": found / right,
            "f1": 2 * found / (k + right),
            "map": precisions / np.minimum(right, k),
            "mrr": MRR.row_values(ranks)["mrr"] * (found > 0),
        }
        fields |= {f"{name}@{k}": float(np.mean(rows)) for name, rows in values.items()}
    return fields


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
