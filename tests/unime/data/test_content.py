# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import json

import numpy as np
import pytest
from PIL import Image

from evaluation.load import load_task
from trainers.data.held_rows import hold_rows
from trainers.data.mmeb import load_mmeb_train
from trainers.mining.pool import Pool
from unime.data.content import ContentIndex
from unime.data.example import Example
from unime.data.images import ImageError, ImageStore


def test_content_is_text_instruction_and_pixels(tmp_path, write_image):
    write_image("a.png", "red"), write_image("copy_of_a.png", "red"), write_image("b.png", "blue")
    Image.open(tmp_path / "a.png").save(tmp_path / "a.bmp")
    store, other = ImageStore(tmp_path), ImageStore(str(tmp_path))
    examples = [
        Example("t", "a.png", None, store),
        Example(" t\n", "copy_of_a.png", None, store),
        Example("t", "./a.png", None, other),
        Example("t", "a.bmp", None, store),
        Example("t", "b.png", None, store),
        Example("u", "a.png", None, store),
        Example("t"),
        Example("t", "a.png", "", store),
        Example(None, "a.png", None, store),
        Example("", "a.png", None, store),
        Example("t", "a.png", "i", store),
    ]
    index = ContentIndex()
    assert index.add(examples).tolist() == [0, 0, 0, 0, 1, 2, 3, 4, 5, 5, 6]
    assert len(index.examples) == 7 and index.examples[0] == examples[0]
    assert index.add([Example("t")]).tolist() == [3]


def test_parts_of_a_key_do_not_run_into_each_other():
    keys = [Example("a1:b").key(), Example("a").key(b"b"), Example("a", instruction="b").key(), Example("a").key()]
    assert len(set(keys)) == 4
    assert Example("a", instruction=None).key() != Example("a", instruction="").key()


def test_nothing_is_added_when_an_image_is_bad(tmp_path, write_image):
    write_image("a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    index, store = ContentIndex(), ImageStore(tmp_path)
    for bad in ("cut.png", "missing.png", "../a.png"):
        with pytest.raises(ImageError, match=bad):
            index.add([Example("new"), Example(None, "a.png", None, store), Example(None, bad, None, store)])
    assert index.examples == []


def test_each_image_is_read_once(tmp_path, write_image, monkeypatch):
    write_image("a.png")
    store = ImageStore(tmp_path)
    read = []
    original = store.read_bytes
    monkeypatch.setattr(store, "read_bytes", lambda path: read.append(path) or original(path))
    index = ContentIndex()
    good, missing = Example(None, "a.png", None, store), Example(None, "missing.png", None, store)
    index.look_at([good, good, missing])
    index.look_at([good, missing])
    assert index.fault(good) is None and "missing.png" in index.fault(missing)
    assert sorted(read) == ["a.png", "missing.png"]


@pytest.fixture
def twice(tmp_path):
    """The same pixels as a PNG and as a BMP, and others."""
    for seed, names in enumerate([("same.png", "same.bmp"), ("other.png",)]):
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 10, 3), dtype=np.uint8)
        for name in names:
            Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_picture_saved_twice_is_one_content_for_training_and_mining(twice):
    rows = [
        {"qry": "q", "qry_image_path": "", "pos_text": "", "pos_image_path": name}
        for name in ("same.png", "same.bmp", "other.png")
    ]
    from_files = load_mmeb_train(str(write(twice / "train_x.jsonl", *rows)), progress=False)
    held = [{"query": "q", "positive": str(twice / row["pos_image_path"])} for row in rows]
    for dataset in (from_files, hold_rows(held)):
        groups = dataset.groups.tolist()
        assert groups[0] == groups[1] != groups[2]
        assert dataset.known_positives(0).tolist() == sorted({groups[0], groups[2]}), "one positive, given twice"
        pool = Pool(dataset)
        assert len(pool.candidates) == 2 and set(pool.known(0)) == {0, 1}


def test_a_picture_saved_twice_is_one_content_for_the_tie_rule(twice):
    """The right candidate and its copy tie by themselves; a copy with other white space does, too."""
    row = {"qry_text": "q", "qry_img_path": "", "tgt_text": ["x", "x\n", "x"]}
    rows = [
        row | {"tgt_img_path": ["same.png", "same.bmp", "other.png"]},
        row | {"tgt_img_path": ["same.bmp", "other.png", "same.png"]},
    ]
    task = load_task(write(twice / "eval_x.jsonl", *rows))
    task = getattr(task, "task", task)
    assert len(task.index.examples) == 3, "the query and two pictures"
    assert [numbers.tolist() for numbers in task.candidates] == [[1, 1, 2], [1, 2, 1]]
    vectors = {"q": [1.0, 0.0], "same.png": [1.0, 0.0], "other.png": [0.0, 1.0]}
    embeddings = np.array([vectors[example.image or example.text] for example in task.index.examples], np.float32)
    assert task.score(embeddings).metrics["precision@1"] == 1
