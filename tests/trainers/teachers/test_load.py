# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The teacher's options, and where they lead."""

from dataclasses import fields

import pytest
from tiny_teachers import FakeTeacher, expected, make_nv_embed, write_parquet

import trainers.teachers.load as module
from trainers.run import FREE_OPTIONS
from trainers.teachers import NVEmbedTeacher, SentenceTransformersTeacher, load_teacher
from trainers.teachers.load import TeacherArguments
from trainers.teachers.vector_files import VectorFiles


def test_every_option_reaches_the_teacher(monkeypatch):
    asked = {}
    monkeypatch.setattr(module, "load_teacher", lambda name, **options: asked.update(options) or FakeTeacher())
    values = {"prompt": "a ", "max_length": 7, "batch_size": 3, "dtype": "bfloat16"}
    arguments = TeacherArguments(**{f"teacher_{name}": value for name, value in values.items()})
    assert isinstance(arguments.load(None, "cuda:3"), FakeTeacher)
    assert asked == {**values, "device": "cuda:3"}, "the rank's own device"
    TeacherArguments(teacher_device="cpu").load(None, "cuda:3")
    assert asked["device"] == "cpu"


def test_the_fitting_class_is_chosen(tmp_path):
    teacher = load_teacher(make_nv_embed(tmp_path / "nv"), prompt="Do: ")
    assert isinstance(teacher, NVEmbedTeacher) and "nv-embed" in teacher.fingerprint
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "bert"}')
    assert isinstance(load_teacher(str(tmp_path / "other")), SentenceTransformersTeacher)
    write_parquet(tmp_path / "vectors/v.parquet", ["a"], expected(["a"]))
    for name in ("vectors", "vectors/v.parquet", "vectors/*.parquet", "vectors/v.parquet::text,embedding"):
        assert isinstance(load_teacher(f"{tmp_path}/{name}"), VectorFiles)
    (tmp_path / "v.npy").touch()
    with pytest.raises(ValueError, match="v.npy: vectors are read from .parquet files"):
        load_teacher(tmp_path / "v.npy")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"teacher_prompt": "a"}, "teacher prompt has no effect on the stored vectors of .*v.parquet"),
        ({"teacher_max_length": 8}, "teacher max_length has no effect"),
    ],
)
def test_options_without_effect_on_stored_vectors(options, message, tmp_path):
    write_parquet(tmp_path / "v.parquet", ["a"], expected(["a"]))
    with pytest.raises(ValueError, match=message):
        TeacherArguments(str(tmp_path / "v.parquet"), **options).load(None)


def test_what_changes_the_vectors_is_on_record(tmp_path):
    """A resumed run may have other options only where they leave the vectors, and so the teacher's name, as they are."""
    folder = make_nv_embed(tmp_path / "teacher")
    changed = {
        "prompt": "a ",
        "max_length": 9,
        "dtype": "float16",
        "batch_size": 2,
        "device": "meta",
    }
    plain = load_teacher(folder).fingerprint
    for name, value in changed.items():
        other = load_teacher(folder, **{name: value}).fingerprint
        assert (other != plain) == (f"teacher_{name}" not in FREE_OPTIONS), name
    names = {entry.name for entry in fields(TeacherArguments)}
    assert names == {"teacher", *(f"teacher_{name}" for name in changed)}
    assert "teacher" not in FREE_OPTIONS and "teacher_cache" in FREE_OPTIONS


def test_the_weights_count_and_the_place_does_not(tmp_path):
    plain = load_teacher(make_nv_embed(tmp_path / "one")).fingerprint
    other = make_nv_embed(tmp_path / "two")
    assert load_teacher(other).fingerprint == plain
    with open(other / "model.safetensors", "r+b") as weights:
        weights.seek(-5, 2)
        weights.write(b"\x01")
    assert load_teacher(other).fingerprint != plain


def test_every_option_has_help():
    assert all(len(entry.metadata["help"]) > 20 for entry in fields(TeacherArguments))
