# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Every kind of file gives the same rows, and names the place of what is wrong."""

import csv
import gzip
import json

import datasets
import pyarrow as pa
import pyarrow.parquet
import pytest

from unime.data.bad_rows import BadRowError, BadRows, SourceError
from unime.data.rows import expand_source, read_rows

ROWS = [{"a": 'one, "1"', "b": "x"}, {"a": "two\nlines", "b": "ÿ\u2028z"}, {"a": "three", "b": ""}]


def write_rows(path, rows=ROWS):
    """Write rows in the format that the suffix says."""
    name = path.name
    with (
        gzip.open(path, "wt", encoding="utf-8", newline="")
        if name.endswith(".gz")
        else open(path, "w", encoding="utf-8", newline="") as file
    ):
        if ".jsonl" in name:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        elif ".json" in name:
            json.dump(rows, file)
        elif ".csv" in name:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def read(source, policy="error", **options):
    return list(read_rows(source, BadRows(policy), **options))


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "json", "json.gz", "csv", "csv.gz", "parquet"])
def test_all_formats_give_the_same_rows(tmp_path, suffix):
    file = write_rows(tmp_path / f"rows.{suffix}")
    rows = read(file)
    assert [row.values for row in rows] == ROWS
    assert {row.place.file for row in rows} == {file}
    # the second record of the CSV file has a line break inside, so that the third begins at line 5
    lines = [2, 3, 5] if "csv" in suffix else [1, 2, 3]
    assert [row.place.line for row in rows] == lines
    assert [row.values for row in read(file, columns=["b"])] == [{"b": row["b"]} for row in ROWS]
    assert len(read(file, max_rows=2)) == 2
    assert read(tmp_path / f"rows.{suffix}") == rows


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_unknown_column_names_file_column_and_existing_ones(tmp_path, suffix):
    file = write_rows(tmp_path / f"rows.{suffix}")
    with pytest.raises(SourceError, match=rf"rows\.{suffix}: no column 'c'\. Its columns are: a, b\."):
        read(file, policy="skip", columns=["a", "c"])


def test_jsonl_names_bad_lines_and_skips_blank_ones(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": "1"}\r\n\n{"a": \n["a"]\n{"a": "\xff"}\n{"b": "5"}\n{"a": "6"}')
    bad_rows = BadRows("skip")
    rows = list(read_rows(str(file), bad_rows, columns=["a"]))
    assert [(row.place.line, row.values) for row in rows] == [(1, {"a": "1"}), (7, {"a": "6"})]
    assert [row.place.line for row in bad_rows.rows] == [3, 4, 5, 6]
    reasons = [row.reason for row in bad_rows.rows]
    for reason, part in zip(reasons, ["not JSON", "a JSON list", "not UTF-8", "no column 'a'"], strict=True):
        assert part in reason
    with pytest.raises(BadRowError, match=r"rows\.jsonl line 3: not JSON \(Expecting value"):
        read(str(file))


def test_max_rows_counts_bad_rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": "1"}\nbroken\n{"a": "3"}\n')
    assert len(read(str(file), policy="skip", max_rows=2)) == 1


@pytest.mark.parametrize("suffix", ["jsonl.gz", "csv.gz", "json.gz"])
def test_truncated_gzip_is_an_error_under_any_policy(tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    rows = [{"a": str(i * 7919), "b": str(i * i)} for i in range(2000)]
    write_rows(path, rows)
    path.write_bytes(path.read_bytes()[:-200])
    place = "" if suffix == "json.gz" else r" after line \d+"
    with pytest.raises(SourceError, match=f"broken compressed data{place}"):
        read(str(path), policy="skip")


def test_damaged_parquet_and_wrong_gzip(tmp_path):
    path = tmp_path / "rows.parquet"
    write_rows(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"rows\.parquet: broken Parquet"):
        read(str(path))
    (tmp_path / "rows.jsonl.gz").write_text('{"a": "1"}')
    with pytest.raises(SourceError, match=r"rows\.jsonl\.gz: broken compressed data"):
        read(str(tmp_path / "rows.jsonl.gz"))


def test_json_must_be_a_list_of_objects(tmp_path):
    file = tmp_path / "rows.json"
    file.write_text('{"a": "1"}\n{"a": "2"}')
    with pytest.raises(SourceError, match=r"rows\.json line 2: not JSON.*name it \.jsonl"):
        read(str(file))
    file.write_text('{"a": "1"}')
    with pytest.raises(SourceError, match="JSON dict.*list of objects"):
        read(str(file))
    file.write_text('{"0": {"x": 1}, "7": {"x": 2}, "8": 3}')  # SugarCrepe's form
    bad_rows = BadRows("skip")
    rows = list(read_rows(file, bad_rows))
    assert [(row.place.line, row.values) for row in rows] == [(1, {"x": 1}), (2, {"x": 2})]
    assert [row.place.line for row in bad_rows.rows] == [3]
    file.write_text('[{"a": "1"}, 2]')
    with pytest.raises(BadRowError, match=r"rows\.json row 2: a JSON int"):
        read(str(file))


def test_csv_faults_name_the_line(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('a,b\n1,2\n\n3,4,5\n"6\n6",7\n8\n')
    bad_rows = BadRows("skip")
    rows = list(read_rows(str(file), bad_rows))
    assert [row.place.line for row in rows] == [2, 5]
    assert [(row.place.line, row.reason) for row in bad_rows.rows] == [
        (4, "3 fields where the header has 2"),
        (7, "1 fields where the header has 2"),
    ]
    file.write_text('a,b\n1,"2\n')
    with pytest.raises(SourceError, match=r"rows\.csv line 2: not CSV"):
        read(str(file), policy="skip")
    file.write_text("a,a\n1,2\n")
    with pytest.raises(SourceError, match="occurs twice"):
        read(str(file))
    file.write_bytes(b"a,b\n1,\xff\n")
    with pytest.raises(SourceError, match=r"rows\.csv line 2: not UTF-8"):
        read(str(file))


def test_missing_file_and_unknown_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl: no such file"):
        read(str(tmp_path / "nothing.jsonl"))
    (tmp_path / "rows.xlsx").write_bytes(b"")
    with pytest.raises(SourceError, match=r"rows\.xlsx: the kind of file is not known"):
        read(str(tmp_path / "rows.xlsx"))


def test_saved_datasets(tmp_path):
    single = datasets.Dataset.from_list(ROWS)
    single.save_to_disk(str(tmp_path / "single"))
    assert [(row.place.line, row.values) for row in read(str(tmp_path / "single"))] == list(enumerate(ROWS, start=1))
    with pytest.raises(SourceError, match="has no splits"):
        read(f"{tmp_path / 'single'}:train")

    datasets.DatasetDict({"x": single, "y": single.select([0])}).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(SourceError, match=r"choose one of its splits \['x', 'y'\]"):
        read(str(tmp_path / "splits"))
    assert [row.values for row in read(f"{tmp_path / 'splits'}:y", columns=["b"])] == [{"b": "x"}]
    with pytest.raises(SourceError, match="no column 'c'. Its columns are: a, b"):
        read(f"{tmp_path / 'splits'}:y", columns=["c"])
    datasets.DatasetDict({"train": single, "y": single.select([0])}).save_to_disk(str(tmp_path / "train"))
    assert len(read(str(tmp_path / "train"))) == 3


def test_a_saved_data_set_may_not_name_files_elsewhere(tmp_path):
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    state = json.loads((tmp_path / "saved/state.json").read_text(encoding="utf-8"))
    name = state["_data_files"][0]["filename"]
    (tmp_path / "saved" / name).rename(tmp_path / name)
    state["_data_files"][0]["filename"] = f"../{name}"
    (tmp_path / "saved/state.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(SourceError, match="its state.json names _data_files outside of the folder"):
        read(str(tmp_path / "saved"))
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}).save_to_disk(str(tmp_path / "splits"))
    (tmp_path / "splits/dataset_dict.json").write_text('{"splits": ["../saved"]}', encoding="utf-8")
    with pytest.raises(SourceError, match="its dataset_dict.json names splits outside of the folder"):
        read(str(tmp_path / "splits"))


def test_hub_names_are_taken_apart(monkeypatch):
    calls = []

    def load_dataset(name, config, split):
        calls.append((name, config, split))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name: ["CIRR"])
    for source in ("org/set", "org/set:CIRR:original", "org/set:CIRR", "org/set:test"):
        assert len(read(source)) == 3
    assert calls == [
        ("org/set", None, None),
        ("org/set", "CIRR", "original"),
        ("org/set", "CIRR", None),
        ("org/set", None, "test"),
    ]
    with pytest.raises(SourceError, match="more than name:config:split"):
        read("org/set:a:b:c")

    def offline(name, config, split):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(SourceError, match="typo/name: neither a file here nor a loadable data set .no route"):
        read("typo/name")


def test_expand_source(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/train_2.jsonl", "train_1.jsonl.gz", "eval_1.jsonl", "train_1.txt"):
        (tmp_path / name).write_text("")
    patterns = ("train_*.jsonl", "train_*.jsonl.gz")
    found = expand_source(str(tmp_path), patterns)
    assert found == [str(tmp_path / "b" / "train_2.jsonl"), str(tmp_path / "train_1.jsonl.gz")]
    assert expand_source(str(tmp_path)) == [str(tmp_path)]
    assert expand_source(f"{tmp_path}/**/*.jsonl") == [
        str(tmp_path / "b" / "train_2.jsonl"),
        str(tmp_path / "eval_1.jsonl"),
    ]
    (tmp_path / "odd[1].jsonl").write_text("")
    assert expand_source(str(tmp_path / "odd[1].jsonl")) == [str(tmp_path / "odd[1].jsonl")]
    assert expand_source("org/set:config") == ["org/set:config"]
    with pytest.raises(FileNotFoundError, match="no file matches"):
        expand_source(f"{tmp_path}/*.parquet")
    with pytest.raises(FileNotFoundError, match="no file named train_"):
        expand_source(str(tmp_path / "b"), ("train_*.csv",))
