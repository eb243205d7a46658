# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest

from evaluation.load import load_task
from evaluation.tasks import CaptionTask
from unime.data.bad_rows import DataError
from unime.data.example import Example


@pytest.fixture
def path(write_rows, write_image, tmp_path):
    for name, colour in (("x.png", "red"), ("y.png", "blue")):
        write_image(name, colour, tmp_path / "set")
    return write_rows([{"image": "x.png", "captions": ["a", "b"]}, {"image": "y.png", "captions": "c"}])


def score(path, table):
    task = load_task(path)
    return task, task.score(np.array([table[e.text or e.image] for e in task.index.examples], dtype=np.float32))


def test_both_directions_by_hand(path):
    # "b" lies nearer to y; for x its caption "a" is first, which is enough; for y "b" comes before "c".
    task, result = score(path, {"x.png": [1, 0], "y.png": [0, 1], "a": [1, 0.1], "b": [0.1, 1], "c": [0.5, 1]})
    assert isinstance(task, CaptionTask) and task.index.examples[0] == Example(None, "x.png", None, task.store)
    assert result.metrics["t2i_recall@1"] == pytest.approx(2 / 3)
    assert result.metrics["i2t_recall@1"] == pytest.approx(1 / 2)
    assert result.metrics["t2i_recall@5"] == result.metrics["i2t_recall@5"] == 1.0
    assert result.chance == pytest.approx({"t2i_recall@1": 1 / 2, "i2t_recall@1": (2 / 3 + 1 / 3) / 2})
    assert result.details.items() >= {"images": 2, "captions": 3}.items()


def test_ties_with_other_items_are_wrong(path):
    _, result = score(path, {"x.png": [1, 0], "y.png": [0, 1], "a": [1, 1], "b": [1, 0.5], "c": [1, 1]})
    assert result.metrics["t2i_recall@1"] == pytest.approx(1 / 3)  # a and c are as near to x as to y
    assert result.metrics["i2t_recall@1"] == pytest.approx(1 / 2)  # x: b is first; y: a ties with c


@pytest.mark.parametrize("captions", [[], [""], "", [3], 3, None])
def test_captions_must_be_there(write_rows, path, captions):
    with pytest.raises(DataError, match="line 2: .*'captions'"):
        load_task(write_rows([{"image": "x.png", "captions": "a"}, {"image": "y.png", "captions": captions}]))
