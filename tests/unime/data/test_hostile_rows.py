# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Rows that Python, Arrow or the file system stumbles over are bad rows like others, for every reader of data files."""

import gzip
import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet
import pytest

from evaluation.load import load_task
from trainers.data.mmeb import load_mmeb_train
from trainers.data.texts import load_texts
from unime.data.bad_rows import BadRowError, BadRows, DataError, SourceError
from unime.data.rows import read_rows

# What stands in the column "x" of the bad line, as JSON, and a word of the reason.
ANYWHERE = {
    "deep": ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "digits": ("9" * 5000, "too many digits"),
    "bytes": (b'"\xff"', "not UTF-8"),
}
HALF = ('"half \\ud800 of it"', "half a character")
LONG_NAME = (json.dumps("a caption that is no path " * 12), "cannot be looked up")


def with_line(row: dict, **values: str | bytes) -> bytes:
    """A row as JSON, with some columns given as JSON."""
    columns = {name: json.dumps(value).encode() for name, value in row.items()}
    columns |= {name: value if isinstance(value, bytes) else value.encode() for name, value in values.items()}
    return b"{" + b", ".join(json.dumps(name).encode() + b": " + value for name, value in columns.items()) + b"}"


def write_lines(folder, name: str, *lines: bytes):
    (folder / name).write_bytes(b"".join(line + b"\n" for line in lines))
    return folder / name


EVALUATION = {"qry_text": "q", "qry_img_path": "", "tgt_text": ["a", "b"], "tgt_img_path": ["", ""]}
IN_EVALUATION = {
    **{name: {"x": value, "reason": reason} for name, (value, reason) in ANYWHERE.items()},
    "half": {"qry_text": HALF[0], "reason": HALF[1]},
    "half_candidate": {"tgt_text": f'["a", {HALF[0]}]', "reason": HALF[1]},
    "half_instruction": {"qry_inst": HALF[0], "reason": HALF[1]},
    "half_path": {"qry_img_path": HALF[0], "reason": HALF[1]},
    "long_name": {"qry_img_path": LONG_NAME[0], "reason": LONG_NAME[1]},
}


@pytest.mark.parametrize("fault", list(IN_EVALUATION))
def test_evaluation(tmp_path, fault):
    changes = dict(IN_EVALUATION[fault])
    reason = changes.pop("reason")
    good = with_line(EVALUATION)
    path = write_lines(tmp_path, "eval_x.jsonl", good, with_line(EVALUATION, **changes), good)
    loaded = load_task(path, on_bad_row="skip")
    assert len(loaded.queries) == 2
    assert [row["row"] for row in loaded.skipped] == ["line 2"] and reason in loaded.skipped[0]["reason"]
    json.dumps(loaded.skipped, ensure_ascii=False).encode("utf-8")  # as the results are written
    with pytest.raises(DataError, match=f"eval_x.jsonl line 2: .*{reason}"):
        load_task(path)


def test_a_score_that_no_float_can_hold(tmp_path):
    good = {"sentence1": "a", "sentence2": "b", "score": 1}
    path = write_lines(tmp_path, "sts.jsonl", with_line(good), with_line(good, score="9" * 400))
    assert [row["row"] for row in load_task(path, on_bad_row="skip").skipped] == ["line 2"]


TRAINING = {"qry": "q", "qry_image_path": "", "pos_text": "p", "pos_image_path": ""}
IN_TRAINING = {
    **{name: {"x": value, "reason": reason} for name, (value, reason) in ANYWHERE.items()},
    "half": {"pos_text": HALF[0], "reason": HALF[1]},
    "half_path": {"pos_image_path": HALF[0], "reason": HALF[1]},
    "long_name": {"qry_image_path": LONG_NAME[0], "reason": LONG_NAME[1]},
}


@pytest.mark.parametrize("check", ["full", "exists"])
@pytest.mark.parametrize("fault", list(IN_TRAINING))
def test_training_and_mining(tmp_path, fault, check):
    changes = dict(IN_TRAINING[fault])
    reason = changes.pop("reason")
    good = with_line(TRAINING)
    path = write_lines(tmp_path, "train_x.jsonl", good, with_line(TRAINING, **changes), good)
    bad_rows = BadRows("skip")
    assert len(load_mmeb_train(str(path), on_bad_row=bad_rows, image_check=check, progress=False)) == 2
    assert [row.place.line for row in bad_rows.rows] == [2] and reason in bad_rows.rows[0].reason
    with pytest.raises(BadRowError, match=f"train_x.jsonl line 2: .*{reason}"):
        load_mmeb_train(str(path), image_check=check, progress=False)


@pytest.mark.parametrize("load", [load_texts])
@pytest.mark.parametrize("fault", [*ANYWHERE, "half"])
def test_texts_of_stage_1(tmp_path, load, fault):
    value, reason = {**ANYWHERE, "half": HALF}[fault]
    good = {"sent0": "a", "sent1": "b"}
    path = write_lines(tmp_path, "x.jsonl", with_line(good), with_line(good, sent1=value), with_line(good))
    bad_rows = BadRows("skip")
    load(str(path), ["sent0", "sent1"], bad_rows)
    assert [row.place.line for row in bad_rows.rows] == [2] and reason in bad_rows.rows[0].reason


def read(path, policy="error"):
    bad_rows = BadRows(policy)
    rows = [row.values for row in read_rows(path, bad_rows)]
    return rows, [(row.place.line, row.reason) for row in bad_rows.rows]


@pytest.mark.parametrize("fault", list(ANYWHERE))
def test_a_file_that_is_one_json_value(tmp_path, fault):
    value, reason = ANYWHERE[fault]
    path = write_lines(tmp_path, "x.json", b"[", with_line({"a": 1}, x=value), b"]")
    with pytest.raises(SourceError, match=f"x.json.*{reason}"):
        read(path)


def test_a_long_cell_of_a_table(tmp_path):
    """The csv module of Python stops at 131,072 characters."""
    path = write_lines(tmp_path, "x.csv", b"a,b", b"1," + b"x" * 200_000, b"2,y")
    assert read(path)[0] == [{"a": "1", "b": "x" * 200_000}, {"a": "2", "b": "y"}]


def test_bad_values_in_parquet(tmp_path):
    offsets, content = pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xffc")
    broken = pa.StringArray.from_buffers(3, offsets, content)  # the second text is not UTF-8
    pyarrow.parquet.write_table(pa.table({"text": broken, "number": [1, 2, 3]}), tmp_path / "x.parquet")
    rows, bad = read(tmp_path / "x.parquet", policy="skip")
    assert rows == [{"text": "a", "number": 1}, {"text": "c", "number": 3}]
    assert [place for place, _ in bad] == [2] and "cannot be read" in bad[0][1]


def test_a_huge_line_of_a_compressed_file_is_passed_over_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("unime.data.rows.MAX_LINE", 2**20, raising=False)
    with gzip.open(tmp_path / "x.jsonl.gz", "wb", compresslevel=1) as file:
        file.write(b'{"a": 1}\n{"a": "')
        for _ in range(64):
            file.write(b"x" * 2**20)
        file.write(b'"}\n{"a": 3}\n')
    tracemalloc.start()
    rows, bad = read(tmp_path / "x.jsonl.gz", policy="skip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == [{"a": 1}, {"a": 3}] and [place for place, _ in bad] == [2] and "more than" in bad[0][1]
    assert peak < 2**23


@pytest.mark.parametrize("name", ["x.csv", "x.json"])
def test_what_cannot_be_passed_over_is_refused(tmp_path, name, monkeypatch):
    for limit in ("MAX_LINE", "MAX_JSON"):
        monkeypatch.setattr(f"unime.data.rows.{limit}", 2**20, raising=False)
    content = b"a,b\n1," if name == "x.csv" else b'[{"a": "'
    (tmp_path / name).write_bytes(content + b"x" * 2**22 + (b"" if name == "x.csv" else b'"}]'))
    with pytest.raises(SourceError, match=rf"{name}.* more than \d+ bytes"):
        read(tmp_path / name)
