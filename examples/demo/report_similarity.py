# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Who is near whom: similarity matrices of a few evaluation sentences, for the teacher and two students."""

from html import escape
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import pdist

from evaluation.metrics.spearman.spearman import Spearman
from examples.demo.report_charts import cosine, heat_map
from examples.demo.report_data import ReportError
from unime.data.bad_rows import BadRows
from unime.data.rows import read_rows

NUM_SENTENCES = 20


def evaluation_sentences(data: Path, count: int = NUM_SENTENCES) -> list[str]:
    """The first different sentences of the scored pairs."""
    path = data / "sts_eval.jsonl"
    rows = [row.values for row in read_rows(path, BadRows(), max_rows=count)]
    sentences = list(dict.fromkeys(row[name] for row in rows for name in ("sentence1", "sentence2")))[:count]
    if len(sentences) < 3:
        raise ReportError(f"{path} has only {len(sentences)} different sentences; at least 3 are needed")
    return sentences


def neighbour_order(vectors: np.ndarray) -> np.ndarray:
    """An order in which similar rows stand together: the leaves of an average-linkage tree."""
    distances = pdist(vectors, "cosine").clip(min=0)  # (N * (N - 1) / 2,)
    return leaves_list(optimal_leaf_ordering(linkage(distances, "average"), distances))


def similarity_section(sentences: list[str], teacher: np.ndarray, students: dict[str, np.ndarray]) -> str:
    """Heat maps side by side, each with its agreement with the teacher, and the sentences."""
    order = neighbour_order(teacher)
    off_diagonal = np.triu_indices(len(sentences), 1)
    reference = _cosines(teacher[order])  # (N, N)
    maps = []
    for name, vectors in {"Teacher": teacher, **students}.items():
        matrix = _cosines(vectors[order])  # (N, N)
        pairs = matrix[off_diagonal]  # (N * (N - 1) / 2,)
        if name == "Teacher":
            fact = "what the student is to copy"
        else:
            rank = Spearman.of_scores(pairs, reference[off_diagonal], name)["spearman"]
            correlation = float(np.corrcoef(pairs, reference[off_diagonal])[0, 1])
            fact = f"Spearman with the teacher <b>{cosine(rank)}</b>, correlation <b>{cosine(correlation)}</b>"
        maps.append(
            f'<figure class="map"><figcaption>{escape(name)}</figcaption>'
            f"{heat_map(matrix, f'{name}: cosine similarities of {len(sentences)} sentences')}"
            f'<p>{fact}<br><span class="note">mean cosine {cosine(float(pairs.mean()))}</span></p></figure>'
        )
    listed = "".join(f"<li>{escape(sentences[index])}</li>" for index in order)
    return (
        f'<div class="columns">{"".join(maps)}</div>'
        f'<details><summary>The {len(sentences)} sentences</summary><ol class="sentences">{listed}</ol></details>'
    )


def _cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)  # (N, D)
    return unit @ unit.T  # (N, N)
