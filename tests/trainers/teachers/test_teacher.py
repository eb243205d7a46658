# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Telling teachers apart by their files."""

import shutil

import pytest

from trainers.teachers.teacher import hash_model_folder


def make_model(folder):
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "1_Pooling" / "config.json").write_text('{"mean": true}')
    (folder / "model.safetensors").write_bytes(bytes(1000))
    return folder


def test_hash_goes_with_the_content_and_not_with_the_place(tmp_path):
    folder = make_model(tmp_path / "a")
    before = hash_model_folder(folder)
    other = tmp_path / "b"
    shutil.copytree(folder, other)
    (other / "README.md").write_text("a model card changes no vector")
    (other / ".cache").mkdir()
    (other / ".cache" / "x.json").write_text("{}")
    assert hash_model_folder(other) == before
    (other / "1_Pooling" / "config.json").write_text('{"mean": false}')
    assert hash_model_folder(other) != before


@pytest.mark.parametrize("place", [0, 123, 999])
def test_small_weights_are_read_whole(tmp_path, place):
    folder = make_model(tmp_path / "a")
    before = hash_model_folder(folder)
    weights = bytearray(1000)
    weights[place] = 1
    (folder / "model.safetensors").write_bytes(weights)
    assert hash_model_folder(folder) != before


def test_one_changed_value_in_the_middle_of_large_weights(tmp_path):
    folder = make_model(tmp_path / "a")
    file = folder / "model.safetensors"
    file.write_bytes(bytes(64 * 65_536 + 4_000_000))
    before = hash_model_folder(folder)
    for place in (100_000, file.stat().st_size // 2 + 70_001, file.stat().st_size - 100_000):
        with open(file, "r+b") as opened:
            opened.seek(place)
            opened.write(b"\x01")
        after = hash_model_folder(folder)
        assert after != before, f"byte {place}"
        before = after


def test_folder_without_a_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model files"):
        hash_model_folder(tmp_path)
