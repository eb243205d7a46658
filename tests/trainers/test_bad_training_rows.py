# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Ten kinds of bad rows in a training file of stage 2: the command stops at the first, or leaves all out and lists them."""

import json

import pytest
from PIL import Image

import trainers.train_stage2
from unime.data.bad_rows import BadRowError

# What is wrong with the row, and a word of the reason that is given.
FAULTS = {
    "broken": "not JSON",
    "list": "not an object",
    "no_positive_columns": "no column 'pos_text'",
    "empty_positive": "the positive has neither",
    "empty_query": "the query has neither",
    "number": "'qry' is of type int",
    "nested_negative": "'neg_text' is of type dict",
    "no_image": "is missing in",
    "damaged_image": "cannot be decoded",
    "outside": "not inside the image root",
}


def good_row(number: int) -> dict:
    image = "images/cat.png" if number % 2 else ""
    return {
        "qry": f"{'<|image_1|> ' if image else ''}question {number}",
        "qry_image_path": image,
        "pos_text": f"answer {number}",
        "pos_image_path": "",
        "neg_text": f"other {number}",
        "neg_image_path": "",
    }


def bad_line(fault: str, number: int) -> str:
    row = good_row(number)
    if fault == "broken":
        return json.dumps(row)[:-5]
    if fault == "list":
        return json.dumps(list(row.values()))
    if fault == "no_positive_columns":
        row = {name: value for name, value in row.items() if not name.startswith("pos_")}
    changes = {
        "empty_positive": {"pos_text": ""},
        "empty_query": {"qry": "", "qry_image_path": ""},
        "number": {"qry": number},
        "nested_negative": {"neg_text": {"text": "other"}},
        "no_image": {"qry_image_path": f"images/{number}.png"},
        "damaged_image": {"qry_image_path": "images/damaged.png"},
        "outside": {"qry_image_path": "../cat.png"},
    }
    return json.dumps(row | changes.get(fault, {}))


def test_fifty_bad_rows(tmp_path, backbones):
    (tmp_path / "images").mkdir()
    Image.effect_noise((30, 40), 60).convert("RGB").save(tmp_path / "images" / "cat.png")
    (tmp_path / "images" / "damaged.png").write_bytes((tmp_path / "images" / "cat.png").read_bytes()[:200])
    lines, expected = [], {}
    for number in range(50):
        lines += [json.dumps(good_row(number)), bad_line(list(FAULTS)[number % 10], number)]
        expected[len(lines)] = list(FAULTS.values())[number % 10]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    command = ["--model", str(backbones["llava_next"]), "--data", str(tmp_path / "train.jsonl")]
    command += ["--output_dir", str(tmp_path / "out"), "--max_steps", "2", "--per_device_train_batch_size", "8"]
    command += ["--lora_rank", "2", "--use_cpu", "True", "--disable_tqdm", "True"]
    with pytest.raises(BadRowError, match=r"train\.jsonl line 2: not JSON .*on_bad_row=skip"):
        trainers.train_stage2.main(command)

    trainers.train_stage2.main([*command, "--on_bad_row", "skip"])  # what the message says, into the same folder
    listed = json.loads((tmp_path / "out" / "bad_rows.json").read_text())
    assert sorted(row["line"] for row in listed) == sorted(expected)
    assert all(expected[row["line"]] in row["reason"] and row["mend"] for row in listed)
    record = json.loads((tmp_path / "out" / "training_record.json").read_text())
    assert (record["steps"], record["skipped_rows"], list(record["rows"].values())) == (2, 50, [50])
