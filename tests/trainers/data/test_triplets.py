# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Triplets of the contrastive baseline."""

import json

import pytest

from trainers.data.triplets import load_triplets
from unime.data.bad_rows import BadRowError, BadRows
from unime.data.columns import SourceError


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_equal_texts_have_one_number(tmp_path):
    rows = [
        {"sent0": "a", "sent1": " b ", "hard_neg": "c", "source": 1},
        {"sent0": "c", "sent1": "b", "hard_neg": ""},
        {"sent0": "d", "sent1": "a", "hard_neg": None},
    ]
    first, second = write_jsonl(tmp_path / "1.jsonl", rows[:2]), write_jsonl(tmp_path / "2.jsonl", rows[2:])
    texts, numbers = load_triplets([first, second])
    assert texts == ["a", "b", "c", "d"]
    assert numbers.tolist() == [[0, 1, 2], [2, 1, -1], [3, 0, -1]]
    assert load_triplets(f"{tmp_path}/*.jsonl", max_rows=1).rows.tolist() == [[0, 1, 2], [3, 0, -1]]


def test_two_columns_are_pairs(tmp_path):
    file = write_jsonl(tmp_path / "p.jsonl", [{"question": "a", "answer": "b"}])
    assert load_triplets(f"{file}::question,answer").rows.tolist() == [[0, 1, -1]]
    assert load_triplets(file, columns=["answer", "question"]).texts == ["b", "a"]
    with pytest.raises(SourceError, match=r"no column 'sent0'.*question, answer.*::column1,column2"):
        load_triplets(file)


@pytest.mark.parametrize("columns", ["a", "a,b,c,d"])
def test_other_numbers_of_columns_are_refused(tmp_path, columns):
    file = write_jsonl(tmp_path / "p.jsonl", [dict.fromkeys("abcd", "x")])
    with pytest.raises(ValueError, match="p.jsonl: . columns .*two or three: query, positive and"):
        load_triplets(f"{file}::{columns}")


BAD = [
    ({"sent0": "", "sent1": "x", "hard_neg": "y"}, "column 'sent0' is empty"),
    ({"sent0": "x", "sent1": None, "hard_neg": "y"}, "column 'sent1' is null"),
    ({"sent0": "x", "sent1": "y", "hard_neg": 5}, "column 'hard_neg' is of type int"),
    ({"sent0": "x", "sent1": ["y"], "hard_neg": ""}, "column 'sent1' is of type list"),
    ({"sent0": "x", "sent1": "y"}, "no column 'hard_neg'"),
]


@pytest.mark.parametrize("row, reason", BAD)
def test_bad_row_is_named_or_skipped(tmp_path, row, reason):
    good = {"sent0": "a", "sent1": "b", "hard_neg": "c"}
    file = write_jsonl(tmp_path / "t.jsonl", [good, row])
    with pytest.raises(BadRowError, match=rf"t\.jsonl line 2: .*{reason}"):
        load_triplets(file)
    bad_rows = BadRows("skip")
    assert load_triplets(file, on_bad_row=bad_rows).texts == ["a", "b", "c"]
    assert [bad.place.line for bad in bad_rows.rows] == [2]


def test_nothing_to_read(tmp_path):
    with pytest.raises(ValueError, match="No triplet was found"):
        load_triplets(write_jsonl(tmp_path / "t.jsonl", []))


def test_real_rows(data_dir):
    texts, rows = load_triplets(f"{data_dir}/nli_triplets/train.jsonl")
    assert rows.shape == (671, 3) and rows.min() == 0 and rows.max() == len(texts) - 1 < 3 * 671
