# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the columns of an MMEB training row mean."""

import re

import pytest

from unime.data.example import Example
from unime.data.forms import MMEB_COLUMNS, RowFault, find_form

TOKEN = "<|image_1|>\n"
MMEB = find_form(MMEB_COLUMNS)


def text(value):
    return Example(value, None, "")


def image(path, words=None):
    return Example(words, path, "")


def parse(**values):
    return MMEB.parse({"qry": "q", "pos_text": "p", **values})


def test_strings_are_kept_to_the_letter():
    row = parse(qry=f"{TOKEN}Find it.\n", qry_image_path="q.jpg", pos_image_path="", neg_text="n ", neg_image_path="")
    assert row.query == image("q.jpg", f"{TOKEN}Find it.\n")
    assert row.positive == text("p")
    assert row.negatives == (text("n "),)
    assert row.examples == (row.query, row.positive, *row.negatives)


@pytest.mark.parametrize(
    "columns, expected",
    [
        ({}, ()),
        ({"neg_text": "", "neg_image_path": ""}, ()),
        ({"neg_text": None, "neg_image_path": None}, ()),
        ({"neg_text": "n"}, (text("n"),)),
        ({"neg_image_path": "n.jpg"}, (image("n.jpg"),)),
        ({"neg_text": ["a", "b"]}, (text("a"), text("b"))),
        ({"neg_text": ["a", "", "b"], "neg_image_path": ""}, (text("a"), text("b"))),
        ({"neg_text": ["a", ""], "neg_image_path": ["", "b.jpg"]}, (text("a"), image("b.jpg"))),
        ({"neg_text": [], "neg_image_path": ["a.jpg"]}, (image("a.jpg"),)),
        ({"neg_text": TOKEN, "neg_image_path": ["a.jpg", "b.jpg"]}, (image("a.jpg", TOKEN), image("b.jpg", TOKEN))),
        ({"neg_text": [], "neg_image_path": []}, ()),
    ],
)
def test_negatives(columns, expected):
    assert parse(**columns).negatives == expected


@pytest.mark.parametrize(
    "columns, reason",
    [
        ({"qry": ""}, "the query has neither a text nor an image .columns 'qry', 'qry_image_path'"),
        ({"qry": None}, "the query has neither"),
        ({"qry": TOKEN}, "the query has neither"),  # the token of an image that is not there
        ({"pos_text": " ", "pos_image_path": ""}, "the positive has neither"),
        ({"pos_text": 7}, "column 'pos_text' is of type int, not a text"),
        ({"qry_image_path": ["a.jpg"]}, "column 'qry_image_path' is of type list"),
        ({"neg_text": ["a", 1]}, "column 'neg_text' is of type int"),
        ({"neg_text": ["a"], "neg_image_path": ["", ""]}, "list 1 and 2 negatives"),
        ({"pos_text": "\udc00"}, "lone surrogate"),
    ],
)
def test_bad_rows(columns, reason):
    with pytest.raises(RowFault, match=reason):
        parse(**columns)


@pytest.mark.parametrize(
    "columns", [MMEB_COLUMNS, (*MMEB_COLUMNS, "ques_type", "id", "pos_text_source"), ("qry", "pos_image_path")]
)
def test_columns_that_are_fine_until_one_is_misspelt(columns):
    assert MMEB.column_fault(columns) is None
    misspelt = [f"{column}s" if column == "pos_image_path" else column for column in columns]
    assert "unknown column 'pos_image_paths' looks like 'pos_image_path'" in MMEB.column_fault(misspelt)
    row = MMEB.parse({column: f"{column}'s value" for column in columns})
    assert row.positive.image == "pos_image_path's value" and row.query.text == "qry's value"
    assert len(row.negatives) == ("neg_text" in columns)


@pytest.mark.parametrize(
    "columns, message",
    [
        (("qry", "qry_img_path", "pos_text"), "unknown column 'qry_img_path' looks like 'qry_image_path'"),
        (("qry", "pos_text", "negative_text"), "'negative_text' looks like 'neg_text'"),
        (("query_text", "pos_text"), "no column 'qry'. Its columns are: query_text, pos_text"),
        (("qry", "qry_image_path", "neg_text"), "no column 'pos_text' and none 'pos_image_path'"),
        (("qry_text", "tgt_text", "tgt_img_path"), "no column 'qry'.*looks like an evaluation file"),
    ],
)
def test_columns_that_are_not(columns, message):
    assert re.search(message, MMEB.column_fault(columns))
