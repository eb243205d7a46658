# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import pytest

from unime.data.content import ContentIndex, ImageCheck
from unime.data.example import Example
from unime.data.images import ImageError, ImageStore


def test_content_is_text_instruction_and_image_bytes(tmp_path, write_image):
    write_image("a.png", "red"), write_image("copy_of_a.png", "red"), write_image("b.png", "blue")
    index = ContentIndex(ImageCheck(ImageStore(tmp_path)))
    numbers = index.add(
        [
            Example("t", "a.png"),
            Example("t", "copy_of_a.png"),
            Example("t", "./a.png"),
            Example("t", "b.png"),
            Example("u", "a.png"),
            Example("t"),
            Example("t", "a.png", ""),
            Example(None, "a.png"),
        ]
    )
    assert numbers.tolist() == [0, 0, 0, 1, 2, 3, 4, 5]
    assert len(index.examples) == 6
    assert index.add([Example("t")]).tolist() == [3]


def test_nothing_is_added_when_an_image_is_bad(tmp_path, write_image):
    write_image("a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    index = ContentIndex(ImageCheck(ImageStore(tmp_path)))
    for bad in ("cut.png", "missing.png", "../a.png"):
        with pytest.raises(ImageError, match=bad):
            index.add([Example("new"), Example(None, "a.png"), Example(None, bad)])
    assert index.examples == []


def test_each_image_is_read_once(tmp_path, write_image, monkeypatch):
    write_image("a.png")
    store = ImageStore(tmp_path)
    read = []
    original = store.read_bytes
    monkeypatch.setattr(store, "read_bytes", lambda path: read.append(path) or original(path))
    images = ImageCheck(store)
    images.look_at(["a.png", "a.png", "missing.png"])
    images.digest("a.png")
    with pytest.raises(ImageError):
        images.digest("missing.png")
    assert sorted(read) == ["a.png", "missing.png"]
