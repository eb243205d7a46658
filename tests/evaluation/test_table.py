# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import json

import pytest

from evaluation.runs import TableError
from evaluation.table import insert_between_markers, main


def write(path, model, values, rows=10):
    sets = [
        {
            "name": name,
            "form": "mmeb",
            "kind": "classification" if "class" in name else "retrieval",
            "rows": rows,
            "headline": ["precision@1"],
            "metrics": {"precision@1": value, "mrr": 0.0},
            "chance": {"precision@1": 0.25},
        }
        for name, value in values.items()
    ]
    trained = {"stage": "stage1", "steps": 7, "seed": 3, "seconds_since_start_or_resumption": 61.2}
    content = {
        "model": model,
        "data_sets": sets,
        "created": "2026-11-22T10:00:00+00:00",
        "dtype": "float32",
        "hardware": {"cpu": "some CPU", "cores": 2, "device": "cpu"},
        "training": trained if "stage1" in model else None,
    }
    path.write_text(json.dumps(content))
    return str(path)


def test_side_by_side(tmp_path, capsys):
    one = write(tmp_path / "1.json", "out/stage1", {"b/cap": 0.5, "a/class": 0.3})
    two = write(tmp_path / "2.json", "sentence-transformers:x/clip", {"a/class": 0.4})
    main([one, two, f"best={one}", "--output", str(tmp_path / "t.md")])
    assert capsys.readouterr().out == f"{tmp_path / 't.md'}\n"
    machine = "evaluated in float32 on cpu (some CPU, 2 cores), 2026-11-22"
    assert (tmp_path / "t.md").read_text().splitlines() == [
        "| data set | metric | rows | chance | stage1 | clip | best |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
        "| a/class | classification, P@1 | 10 | 25.0 | 30.0 | 40.0 | 30.0 |",
        "| b/cap | retrieval, P@1 | 10 | 25.0 | 50.0 | – | 50.0 |",
        "| **mean: classification** | P@1, 1 set |  | 25.0 | **30.0** | **40.0** | **30.0** |",
        "| **mean: overall** | P@1, 1 set |  | 25.0 | **30.0** | **40.0** | **30.0** |",
        "",
        "Means are over the 1 of 2 data sets that every column has.",
        "",
        f"- stage1: stage1, 7 steps, seed 3, 61 s of training; {machine}",
        f"- clip: not trained here; {machine}",
        f"- best: stage1, 7 steps, seed 3, 61 s of training; {machine}",
        "",
        "One run of each.",
    ]


def test_results_on_different_rows_are_refused(tmp_path):
    one = write(tmp_path / "1.json", "m1", {"a/class": 0.3}, rows=10)
    two = write(tmp_path / "2.json", "m2", {"a/class": 0.4}, rows=1000)
    with pytest.raises(TableError, match="a/class: rows is 10 in 'm1' but 1000 in 'm2'"):
        main([one, two, "--output", str(tmp_path / "t.md")])
    with pytest.raises(TableError, match="two results are called 'm1'"):
        main([one, one, "--output", str(tmp_path / "t.md")])
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(TableError, match="x.json: not a results.json"):
        main([str(tmp_path / "x.json"), "--output", str(tmp_path / "t.md")])


def test_insertion_between_markers(tmp_path):
    document = tmp_path / "README.md"
    text = "# Title\n<!-- SCORES:begin -->\nold\n<!-- SCORES:end -->\nrest\n<!-- OTHER:begin -->\n<!-- OTHER:end -->\n"
    document.write_text(text)
    one = write(tmp_path / "1.json", "m", {"a/class": 0.3})
    for _ in range(2):  # a second insertion changes nothing
        main([one, "--insert", str(document), "--marker", "SCORES"])
        result = document.read_text()
        assert result.startswith("# Title\n<!-- SCORES:begin -->\n\n| data set |")
        assert "One run of each.\n\n<!-- SCORES:end -->\nrest\n<!-- OTHER:begin -->\n<!-- OTHER:end -->\n" in result
        assert "old" not in result and result.count("| a/class |") == 1


@pytest.mark.parametrize(
    "text",
    ["", "<!-- X:begin -->", "<!-- X:end --> <!-- X:begin -->", "<!-- X:begin --> <!-- X:begin --> <!-- X:end -->"],
)
def test_documents_without_a_place_are_refused_and_left_alone(tmp_path, text):
    document = tmp_path / "README.md"
    document.write_text(text)
    with pytest.raises(TableError, match="X:begin"):
        insert_between_markers(document, "X", "table")
    assert document.read_text() == text
    with pytest.raises(TableError, match="does not exist"):
        insert_between_markers(tmp_path / "gone.md", "X", "table")


def test_options_belong_together(tmp_path, capsys):
    one = write(tmp_path / "1.json", "m", {"a/class": 0.3})
    for options in ([], ["--insert", "x.md"], ["--marker", "X", "--output", "y.md"]):
        with pytest.raises(SystemExit):
            main([one, *options])
    assert "--marker" in capsys.readouterr().err
