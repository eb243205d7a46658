# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import gzip
import json

import pytest

from unime.data.data_files import DataError, data_set_name, find_data_files, read_rows

ROWS = [{"a": "é", "b": 1.5}, {"a": "line\u2028separator", "b": 2.0}]


def write(path, kind):
    if kind == ".jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n", encoding="utf-8-sig")
    elif kind == ".jsonl.gz":
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))
    elif kind == ".json":
        path.write_text(json.dumps(ROWS))
    elif kind == ".csv":
        path.write_text("a,b\né,1.5\nline\u2028separator,2.0\n", encoding="utf-8")
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)


@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet"])
def test_all_kinds_of_file_give_the_same_rows(tmp_path, kind):
    path = tmp_path / f"eval_x{kind}"
    write(path, kind)
    rows = list(read_rows(path))
    assert [row.values["a"] for row in rows] == ["é", "line\u2028separator"]
    assert [float(row.values["b"]) for row in rows] == [1.5, 2.0]
    assert rows[1].place in ("line 2", "row 2")
    assert len(list(read_rows(path, limit=1))) == 1


def test_json_object_of_rows(tmp_path):
    path = tmp_path / "add_att.json"
    path.write_text(json.dumps({"0": {"x": 1}, "7": {"x": 2}}))
    assert [(row.place, row.values) for row in read_rows(path)] == [("key '0'", {"x": 1}), ("key '7'", {"x": 2})]


def test_rows_that_cannot_be_parsed_carry_their_fault(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": \n[1, 2]\n{"a": 4}\n')
    rows = list(read_rows(path))
    assert [row.fault is None for row in rows] == [True, False, False, True]
    assert rows[1].place == "line 2" and "JSON" in rows[1].fault
    assert "got list" in rows[2].fault
    table = tmp_path / "x.csv"
    table.write_text("a,b\n1,2\n1\n1,2,3\n")
    assert [row.fault is None for row in read_rows(table)] == [True, False, False]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("x.txt", b"", "unknown kind of file"),
        ("x.jsonl", b"", "no rows"),
        ("x.csv", b"a\n\xff\n", "line 2: not UTF-8"),
        ("x.csv", b"a,a\n1,2\n", "occurs twice"),
        ("x.json", b'{"a": \n', "line 2: not JSON"),
        ("x.json", b"3", "got int"),
        ("x.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 1000, mtime=0)[:-20], "cannot be read"),
        ("x.parquet", b"PAR1 no", "Parquet"),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*{message}"):
        list(read_rows(path))


def test_find_data_files(tmp_path):
    for name in (
        "b/eval_x.jsonl",
        "a/eval_y.jsonl.gz",
        "a/train_y.jsonl",
        "a/notes.txt",
        "a/eval_notes.txt",
        "sc/add_att.json",
        "GQA/test-00000-of-00001.parquet",
        "stsb/test.jsonl",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = find_data_files([str(tmp_path)])
    names = ["GQA/test", "a/y", "b/x", "sc/add_att"]
    assert sorted(map(data_set_name, found)) == names
    again = find_data_files([str(tmp_path), str(tmp_path / "stsb/test.jsonl"), str(tmp_path / "b/eval_x.jsonl")])
    assert sorted(map(data_set_name, again)) == [*names, "stsb/test"]
    with pytest.raises(DataError, match="nowhere"):
        find_data_files([str(tmp_path / "nowhere")])
    with pytest.raises(DataError, match="no eval_"):
        find_data_files([str(tmp_path / "stsb")])
    (tmp_path / "b/x.json").write_text("x")
    with pytest.raises(DataError, match="both be called 'b/x'"):
        find_data_files([str(tmp_path), str(tmp_path / "b/x.json")])
