# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Vectors that are shared as Parquet: written, read back, and refused by row."""

import re
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from tiny_teachers import expected, write_parquet

from trainers.teachers import load_teacher
from trainers.teachers import vector_files as module
from trainers.teachers.vectors import teacher_vectors

TEXTS = [f"text {number}" for number in range(50)]


@pytest.fixture
def file(tmp_path):
    """The vectors of all texts in a Parquet file."""
    write_parquet(tmp_path / "vectors.parquet", TEXTS, expected(TEXTS))
    return tmp_path / "vectors.parquet"


def write(path, texts, vectors, **columns):
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "embedding": vectors, **columns}), path)
    return path


def read(source, folder, texts=TEXTS):
    return teacher_vectors(texts, load_teacher(source), folder / "cache")


def test_what_was_written_is_read_back(file, tmp_path, monkeypatch):
    table = pyarrow.parquet.read_table(file)
    assert table.column_names == ["text", "embedding"] and table["text"].to_pylist() == TEXTS
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)
    np.testing.assert_array_equal(read(file, tmp_path, TEXTS[::-1]), expected(TEXTS[::-1]))
    assert not list(tmp_path.rglob("*unfinished*"))


def test_an_array_is_made_once(file, tmp_path, monkeypatch):
    read(file, tmp_path)
    monkeypatch.setattr(module.VectorFiles, "_read", lambda *_: pytest.fail("it is there"))
    np.testing.assert_array_equal(read(file, tmp_path), expected(TEXTS))


@pytest.mark.parametrize("source", ["part-*.parquet", ""])
def test_several_files_and_other_columns(tmp_path, source):
    vectors = expected(TEXTS) * 3  # of any length
    for part in range(2):
        rows = slice(25 * part, 25 * part + 25)
        table = {"sentence": [f" {text} " for text in TEXTS[rows]], "vector": list(vectors[rows].astype(np.float64))}
        pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / f"part-{part}.parquet")
    (tmp_path / "notes.txt").write_text("a folder may hold other files")
    np.testing.assert_allclose(read(f"{tmp_path / source}::sentence,vector", tmp_path), vectors, atol=1e-6)
    with pytest.raises(ValueError, match="names 1 columns; 2 are needed"):
        load_teacher(f"{tmp_path / source}::vector")


def test_another_file_of_the_name_is_read_anew(file, tmp_path):
    read(file, tmp_path)
    write(file, TEXTS, list(-expected(TEXTS)))
    np.testing.assert_array_equal(read(file, tmp_path), -expected(TEXTS))


def test_text_without_a_vector_is_named(file, tmp_path):
    with pytest.raises(ValueError, match="vectors.parquet: no vectors of 2 texts of the run, the first 'absent'"):
        read(file, tmp_path, [*TEXTS, "absent", "other"])
    assert not list(tmp_path.rglob("*.npy")) and not list(tmp_path.rglob("*unfinished*"))


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
    with pytest.raises(ValueError, match=f"v.parquet {message}"):
        read(source, tmp_path)
    read(source, tmp_path, [*TEXTS[:12], *TEXTS[13:]])  # nobody asks for it


def test_files_that_cannot_be_used(file, tmp_path):
    ones = [[1.0, 2.0]] * 2
    for texts, vectors, message in (
        ([1, 2], ones, "column 'text' is of type int64, not texts"),
        (["a", "b"], [1.0, 2.0], "column 'embedding' is of type double, not lists"),
        (["a", "b"], [[1, 2]] * 2, "column 'embedding' is of type list.*int64.*, not lists of floating"),
    ):
        with pytest.raises(ValueError, match=f"bad.parquet: {message}"):
            read(write(tmp_path / "bad.parquet", texts, vectors), tmp_path, ["a"])
    with pytest.raises(ValueError, match="no column 'vector'. Its columns are: text, embedding"):
        read(f"{file}::text,vector", tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match="vectors.parquet: broken Parquet"):
        read(file, tmp_path)
    for absent in ("absent.parquet", "absent-*.parquet"):
        with pytest.raises(FileNotFoundError, match=re.escape(absent)):
            load_teacher(tmp_path / absent)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kinds of memory are told by Linux only")
def test_nothing_is_held_in_memory(tmp_path):
    def own_memory() -> int:
        """MB of this process that no file stands behind."""
        return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1000

    texts = [str(number) for number in range(20_000)]
    write_parquet(tmp_path / "v.parquet", texts, np.ones((20_000, 1000), np.float32))  # 80 MB
    read(tmp_path / "v.parquet", tmp_path, texts[:10])
    before = own_memory()
    vectors = read(tmp_path / "v.parquet", tmp_path, texts)
    assert vectors[::100].sum() == 200_000
    assert own_memory() - before < 40
    kept = np.array(vectors)
    assert own_memory() - before > 60, "a copy would have shown"
    del kept
