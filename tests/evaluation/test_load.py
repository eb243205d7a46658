# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import unicodedata
import zipfile

import pytest

from evaluation.load import load_task
from unime.data.bad_rows import DataError
from unime.data.images import ImageError


@pytest.fixture
def mixed(write_rows, write_image, tmp_path, text_row):
    """Good rows at 1 and 6; in between broken JSON, a missing field, a missing and a truncated image."""
    folder = tmp_path / "set"
    write_image("good.png", "red", folder)
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:-30])
    row = {"qry_text": "q", "qry_img_path": "good.png", "tgt_text": ["a", "b"], "tgt_img_path": ["", ""]}
    without = {name: value for name, value in row.items() if name != "tgt_img_path"}
    candidate = row | {"tgt_img_path": ["", "cut.png"]}
    rows = [row, '{"qry_text": ', without, row | {"qry_img_path": "gone.png"}, candidate, text_row("q", "a", "c")]
    return write_rows(rows)


def test_bad_rows_are_an_error_that_names_file_line_and_field(mixed, write_rows):
    lines = mixed.read_text().splitlines()
    for number, message in (
        (1, "not JSON"),
        (2, "'tgt_img_path' .* is missing"),
        (3, "'gone.png' is missing"),
        (4, "'cut.png' .* cannot be decoded .*truncated"),
    ):
        with pytest.raises(DataError, match=rf"eval_toy.jsonl line 2: .*{message}.*on_bad_row=skip"):
            load_task(write_rows([lines[0], lines[number]]))


def test_bad_rows_can_be_skipped_and_are_listed(mixed):
    loaded = load_task(mixed, on_bad_row="skip")
    assert len(loaded.queries) == 2
    assert [entry["row"] for entry in loaded.skipped] == ["line 2", "line 3", "line 4", "line 5"]
    texts = {example.text for example in loaded.index.examples}
    assert texts == {"q", "a", "b", "c"}
    assert len(loaded.index.examples) == 5  # "q" with and without image


def test_nothing_left_is_an_error_even_when_skipping(write_rows):
    with pytest.raises(DataError, match="all 2 rows are bad; the first: line 1: not JSON"):
        load_task(write_rows(["{", "{"]), on_bad_row="skip")
    with pytest.raises(DataError, match="eval_toy.jsonl: has no rows"):
        load_task(write_rows([]))


def test_unknown_form_lists_what_is_accepted(write_rows, data_dir):
    path = write_rows([{"question": 1, "answer": 2}])
    with pytest.raises(DataError, match="unknown form, its fields are question, answer") as caught:
        load_task(path, on_bad_row="skip")
    for field in ("qry_text", "negative_caption", "sentence1", "captions"):
        assert field in str(caught.value)
    with pytest.raises(DataError, match="unknown form"):
        load_task(data_dir / "mmeb_format" / "unime_v2_example.json")


def test_limit_and_image_root(write_rows, write_image, tmp_path):
    write_image("good.png", "red", tmp_path / "elsewhere")
    row = {"qry_text": "q", "qry_img_path": "good.png", "tgt_text": ["a", "b"], "tgt_img_path": ["", ""]}
    path = write_rows([row, row, "{"])
    with pytest.raises(DataError, match="'good.png' is missing"):
        load_task(path, limit=2)
    loaded = load_task(path, image_root=str(tmp_path / "elsewhere"), limit=2)
    assert len(loaded.queries) == 2
    with pytest.raises(ImageError, match="nowhere"):
        load_task(path, image_root=str(tmp_path / "nowhere"))


@pytest.mark.parametrize("root", ["images", "images.zip", "."])
def test_the_published_layout(write_image, tmp_path, root):
    """A folder per set with Parquet, all images in one place above them, paths that begin with images/ or do not."""
    import pyarrow
    import pyarrow.parquet

    row = {"qry_text": "q", "tgt_text": ["a", "b"], "tgt_img_path": ["", ""]}
    stored = unicodedata.normalize("NFD", "GQA/ö.png")
    named = unicodedata.normalize("NFC", "images/GQA/ö.png")
    (tmp_path / "MMEB-eval/GQA").mkdir(parents=True)
    path = tmp_path / "MMEB-eval/GQA/test-00000-of-00001.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row | {"qry_img_path": named}]), path)
    write_image(f"images/{stored}", "red", tmp_path / "MMEB-eval")
    if root != "images":
        with zipfile.ZipFile(tmp_path / "MMEB-eval/images.zip", "w") as archive:
            image = tmp_path / "MMEB-eval/images" / stored
            archive.write(image, stored if root == "images.zip" else f"images/{stored}")
            image.unlink()
    loaded = load_task(path, image_root=str(tmp_path / "MMEB-eval" / root))
    assert loaded.index.examples[0].open().size == (8, 6)
