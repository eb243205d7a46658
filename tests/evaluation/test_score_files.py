# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import json
import math

import numpy as np
import pytest

from evaluation.histograms import histogram
from evaluation.score_files import CUTS, score_fields, write_score_files
from evaluation.similarities import Similarities
from evaluation.suites import load_suites

METRICS = ("hit", "ndcg_linear", "ndcg_exponential", "precision", "recall", "f1", "map", "mrr")


def published_way(ranks):
    """The fields by their definitions, from a list of candidates in order of rank."""
    scores = {}
    for k in CUTS:
        rows = []
        for own in ranks:
            relevant = [int(place in own) for place in range(1, 200)]
            first, found = relevant[:k], sum(relevant[:k])
            gain = sum(hit / math.log2(place + 2) for place, hit in enumerate(first))
            best = sum(1 / math.log2(place + 2) for place in range(min(len(own), k)))
            precision, recall = found / k, found / len(own)
            average = sum(sum(first[: place + 1]) / (place + 1) for place, hit in enumerate(first) if hit)
            rows.append(
                {
                    "hit": float(found > 0),
                    "ndcg_linear": gain / best,
                    "ndcg_exponential": gain / best,
                    "precision": precision,
                    "recall": recall,
                    "f1": 2 * precision * recall / (precision + recall) if found else 0.0,
                    "map": average / min(len(own), k),
                    "mrr": 1 / (first.index(1) + 1) if found else 0.0,
                }
            )
        scores |= {f"{name}@{k}": sum(row[name] for row in rows) / len(rows) for name in METRICS}
    return scores


def test_fields_equal_their_definitions():
    generator = np.random.default_rng(0)
    ranks = [np.sort(generator.choice(np.arange(1, 30), size, replace=False)) for size in (1, 1, 2, 3, 7, 12)]
    assert score_fields(ranks) == pytest.approx(published_way(ranks), abs=1e-12)


def test_gains_of_the_right_ones_count_in_ndcg_alone():
    ranks, gains = [np.array([2, 3]), np.array([7])], [np.array([1.0, 3.0]), np.array([2.0])]
    fields, plain = score_fields(ranks, gains), score_fields(ranks)
    for way, worth in (("linear", (1, 3)), ("exponential", (1, 7))):
        found = worth[0] / math.log2(3) + worth[1] / math.log2(4)
        best = worth[1] + worth[0] / math.log2(3)
        assert fields[f"ndcg_{way}@5"] == pytest.approx(found / best / 2, abs=1e-12)
    assert {name for name in fields if fields[name] != plain[name]} == {
        f"ndcg_{way}@{k}" for way in ("linear", "exponential") for k in (5, 10)
    }


def report_script(folder):
    """What the leaderboard's report prints: the mean of the main metric over the sets that have a file."""
    means = {}
    for modality, metric in (("image", "hit@1"), ("visdoc", "ndcg_linear@5")):
        sets = [benchmark.name for benchmark in load_suites(["mmeb"])[0].benchmarks] + ["VisRAG_ArxivQA"]
        files = [folder / modality / f"{name}_score.json" for name in sets]
        values = [json.loads(path.read_text())[metric] for path in files if path.is_file()]
        means[modality] = (len(values), sum(values) / len(values) if values else None)
    return means


def test_the_leaderboards_reader_finds_them(tmp_path):
    def result(name, *ranks, form="mmeb"):
        scores = score_fields([np.array([rank]) for rank in ranks])
        return {"name": name, "form": form, "rows": len(ranks), "scores": scores}

    results = [
        result("MMEB-eval/GQA", 1, 2),
        result("docvqa/test", 1, 1),
        result("own/GQA", 7, 7),  # a second one: it must not take the place of the first
        result("my/shoes", 1),
        {"name": "pairs", "form": "sts", "rows": 3},
        {"name": "broken", "failed": "no pictures"},
    ]
    write_score_files(tmp_path, results)
    assert report_script(tmp_path) == {"image": (2, 0.75), "visdoc": (0, None)}
    assert not any("scores" in one for one in results)
    names = {path.name for path in tmp_path.rglob("*.json")}
    assert names == {"GQA_score.json", "DocVQA_score.json", "own-GQA_score.json", "shoes_score.json"}
    content = json.loads((tmp_path / "image" / "GQA_score.json").read_text())
    assert content["num_pred"] == content["num_data"] == 2
    assert set(content) == {f"{metric}@{k}" for metric in METRICS for k in CUTS} | {"num_pred", "num_data"}


def test_histogram_counts_every_cosine():
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [1, 1]], np.float32)
    counts = histogram(Similarities(vectors), [(0, np.array([1]), np.array([2, 3]))])
    assert counts["rows"] == 1 and sum(counts["right"]) == 1 and sum(counts["wrong"]) == 2
    assert counts["low"] == pytest.approx(0) and counts["high"] == pytest.approx(1 / 1.01**0.5)
    assert counts["right"][-1] == 1 and counts["wrong"][0] == 1
    assert histogram(Similarities(vectors), [(0, np.array([1]), np.array([], int))]) is None
