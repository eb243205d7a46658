# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Texts of stage 1."""

import gzip
import json

import pytest

from trainers.data.texts import load_texts as load_dataset
from unime.data.bad_rows import BadRowError, BadRows, SourceError


def load_texts(*arguments, **options) -> list[str]:
    return load_dataset(*arguments, **options)["text"][:]


def write_jsonl(path, rows):
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return str(path)


TRIPLETS = [
    {"sent0": "a", "sent1": " b ", "hard_neg": "c", "source": 1},
    {"sent0": "d", "sent1": "a", "hard_neg": "e", "source": 2},
]


def test_distinct_texts_in_order(tmp_path):
    file = write_jsonl(tmp_path / "nli.jsonl", TRIPLETS)
    assert load_texts(file) == ["a", "b", "c", "d", "e"]
    assert load_texts([file], columns=["hard_neg"], max_rows=1) == ["c"]


def test_columns_per_source_and_lists(tmp_path):
    nli = write_jsonl(tmp_path / "nli.jsonl", TRIPLETS)
    captions = write_jsonl(tmp_path / "c.jsonl.gz", [{"id": 0, "captions": ["x", "a"]}, {"id": 1, "captions": ["y"]}])
    assert load_texts([f"{captions}::captions", f"{nli}::sent1,sent0"]) == ["x", "a", "y", "b", "d"]
    assert load_texts([captions, f"{nli}::sent0"], columns=["captions"]) == ["x", "a", "y", "d"]
    with pytest.raises(ValueError, match="no column is named"):
        load_texts(f"{nli}::")


def test_glob(tmp_path):
    for name in ("2.jsonl", "1.jsonl"):
        write_jsonl(tmp_path / name, [{"sent0": name}])
    assert load_texts(f"{tmp_path}/*.jsonl::sent0") == ["1.jsonl", "2.jsonl"]


def test_unknown_column_says_which_exist_and_how_to_choose(tmp_path):
    file = write_jsonl(tmp_path / "pairs.jsonl", [{"sent0": "a", "sent1": "b"}])
    with pytest.raises(SourceError, match=r"pairs\.jsonl: no column 'hard_neg'\. Its columns are: sent0, sent1\..*::"):
        load_texts(file, on_bad_row="skip")


BAD = [
    ({"t": ""}, "column 't' is empty"),
    ({"t": " \n"}, "column 't' is empty"),
    ({"t": None}, "column 't' is null"),
    ({"t": 5}, "column 't' is of type int, not a text"),
    ({"t": []}, "column 't' is an empty list"),
    ({"t": ["x", ""]}, "a member of column 't' is empty"),
    ({"t": ["x", 3]}, "a member of column 't' is of type int"),
    ({"t": "half \ud83d"}, "lone surrogate. at position 6"),
    ({"u": "x"}, "no column 't'"),
]


@pytest.mark.parametrize("row, reason", BAD)
def test_bad_row_is_an_error_that_names_it(tmp_path, row, reason):
    file = write_jsonl(tmp_path / "t.jsonl", [{"t": "good"}, row])
    with pytest.raises(BadRowError, match=rf"t\.jsonl line 2: .*{reason}"):
        load_texts(file, columns=["t"])


def test_skip_leaves_out_whole_rows_and_lists_all(tmp_path, caplog):
    rows = [{"t": "good"}, *(row for row, _ in BAD), {"t": "also good"}]
    file = write_jsonl(tmp_path / "t.jsonl", rows)
    bad_rows = BadRows("skip")
    assert load_texts(file, columns=["t"], on_bad_row=bad_rows) == ["good", "also good"]
    assert [row.place.line for row in bad_rows.rows] == list(range(2, len(BAD) + 2))
    assert f"{len(BAD)} bad rows were left out" in caplog.text
    bad_rows.write(tmp_path / "bad.json")  # although a reason may quote odd text


def test_nothing_to_read(tmp_path):
    with pytest.raises(ValueError, match="empty list of sources"):
        load_texts([])
    with pytest.raises(ValueError, match="no text was found in"):
        load_texts(write_jsonl(tmp_path / "t.jsonl", []))


def test_real_rows(data_dir):
    texts = load_texts(
        [f"{data_dir}/nli_triplets/train.jsonl", f"{data_dir}/multi30k_en/captions_train.jsonl.gz::captions"],
        max_rows=400,
    )
    assert texts[:2] == ["A woman is slicing an eggplant", "A woman is slicing a vegetable"]
    assert 2000 < len(texts) == len(set(texts)) <= 400 * 3 + 400 * 5
    assert "Two men in green shirts are standing in a yard." in texts
