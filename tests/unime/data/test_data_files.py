# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import json

import datasets
import pytest

from evaluation.fingerprint import fingerprint
from evaluation.load import load_task
from unime.data.bad_rows import DataError
from unime.data.data_files import data_set_name, find_data_files


def test_find_data_files(tmp_path):
    for name in (
        "b/eval_x.jsonl",
        "a/eval_y.jsonl.gz",
        "a/train_y.jsonl",
        "a/notes.txt",
        "a/eval_notes.txt",
        "a/eval_z.csv.gz",
        "sc/add_att.json",
        "GQA/test-00000-of-00001.parquet",
        "stsb/test.jsonl",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = find_data_files([str(tmp_path)])
    names = ["GQA/test", "a/y", "a/z", "b/x", "sc/add_att"]
    assert sorted(map(data_set_name, found)) == names
    again = find_data_files([str(tmp_path), str(tmp_path / "stsb/test.jsonl"), str(tmp_path / "b/eval_x.jsonl")])
    assert sorted(map(data_set_name, again)) == [*names, "stsb/test"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_data_files([str(tmp_path / "nowhere")])
    with pytest.raises(FileNotFoundError, match="no file named eval_"):
        find_data_files([str(tmp_path / "stsb")])
    (tmp_path / "b/x.json").write_text("x")
    with pytest.raises(DataError, match="both be called 'b/x'"):
        find_data_files([str(tmp_path), str(tmp_path / "b/x.json")])
    assert find_data_files([f"{tmp_path}/**/eval_*.jsonl"]) == [str(tmp_path / "b/eval_x.jsonl")]


def test_a_data_set_of_the_hub_is_evaluated_like_a_file(tmp_path):
    rows = [
        {"qry_text": f"q{n}", "qry_img_path": "", "tgt_text": ["a", "b"], "tgt_img_path": ["", ""]} for n in range(3)
    ]
    splits = datasets.DatasetDict({"test": datasets.Dataset.from_list(rows), "more": datasets.Dataset.from_list(rows)})
    splits.save_to_disk(str(tmp_path / "MMEB-eval"))
    source = f"{tmp_path / 'MMEB-eval'}:test"
    assert (
        data_set_name(source) == "MMEB-eval/test" and data_set_name("TIGER-Lab/MMEB-eval:GQA:test") == "MMEB-eval/GQA"
    )
    assert find_data_files(["org/set:GQA"]) == ["org/set:GQA"]
    assert len(load_task(source).queries) == 3
    (tmp_path / "eval_x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    marks = {
        fingerprint([place], [], {}) for place in (source, f"{tmp_path / 'MMEB-eval'}:more", tmp_path / "eval_x.jsonl")
    }
    assert len(marks) == 2, "the splits hold the same rows, the file the same in other bytes"
    rows[1]["qry_img_path"] = "x.png"
    datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)}).save_to_disk(str(tmp_path / "with_images"))
    with pytest.raises(DataError, match="row 2: it names the image 'x.png'; say where images are with image_root"):
        load_task(f"{tmp_path / 'with_images'}:test")
