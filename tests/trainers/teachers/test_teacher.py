# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Telling teachers apart by their files."""

import shutil

import pytest

from trainers.teachers.teacher import SAMPLE_BYTES, SAMPLES, hash_model_folder


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


def test_large_weights_are_sampled_from_first_to_last_byte(tmp_path):
    folder = make_model(tmp_path / "a")
    weights = bytearray(SAMPLES * SAMPLE_BYTES + 500_000)
    hashes = set()
    middle = len(weights) // 2
    for changed in (slice(0, 0), slice(0, 1), slice(middle, middle + 100_000), slice(-1, None)):
        weights[changed] = bytes([1]) * len(weights[changed])
        (folder / "model.safetensors").write_bytes(weights)
        hashes.add(hash_model_folder(folder))
    assert len(hashes) == 4


def test_folder_without_a_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model files"):
        hash_model_folder(tmp_path)
