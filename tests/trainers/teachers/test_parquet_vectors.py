# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Vectors that are shared as Parquet: written, read back, and refused by row."""

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from tiny_teachers import FakeTeacher, expected

from trainers.teachers import TeacherVectors, TeacherVectorsError, export_parquet, import_parquet
from trainers.teachers import parquet_vectors as module

TEXTS = [f"text {number}" for number in range(50)]


@pytest.fixture
def file(tmp_path):
    """The vectors of all texts in a Parquet file."""
    store = TeacherVectors.open(tmp_path / "source", FakeTeacher()).ensure(TEXTS, progress=False)
    return export_parquet(tmp_path / "vectors.parquet", [*TEXTS, TEXTS[0]], store)


def write(path, texts, vectors, **columns):
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "embedding": vectors, **columns}), path)
    return str(path)


def read(source, folder, texts=TEXTS, **options):
    return import_parquet(str(source), folder, texts, progress=False, **options)


def test_what_was_written_is_read_back(file, tmp_path, monkeypatch):
    table = pyarrow.parquet.read_table(file)
    assert table.column_names == ["text", "embedding"] and table["text"].to_pylist() == TEXTS
    monkeypatch.setattr(module, "SHARD_SIZE", 8)
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)
    store = read(file, tmp_path / "cache")
    assert len(store) == 50 and len(list(store.folder.glob("shard-*"))) == 7
    np.testing.assert_allclose(store.vectors(TEXTS[::-1]), expected(TEXTS[::-1]), atol=1e-7)
    assert [entry.name for entry in tmp_path.iterdir() if "unfinished" in entry.name] == []


def test_only_what_is_wanted_is_copied_and_only_once(file, tmp_path, monkeypatch):
    assert len(read(file, tmp_path / "cache", TEXTS[10:15])) == 5
    store = read(file, tmp_path / "cache", TEXTS[12:20])
    assert len(store) == 10
    monkeypatch.setattr(module, "_read", lambda *_: pytest.fail("nothing is missing"))
    read(file, tmp_path / "cache", TEXTS[10:20])


def test_several_files_and_other_columns(tmp_path):
    vectors = expected(TEXTS) * 3
    for part in range(2):
        rows = slice(25 * part, 25 * part + 25)
        table = {"sentence": [f" {text} " for text in TEXTS[rows]], "vector": list(vectors[rows].astype(np.float64))}
        pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / f"part-{part}.parquet")
    store = read(tmp_path / "part-*.parquet", tmp_path / "cache", columns=("sentence", "vector"))
    np.testing.assert_allclose(store.vectors(TEXTS), expected(TEXTS), atol=1e-7)


def test_truncated_and_whole_vectors_do_not_mix(file, tmp_path):
    whole, short = read(file, tmp_path / "cache"), read(file, tmp_path / "cache", truncate_dim=3)
    assert (whole.dimension, short.dimension) == (6, 3)
    first = expected(TEXTS)[:, :3]
    np.testing.assert_allclose(short.vectors(TEXTS), first / np.linalg.norm(first, axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(TeacherVectorsError, match="truncate_dim is 7, but the vectors of .* have 6"):
        read(file, tmp_path / "cache", truncate_dim=7)


def test_another_file_of_the_name_is_read_anew(file, tmp_path):
    read(file, tmp_path / "cache")
    write(file, TEXTS, list(-expected(TEXTS)))
    np.testing.assert_allclose(read(file, tmp_path / "cache").vectors(TEXTS), -expected(TEXTS), atol=1e-7)


def test_text_without_a_vector_is_named(file, tmp_path):
    with pytest.raises(
        TeacherVectorsError, match="vectors.parquet: no vectors of 2 texts of the run, the first 'absent'"
    ):
        read(file, tmp_path / "cache", [*TEXTS, "absent", "other"])
    assert len(read(file, tmp_path / "cache")) == 50, "what was copied before stays"


@pytest.mark.parametrize(
    "vector, message",
    [
        ([float("nan")] * 6, "row 13: the vector is not finite"),
        ([1.0, None, 0, 0, 0, 0], "row 13: the vector is not finite"),
        ([0.0] * 6, "row 13: the vector is all zeros"),
        ([1.0] * 5, "row 13: a vector of 5 dimensions, where others have 6"),
        ([], "row 13: a vector of 0 dimensions"),
        (None, "row 13: a vector of 0 dimensions"),
    ],
)
def test_bad_row_is_named(tmp_path, vector, message):
    vectors = [list(map(float, row)) for row in expected(TEXTS)]
    vectors[12] = vector
    source = write(tmp_path / "v.parquet", TEXTS, vectors)
    with pytest.raises(TeacherVectorsError, match=f"v.parquet {message}"):
        read(source, tmp_path / "cache")
    read(source, tmp_path / "cache", [*TEXTS[:12], *TEXTS[13:]])  # nobody asks for it


def test_files_that_cannot_be_used(file, tmp_path):
    ones = [[1.0, 2.0]] * 2
    for texts, vectors, message in (
        ([1, 2], ones, "column 'text' is of type int64, not texts"),
        (["a", "b"], [1.0, 2.0], "column 'embedding' is of type double, not lists"),
        (["a", "b"], [[1, 2]] * 2, "column 'embedding' is of type list.*int64.*, not lists of floating"),
    ):
        with pytest.raises(TeacherVectorsError, match=f"bad.parquet: {message}"):
            read(write(tmp_path / "bad.parquet", texts, vectors), tmp_path / "cache", ["a"])
    with pytest.raises(ValueError, match="no column 'vector'. Its columns are: text, embedding"):
        read(file, tmp_path / "cache", columns=("text", "vector"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(TeacherVectorsError, match="vectors.parquet: broken Parquet"):
        read(file, tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="absent.parquet: no such file"):
        read(tmp_path / "absent.parquet", tmp_path / "cache")


def test_failed_export_leaves_nothing(file, tmp_path, monkeypatch):
    before = file.read_bytes()
    store = TeacherVectors.open(tmp_path / "source", FakeTeacher())
    monkeypatch.setattr(store, "take", lambda rows: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_parquet(file, TEXTS, store)
    assert file.read_bytes() == before
    assert not [entry for entry in tmp_path.iterdir() if "unfinished" in entry.name]
