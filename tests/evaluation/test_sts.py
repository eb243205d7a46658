# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from evaluation.load import load_task
from evaluation.similarities import ConstantEmbeddingsError
from evaluation.tasks import STSTask
from unime.data.bad_rows import DataError
from unime.data.example import Example

ANGLES = {"a": 0.0, "b": 0.1, "c": 0.9, "d": 2.0}
ROWS = [
    {"sentence1": "a", "sentence2": "b", "score": 5.0},
    {"sentence1": "a", "sentence2": "c", "score": 4},
    {"sentence1": "a", "sentence2": "d", "score": 0},
]


def test_spearman_of_cosines(write_rows):
    task = load_task(write_rows(ROWS, "stsb/test.jsonl"))
    assert isinstance(task, STSTask)
    assert task.index.examples[0] == Example("a", None, None)
    vectors = np.array(
        [[np.cos(ANGLES[e.text]), np.sin(ANGLES[e.text])] for e in task.index.examples], dtype=np.float32
    )
    lengths = np.array([[1.0], [3.0], [0.5], [2.0]], dtype=np.float32)  # cosine, not dot product
    assert task.score(vectors * lengths).metrics["spearman"] == pytest.approx(1.0)
    assert task.score(vectors[[0, 2, 1, 3]] * lengths).metrics["spearman"] == pytest.approx(0.5)
    with pytest.raises(ConstantEmbeddingsError, match="sentences of stsb/test"):
        task.score(np.ones_like(vectors))


def test_csv_and_relatedness(tmp_path):
    path = tmp_path / "sick.csv"
    path.write_text("sentence1,sentence2,relatedness\na,b,4.5\na,c,1\n")
    assert load_task(path).labels == [4.5, 1.0]


@pytest.mark.parametrize("value", ["high", None, True, float("nan"), [1]])
def test_scores_must_be_numbers(write_rows, value):
    with pytest.raises(DataError, match=r"line 2: field 'score' \(human score\) must be"):
        load_task(write_rows([ROWS[0], ROWS[1] | {"score": value}]))


def test_real_files(data_dir, make_encoder):
    for name, rows in (("stsb_en/test.jsonl", 1379), ("sick/pairs_test.jsonl", 4927)):
        loaded = load_task(data_dir / name)
        assert len(loaded.queries) == rows and not loaded.skipped
        assert abs(loaded.evaluate(make_encoder(batch_size=512)).metrics["spearman"]) < 0.15
