# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Vectors are encoded once and scored at each width; the results, the page and what is kept say which."""

import json

import numpy as np
import pytest
import torch

from evaluation import run
from evaluation.arguments import EvaluationArguments
from unime.data.bad_rows import DataError


@pytest.fixture
def start(tmp_path, make_encoder, write_rows, text_row):
    """Run an evaluation of two sets; returns the report and how many examples were encoded."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    words = [f"text {number}" for number in range(12)]
    rows = [text_row(f"query {number}", *np.roll(words, number)) for number in range(12)]
    pairs = [{"sentence1": "a", "sentence2": text, "score": score} for score, text in enumerate(words)]
    data = [str(write_rows(rows, "one/eval_class.jsonl")), str(write_rows(pairs, "two/test.jsonl"))]

    def start(named=None, spoil=None, output="output", **options):
        (folder / "config.json").write_text(json.dumps({"model_type": "toy", "matryoshka_dimensions": named}))
        encoder = make_encoder(spoil)
        arguments = EvaluationArguments(str(folder), data, str(tmp_path / output), device="cpu", **options)
        return json.loads(run.evaluate(arguments, lambda _: encoder).read_text()), len(encoder.processor.calls)

    return start


def test_each_width_is_scored_from_the_same_vectors(start, tmp_path):
    report, encoded = start(dimensions=["8,4", 4])
    assert encoded == 24 + 13 and report["options"]["dimensions"] == [8, 4, 4]
    cut = {}
    for width in (4, 8):  # what a model of that width would have got

        def spoil(embeddings, width=width):
            return embeddings * (torch.arange(16) < width)

        cut[width] = start(spoil=spoil, output=f"output{width}")[0]
    for number, result in enumerate(report["data_sets"]):
        assert list(result["dimensions"]) == ["4", "8"]
        for width, other in cut.items():
            found, expected = result["dimensions"][str(width)]["metrics"], other["data_sets"][number]["metrics"]
            assert found == pytest.approx(expected, abs=1e-6) and found != result["metrics"]
    for width, other in cut.items():
        for form in ("sts", "mmeb"):
            found, expected = report["dimensions"][str(width)][form], other["summary"][form]
            found, expected = (side if form == "sts" else side["overall"] for side in (found, expected))
            assert found["metrics"] == pytest.approx(expected["metrics"], abs=1e-6)


def test_the_page_has_a_column_for_each_width(start, tmp_path):
    report, _ = start(named=[4, 16])
    one, _ = report["data_sets"]
    assert list(one["dimensions"]) == ["4"], "the full width is there anyway"
    page = (tmp_path / "output/results.md").read_text()
    values = [f"{100 * side['metrics']['precision@1']:.1f}" for side in (one["dimensions"]["4"], one)]
    assert "| data set | metric | rows | chance | 4 | all |" in page
    assert f"| one/class | classification, P@1 | 12 | 8.3 | {' | '.join(values)} |" in page
    assert "| **mean: overall** | P@1, 1 set |" in page


def test_other_widths_are_other_results_of_the_same_vectors(start):
    assert "dimensions" not in start()[0]
    first, encoded = start(dimensions=["4"])
    assert encoded == 0 and first["reused"] == [] and "4" in first["dimensions"]
    again, encoded = start(dimensions=["4"])
    assert encoded == 0 and again["reused"] == ["one/class", "two/test"] and again["dimensions"] == first["dimensions"]
    assert start()[0]["reused"] == []


def test_widths_that_there_are_not_are_refused(start):
    with pytest.raises(DataError, match="dimensions 17 is more than the 16 that the model's vectors have"):
        start(dimensions=["8,17"])
    for value, said in (("x", "must be whole numbers, such as 64,128, got"), ("0", "must be at least 1, got 0")):
        with pytest.raises(ValueError, match=f"dimensions {said}"):
            start(dimensions=[value])
