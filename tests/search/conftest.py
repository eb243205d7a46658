# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A folder of files to search, a model folder, and an encoder without a model."""

import pytest
from counting_encoder import CountingEncoder, save_picture
from tiny_models import make_llava, save_unime

import search.index


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    return str(save_unime(make_llava(folder / "backbone"), folder / "model"))


@pytest.fixture
def encoder(monkeypatch):
    """What an index encodes with in a test, whichever model it names."""
    counting = CountingEncoder()
    monkeypatch.setattr(search.index, "make_encoder", lambda arguments: counting)
    return counting


@pytest.fixture
def photos(tmp_path):
    """Twenty pictures at two depths, two of them equal, and two texts."""
    folder = tmp_path / "photos"
    for number in range(19):
        save_picture(folder / ("" if number % 2 else "deep/er") / f"{number}.png", number)
    save_picture(folder / "copy of 3.png", 3)
    (folder / "note.txt").write_text("a red bicycle", encoding="utf-8")
    (folder / "long.md").write_text("\n\n".join(f"paragraph {i} " * 30 for i in range(20)), encoding="utf-8")
    return folder
