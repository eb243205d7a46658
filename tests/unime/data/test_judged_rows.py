# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Training rows with a judge's scores: what the columns mean, what is refused, and the published example."""

import json
from dataclasses import replace

import pytest
from PIL import Image

from trainers.data.mmeb import load_mmeb_train
from unime.data.bad_rows import BadRowError, BadRows, Place
from unime.data.example import Example
from unime.data.forms import JUDGED_COLUMNS, MMEB_COLUMNS, RowFault, find_form

TOKEN = "<|image_1|>\n"
JUDGED = find_form(JUDGED_COLUMNS)


def row(**changes):
    values = {
        "query_text": f"{TOKEN}What is it?\n",
        "query_image": "q.png",
        "pos_text": "a dog",
        "pos_image": "",
        "query_pos_scores": 0.9,
        "hard_negatives": [["a cat", ""], [TOKEN, "n.png"], ["a fox", None]],
        "hard_negatives_scores": [0.2, 0, 0.5],
    }
    return {**values, **changes}


def load(file, **options):
    return load_mmeb_train(str(file), progress=False, **options)


def test_parts_of_a_row():
    parsed = JUDGED.parse(row())
    assert parsed.query == Example(f"{TOKEN}What is it?\n", "q.png", "")
    assert parsed.positive == Example("a dog", None, "")
    assert parsed.negatives == (
        Example("a cat", None, ""),
        Example(TOKEN, "n.png", ""),
        Example("a fox", None, ""),
    )
    assert parsed.scores == (0.9, 0.2, 0.0, 0.5)
    assert JUDGED.parse(row(hard_negatives=[], hard_negatives_scores=[])).scores == (0.9,)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"query_text": "", "query_image": ""}, "the query has neither a text nor an image"),
        ({"pos_text": None}, "the positive has neither"),
        ({"pos_text": 7}, "column 'pos_text' is of type int"),
        ({"query_pos_scores": None}, "'query_pos_scores' is of type NoneType, not a number"),
        ({"query_pos_scores": float("nan")}, "'query_pos_scores' is nan, not a number from 0 to 1"),
        ({"query_pos_scores": True}, "'query_pos_scores' is of type bool"),
        ({"hard_negatives_scores": [0.2, 0.1, 71.0]}, r"hard_negatives_scores\[2\] is 71.0, not a number from 0 to 1"),
        ({"hard_negatives_scores": [0.2, "0.1", 0]}, r"hard_negatives_scores\[1\] is of type str"),
        ({"hard_negatives_scores": [0.2]}, "3 'hard_negatives' have 1 'hard_negatives_scores'"),
        ({"hard_negatives_scores": None}, "column 'hard_negatives_scores' is of type NoneType, not a list"),
        ({"hard_negatives": [["a", ""], "b", ["c", ""]]}, r"hard_negatives\[1\] is not a pair of text and image path"),
        ({"hard_negatives": [["a", ""], ["b"], ["c", ""]]}, r"hard_negatives\[1\] is not a pair"),
        ({"hard_negatives": [["a", ""], ["b", 3], ["c", ""]]}, r"column 'hard_negatives\[1\]' is of type int"),
        ({"hard_negatives": [["a", ""], [TOKEN, ""], ["c", ""]]}, r"hard_negatives\[1\] has neither a text nor"),
    ],
)
def test_bad_rows(changes, reason):
    with pytest.raises(RowFault, match=reason):
        JUDGED.parse(row(**changes))


def test_columns():
    assert find_form(["query_text", "answer"]) == JUDGED != find_form(MMEB_COLUMNS)
    assert find_form([*MMEB_COLUMNS, "hard_negatives_scores"]) != JUDGED
    assert JUDGED.column_fault((*JUDGED_COLUMNS, "id")) is None
    fault = JUDGED.column_fault([column for column in JUDGED_COLUMNS if column != "pos_image"])
    assert fault.startswith("no column 'pos_image'. Its columns are: query_text")


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("q.png", "n.png")):
        Image.new("RGB", (20, 30), (90 * number, 40, 10)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_source_of_the_loader(folder, suffix):
    rows = [row(), row(pos_text="a cat", hard_negatives=[["a dog", ""]], hard_negatives_scores=[0.3])]
    file = folder / f"train.{suffix}"
    file.write_text(json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows)))
    (folder / "train_mmeb.jsonl").write_text(json.dumps({"qry": "q", "pos_text": "a dog"}))
    data = load_mmeb_train([str(file), str(folder / "train_mmeb.jsonl")], progress=False)
    first, second, plain = data[0], data[1], data[2]
    assert first.scores == (0.9, 0.2, 0.0, 0.5) and second.scores == (0.9, 0.3) and plain.scores is None
    assert [image and image.size for image in [first.open(example) for example in first.examples]] == [
        (20, 30),
        None,
        None,
        (20, 30),
        None,
    ]
    assert first.place == Place(str(file), 1) and replace(first.negatives[0], store=None) == Example("a cat", None, "")
    # The same text is the same content, whatever the form of its file.
    assert second.group == first.negative_groups[0] and second.negative_groups == (first.group,) == (plain.group,)


def test_bad_rows_are_named_or_skipped(folder):
    rows = [row(), row(query_pos_scores=7), row(hard_negatives=[["x", "gone.png"]], hard_negatives_scores=[0.1])]
    del rows[1]["hard_negatives"]
    file = folder / "train.json"
    file.write_text(json.dumps([*rows, row(query_pos_scores=7)]))
    with pytest.raises(BadRowError, match=r"train\.json row 2: no column 'hard_negatives'"):
        load(file)
    bad = BadRows("skip")
    assert len(load(file, on_bad_row=bad)) == 1
    assert [(entry.place.line, entry.reason[:15]) for entry in bad.rows] == [
        (2, "no column 'hard"),
        (4, "'query_pos_scor"),
        (3, "image 'gone.png"),
    ]


def test_published_example(data_dir, tmp_path):
    """Its images are not here, so pictures of its own stand in their places."""
    source = data_dir / "mmeb_format" / "unime_v2_example.json"
    if not source.is_file():
        pytest.skip("mmeb_format is not among the real data sets (../shared/data) of this machine")
    rows = json.loads(source.read_text())
    with pytest.raises(BadRowError, match="row 1: image 'images/.* is missing"):
        load(source, image_root=str(tmp_path))
    parsed = [JUDGED.parse(values) for values in rows]
    for example in {example for one in parsed for example in one.examples if example.image}:
        path = tmp_path / example.image
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    data = load(source, image_root=str(tmp_path), image_check="exists")
    assert len(data) == len(rows) == 50
    for index, values in enumerate(rows):
        pair = data[index]
        assert pair.scores == (values["query_pos_scores"], *values["hard_negatives_scores"])
        assert [(n.text or "", n.image or "") for n in pair.negatives] == [tuple(n) for n in values["hard_negatives"]]
