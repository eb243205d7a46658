# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import json

import numpy as np
import pytest

from evaluation.averages import group_means, summarise
from evaluation.load import load_task
from evaluation.row_values import draw
from evaluation.similarities import ConstantEmbeddingsError
from evaluation.tasks import SugarCrepeTask
from unime.data.bad_rows import DataError
from unime.data.example import Example


def vectors(task, table):
    keys = [example.text or example.image for example in task.index.examples]
    return np.array([table[key] for key in keys], dtype=np.float32)


@pytest.fixture
def original(tmp_path, write_image):
    write_image("1.png", "red"), write_image("2.png", "blue")
    rows = {
        "0": {"filename": "1.png", "caption": "a", "negative_caption": "b"},
        "3": {"filename": "2.png", "caption": "c", "negative_caption": "d"},
    }
    path = tmp_path / "swap_obj.json"
    path.write_text(json.dumps(rows))
    return path


def test_original_files_use_the_papers_prompts(original):
    task = load_task(original)
    assert isinstance(task, SugarCrepeTask)
    assert task.index.examples[:2] == [Example(None, "1.png", None, task.store), Example("a")]
    assert task.labels == ["swap_obj", "swap_obj"]


def test_the_caption_must_be_strictly_nearer(original):
    task = load_task(original)
    good = {"1.png": [1, 0], "2.png": [0, 1], "a": [1, 0.1], "b": [0, 1], "c": [0.1, 1], "d": [1, 0]}
    assert task.score(vectors(task, good)).metrics["accuracy"] == 1.0
    result = task.score(vectors(task, good | {"b": good["a"]}))  # a tie
    assert result.metrics["accuracy"] == 0.5
    assert result.details["subsets"] == {"swap_obj": {"rows": 2, "accuracy": 0.5}}
    with pytest.raises(ConstantEmbeddingsError, match="images"):
        task.score(vectors(task, good | {"1.png": [0, 1]}))


def test_mmeb_like_rows(write_rows, write_image, tmp_path):
    write_image("1.png", "red", tmp_path / "set")
    row = {"qry_text": "Q", "qry_img_path": "1.png", "tgt_text": ["a", "b"], "tgt_img_path": ["", ""]}
    rows = [row | {"subset": "add_att"}, row | {"subset": "swap_obj", "tgt_text": ["b", "c"]}]
    task = load_task(write_rows(rows))
    assert isinstance(task, SugarCrepeTask)
    assert task.index.examples[0] == Example("Q", "1.png", "", task.store)
    result = task.score(vectors(task, {"Q": [1, 0], "a": [1, 0], "b": [1, 1], "c": [1, 1]}))
    assert result.details["subsets"]["add_att"]["accuracy"] == 1.0
    assert result.details["subsets"]["swap_obj"]["accuracy"] == 0.0
    for change, message in (
        ({"subset": "other"}, "'subset' must be one of"),
        ({"tgt_text": ["a", "a"]}, "are the same"),
        ({"tgt_text": ["a", "b", "c"], "tgt_img_path": [""] * 3}, "expected 2 candidates"),
    ):
        with pytest.raises(DataError, match=f"line 3: .*{message}"):
            load_task(write_rows([*rows, rows[0] | change]))


def test_rows_of_the_original_form_need_a_known_file_name(original):
    other = original.rename(original.with_name("mine.json"))
    with pytest.raises(DataError, match="the file name gives the subset"):
        load_task(other)


def test_means_are_unweighted_over_subsets():
    subsets = {
        "replace_obj": {"rows": 1000, "accuracy": 0.9},
        "replace_att": {"rows": 10, "accuracy": 0.6},
        "replace_rel": {"rows": 10, "accuracy": 0.3},
        "swap_obj": {"rows": 1, "accuracy": 0.5},
        "swap_att": {"rows": 1, "accuracy": 0.7},
        "add_obj": {"rows": 1, "accuracy": 1.0},
    }
    assert group_means(subsets) == pytest.approx({"replace": 0.6, "swap": 0.6})  # add_att is missing
    full = group_means(subsets | {"add_att": {"rows": 1, "accuracy": 0.8}})
    assert full == pytest.approx({"replace": 0.6, "swap": 0.6, "add": 0.9, "overall": 0.7})


def test_real_files(data_dir, make_encoder):
    loaded = load_task(data_dir / "coco_tiny" / "eval_sugarcrepe.jsonl")
    assert len(loaded.queries) == 301 and set(loaded.labels) == {
        *("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
    }
    result = loaded.evaluate(make_encoder())
    entry = {"name": "coco/sugarcrepe", "form": "sugarcrepe", "headline": ["accuracy"], "metrics": result.metrics}
    summary = summarise([entry | result.details], {entry["name"]: draw(entry["name"], result.values)})["sugarcrepe"]
    means, intervals = summary["coco/sugarcrepe"]["means"], summary["coco/sugarcrepe"]["intervals"]
    assert list(means) == list(intervals) == ["replace", "swap", "add", "overall"]
    assert all(low < means[name] < high for name, (low, high) in intervals.items())
    assert 0.3 < result.metrics["accuracy"] < 0.7  # the stand-in knows nothing
    with pytest.raises(DataError, match="add_att.json row 1: .* is missing"):  # its pictures are not there
        load_task(data_dir / "sugarcrepe" / "add_att.json")
