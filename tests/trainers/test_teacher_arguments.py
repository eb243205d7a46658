# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The teacher's options, and where they lead."""

from dataclasses import fields

import numpy as np
import pytest
from tiny_teachers import FakeTeacher, expected, make_nv_embed

import trainers.teacher_arguments as module
from trainers.run import FREE_OPTIONS
from trainers.teacher_arguments import TeacherArguments, teacher_vectors
from trainers.teachers import TeacherVectors, VectorFile, export_parquet

TEXTS = ["one", "a second text", "three"]


def test_every_option_reaches_the_teacher(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(module, "load_teacher", lambda name, **options: asked.update(options) or FakeTeacher())
    values = {"prompt_name": "query", "max_length": 7, "truncate_dim": 5, "batch_size": 3, "dtype": "bfloat16"}
    arguments = TeacherArguments(**{f"teacher_{name}": value for name, value in values.items()})
    vectors = teacher_vectors(TEXTS, arguments, tmp_path, "cuda:3")
    assert asked == {**values, "prompt": "", "device": "cuda:3"}, "the rank's own device"
    np.testing.assert_array_equal(vectors.vectors(TEXTS), expected(TEXTS))
    teacher_vectors(TEXTS, TeacherArguments(teacher_device="cpu"), tmp_path, "cuda:3")
    assert asked["device"] == "cpu"


def test_files_of_vectors(tmp_path):
    np.save(tmp_path / "v.npy", expected(TEXTS))
    vectors = teacher_vectors(TEXTS, TeacherArguments(str(tmp_path / "v.npy")), tmp_path / "cache", "cpu")
    assert isinstance(vectors, VectorFile) and not (tmp_path / "cache").exists()
    np.testing.assert_allclose(vectors.vectors(TEXTS), expected(TEXTS), atol=1e-7)

    (tmp_path / "v.jsonl").write_text('{"t": "three"}\n{"t": "one"}\n{"t": "x"}\n')
    vectors = teacher_vectors(["x"], TeacherArguments(f"{tmp_path / 'v.npy'}::t"), tmp_path / "cache", "cpu")
    np.testing.assert_allclose(vectors.vectors(["x"]), expected(TEXTS[2:]), atol=1e-7)

    store = TeacherVectors.open(tmp_path / "source", FakeTeacher()).ensure(TEXTS, progress=False)
    source = export_parquet(tmp_path / "v.parquet", TEXTS, store)
    for name in (str(source), f"{tmp_path}/*.parquet", f"{source}::text,embedding"):
        arguments = TeacherArguments(name, teacher_truncate_dim=4)
        vectors = teacher_vectors(TEXTS, arguments, tmp_path / "cache", "cpu")
        assert vectors.dimension == 4 and len(vectors) == 3
    with pytest.raises(ValueError, match="names 1 columns, 2 are needed"):
        teacher_vectors(TEXTS, TeacherArguments(f"{source}::text"), tmp_path / "cache", "cpu")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"teacher_prompt": "a", "teacher_prompt_name": "b"}, "both given"),
        ({"teacher_truncate_dim": 0}, "teacher_truncate_dim is 0"),
        ({"teacher": "v.npy", "teacher_prompt": "a"}, "teacher_prompt has no effect on the stored vectors of v.npy"),
        ({"teacher": "v.parquet::a,b", "teacher_prompt_name": "a"}, "teacher_prompt_name has no effect"),
        ({"teacher": "v.safetensors", "teacher_max_length": 8}, "teacher_max_length has no effect"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        TeacherArguments(**options)


def test_what_changes_the_vectors_is_on_record(tmp_path):
    """A resumed run may have other options only where they leave the vectors, and so the teacher's name, as they are."""
    folder = make_nv_embed(tmp_path / "teacher")
    (folder / "config_sentence_transformers.json").write_text('{"prompts": {"query": "Do: "}}')
    changed = {
        "prompt": "a ",
        "prompt_name": "query",
        "max_length": 9,
        "truncate_dim": 4,
        "dtype": "float16",
        "batch_size": 2,
        "device": "meta",
    }
    plain = module.load_teacher(str(folder)).fingerprint
    for name, value in changed.items():
        other = module.load_teacher(str(folder), **{name: value}).fingerprint
        assert (other != plain) == (f"teacher_{name}" not in FREE_OPTIONS), name
    names = {entry.name for entry in fields(TeacherArguments)}
    assert names == {"teacher", "teacher_cache", *(f"teacher_{name}" for name in changed)}
    assert "teacher" not in FREE_OPTIONS


def test_every_option_has_help():
    assert all(len(entry.metadata["help"]) > 20 for entry in fields(TeacherArguments))
