# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""MMEB rows; the file is not called test_mmeb.py because pytest wants distinct names."""

import numpy as np
import pytest
import torch

from evaluation.load import load_task
from evaluation.similarities import ConstantEmbeddingsError
from evaluation.task import RowError
from evaluation.tasks import parse_fields
from unime.data.example import Example


def score(path, embed, **options):
    """Score a file with embeddings that `embed` makes from each example."""
    task = load_task(path, **options)
    return task.score(np.array([embed(example) for example in task.index.examples], dtype=np.float32))


def by_text(table):
    return lambda example: table[example.text]


def test_v1_rows_are_raw():
    query, candidates = parse_fields(
        {
            "qry_text": "<|image_1|>\nFind it.\n",
            "qry_img_path": "a.png",
            "tgt_text": ["yes", "<|image_1|>\nRepresent.\n"],
            "tgt_img_path": ["", "b.png"],
            "ques_type": "ignored",
        }
    )
    assert query == Example("<|image_1|>\nFind it.\n", "a.png", "")
    assert candidates == [Example("yes", None, ""), Example("<|image_1|>\nRepresent.\n", "b.png", "")]


def test_v2_rows_carry_their_instruction():
    row = {
        "qry_inst": "<|image_1|> Find it.",
        "qry_text": "the dog",
        "qry_img_path": "a.png",
        "tgt_inst": "Represent.",
        "tgt_text": ["", "x"],
        "tgt_img_path": ["b.png", "c.png"],
    }
    query, candidates = parse_fields(row)
    assert query == Example("the dog", "a.png", "Find it.")
    assert candidates == [Example(None, "b.png", "Represent."), Example("x", "c.png", "Represent.")]
    assert parse_fields(row | {"tgt_inst": ["", "B"]})[1][1].instruction == "B"
    assert parse_fields(row | {"tgt_inst": None})[1][1].instruction == ""
    with pytest.raises(RowError, match="'tgt_inst' has 1 entries but there are 2 candidates"):
        parse_fields(row | {"tgt_inst": ["A"]})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tgt_text": []}, "'tgt_text' is empty"),
        ({"tgt_text": ["a"]}, "'tgt_text' has 1 entries but 'tgt_img_path' has 2"),
        ({"tgt_text": "a"}, "'tgt_text' .* must be a list, got str; CSV"),
        ({"tgt_text": ["a", 3]}, "entry 1 of 'tgt_text' must be a str, got int"),
        ({"tgt_text": ["a", ""]}, "candidate 1 .* neither"),
        ({"qry_text": ""}, "the query .* neither"),
        ({"qry_text": 5}, "'qry_text' .* must be a str, got int"),
        ({"tgt_img_path": None}, "'tgt_img_path' .* must be a list, got NoneType"),
        ({"qry_inst": 3}, "'qry_inst' .* must be a str"),
    ],
)
def test_bad_fields_are_named(text_row, change, message):
    with pytest.raises(RowError, match=message):
        parse_fields(text_row("q", "a", "b") | change)
    row = text_row("q", "a", "b")
    del row["qry_img_path"]
    with pytest.raises(RowError, match="'qry_img_path' .* is missing"):
        parse_fields(row)


def test_scores_by_hand(write_rows, text_row):
    path = write_rows([text_row("q", "a", "b", "c"), text_row("r", "b", "a"), text_row("q", "b", "c")])
    vectors = {"q": [1, 0], "r": [0, 1], "a": [2, 0.1], "b": [1, 1], "c": [0, 1]}
    result = score(path, by_text(vectors))
    assert result.metrics["precision@1"] == 1.0
    assert result.chance["precision@1"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3)
    assert result.details["candidates"] == {"min": 2, "mean": pytest.approx(7 / 3), "max": 3}
    result = score(path, by_text(vectors | {"a": [0, 1]}))  # row 1: third place, tied; row 2: a and b change places
    assert result.metrics == pytest.approx(
        {"precision@1": 1 / 3, "recall@5": 1.0, "recall@10": 1.0, "mrr": (1 / 3 + 1 / 2 + 1) / 3}
    )


def test_a_tie_with_another_content_is_wrong_and_with_the_same_content_right(write_rows, text_row):
    vectors = by_text({"q": [1, 0], "r": [0, 1], "a": [1, 0], "b": [1, 0], "c": [0, 1]})
    assert score(write_rows([text_row("q", "a", "b"), text_row("r", "c", "a")]), vectors).metrics["precision@1"] == 0.5
    result = score(write_rows([text_row("q", "a", "a", "c"), text_row("r", "c", "a")]), vectors)
    assert result.metrics["precision@1"] == 1.0
    assert result.chance["precision@1"] == 0.5  # two contents in each row


def test_images_with_the_same_bytes_are_the_same_content(write_rows, write_image, tmp_path, make_encoder):
    for name, colour in (("a.png", "red"), ("b.png", "red"), ("c.png", "blue")):
        write_image(name, colour, tmp_path / "set")
    row = {"qry_text": "q", "qry_img_path": "", "tgt_text": ["t"] * 3, "tgt_img_path": ["a.png", "b.png", "c.png"]}
    task = load_task(write_rows([row]))
    assert len(task.index.examples) == 3  # the query and two contents
    assert task.candidates[0].tolist() == [1, 1, 2]
    encoder = make_encoder()
    result = task.evaluate(encoder)
    assert len(encoder.processor.calls) == 3
    assert result.chance["precision@1"] == 0.5


def test_constant_sides_are_refused(write_rows, text_row):
    path = write_rows([text_row("q", "a", "b"), text_row("r", "b", "a")])
    good = {"q": [1, 0], "r": [0, 1], "a": [1, 0], "b": [0, 1]}
    with pytest.raises(ConstantEmbeddingsError, match="queries of set/toy"):
        score(path, by_text(good | {"q": [0, 1]}))
    with pytest.raises(ConstantEmbeddingsError, match="candidates of set/toy"):
        score(path, by_text(good | {"a": [0, 1]}))
    assert score(write_rows([text_row("q", "a", "b")]), by_text(good)).metrics["precision@1"] == 1.0


def test_real_rows_against_a_plain_loop(data_dir, make_encoder):
    from unime.data.bad_rows import BadRows
    from unime.data.images import ImageStore
    from unime.data.rows import read_rows

    path = data_dir / "coco_tiny" / "eval_grounding.jsonl"
    encoder = make_encoder()
    result = load_task(path).evaluate(encoder)
    store = ImageStore(path.parent / "images.zip")
    right = []
    for row in read_rows(path, BadRows()):
        query, candidates = parse_fields(row.values)
        examples = [example.placed(store) for example in (query, *candidates)]
        vectors = torch.from_numpy(make_encoder().encode(examples)).double()
        scores = (vectors[1:] @ vectors[0]).tolist()
        right.append(all(scores[0] > other for other in scores[1:]))
    assert len(right) == 45 and 0 < sum(right) < 45
    assert result.metrics["precision@1"] == pytest.approx(sum(right) / 45)
    assert len(encoder.processor.calls) < sum(1 + len(row.values["tgt_text"]) for row in read_rows(path, BadRows()))
