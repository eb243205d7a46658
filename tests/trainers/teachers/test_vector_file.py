# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Vectors in .npy and .safetensors files: read where they lie, matched to their texts, refused by name."""

import json
import multiprocessing
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trainers.teachers import TeacherVectorsError, VectorFile
from unime.data.bad_rows import BadRowError

TEXTS = [f"text {number}" for number in range(20)]
MATRIX = np.random.default_rng(0).standard_normal((20, 6)).astype(np.float32)
UNIT = MATRIX / np.linalg.norm(MATRIX, axis=1, keepdims=True)


def save(file: Path, matrix: np.ndarray | torch.Tensor = MATRIX) -> Path:
    if file.suffix == ".npy":
        np.save(file, np.asarray(matrix))
    else:
        save_file({"vectors": torch.as_tensor(matrix)}, file)
    return file


def save_texts(file: Path, texts=TEXTS, column: str = "text") -> None:
    file.with_suffix(".jsonl").write_text("\n".join(json.dumps({column: text}) for text in texts), encoding="utf-8")


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-7), ("float64", 1e-7), ("float16", 5e-4)])
def test_rows_of_the_run_in_their_order(tmp_path, suffix, dtype, tolerance, caplog):
    vectors = VectorFile.open(save(tmp_path / f"v{suffix}", MATRIX.astype(dtype)), [*TEXTS, TEXTS[3]])
    assert len(vectors) == 20 and vectors.dimension == 6
    rows = vectors.rows([TEXTS[3], TEXTS[19], TEXTS[3]])
    assert rows.tolist() == [3, 19, 3]
    taken = vectors.take(rows)
    assert taken.dtype == np.float32
    np.testing.assert_allclose(taken, UNIT[[3, 19, 3]], atol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(taken, axis=1), 1, atol=1e-6)
    assert "in their order" in caplog.text


def test_bfloat16(tmp_path):
    vectors = VectorFile.open(save(tmp_path / "v.safetensors", torch.from_numpy(MATRIX).bfloat16()), TEXTS)
    np.testing.assert_allclose(vectors.vectors(TEXTS), UNIT, atol=5e-3)


def test_texts_beside_the_file(tmp_path, caplog):
    file = save(tmp_path / "v.npy")
    save_texts(file, [f" {text}\n" for text in reversed(TEXTS)])  # the run's texts are stripped, too
    vectors = VectorFile.open(file, TEXTS[:2])
    np.testing.assert_allclose(vectors.vectors(TEXTS), UNIT[::-1], atol=1e-7)
    assert not caplog.text
    with pytest.raises(TeacherVectorsError, match=r"v.npy: no vector of the text 'absent' \(and 1 more\). Add its"):
        vectors.rows([TEXTS[0], "absent", "another"])
    save_texts(file, TEXTS, column="sentence")
    np.testing.assert_allclose(VectorFile.open(file, [], "sentence").vectors(TEXTS[:3]), UNIT[:3], atol=1e-7)
    with pytest.raises(ValueError, match="no column 'text'. Its columns are: sentence"):
        VectorFile.open(file, TEXTS)
    save_texts(file, [*TEXTS[:7], None, *TEXTS[8:]])
    with pytest.raises(BadRowError, match="v.jsonl line 8: column 'text' is null. Every vector needs its text"):
        VectorFile.open(file, TEXTS)
    save_texts(file, [TEXTS[4], *TEXTS[1:]])
    np.testing.assert_allclose(VectorFile.open(file, TEXTS).vectors([TEXTS[4]]), UNIT[:1], atol=1e-7)  # the first


def test_truncated_vectors_are_normalised_again(tmp_path):
    vectors = VectorFile.open(save(tmp_path / "v.npy"), TEXTS, truncate_dim=4)
    first = MATRIX[:, :4] / np.linalg.norm(MATRIX[:, :4], axis=1, keepdims=True)
    assert vectors.dimension == 4
    np.testing.assert_allclose(vectors.vectors(TEXTS), first, atol=1e-7)
    with pytest.raises(TeacherVectorsError, match="truncate_dim is 7, but the vectors of .*v.npy have 6 dimensions"):
        VectorFile.open(tmp_path / "v.npy", TEXTS, truncate_dim=7)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize("value, fault", [(np.nan, "not finite"), (np.inf, "not finite"), (0.0, "all zeros")])
def test_bad_row_is_named_when_its_text_is_wanted(tmp_path, suffix, value, fault):
    matrix = MATRIX.copy()
    matrix[13, :] = value
    vectors = VectorFile.open(save(tmp_path / f"v{suffix}", matrix), TEXTS)
    with pytest.raises(
        TeacherVectorsError, match=f"v{suffix}: .*'text 13', row 13 counted from 0, is {fault}.* Compute"
    ):
        vectors.rows(TEXTS)
    vectors.rows(TEXTS[:13])


@pytest.mark.parametrize("count", [19, 21])
def test_other_number_of_texts(tmp_path, count):
    texts = [f"text {number}" for number in range(count)]
    file = save(tmp_path / "v.npy")
    message = f"20 vectors, but the run has {count} distinct texts.*Or write .*v.jsonl with one line " + re.escape(
        '{"text": "..."}'
    )
    with pytest.raises(TeacherVectorsError, match=message):
        VectorFile.open(file, [*texts, *texts])
    save_texts(file, texts)
    with pytest.raises(TeacherVectorsError, match=f"20 vectors, but .*v.jsonl has {count} texts. Write one line"):
        VectorFile.open(file, TEXTS)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize("matrix", [MATRIX[0], MATRIX[:, :, None], MATRIX.astype(np.int8), MATRIX[:0], MATRIX[:, :0]])
def test_other_arrays_are_refused(tmp_path, suffix, matrix):
    with pytest.raises(TeacherVectorsError, match=re.escape(f"v{suffix}: an array of shape {matrix.shape} and")):
        VectorFile.open(save(tmp_path / f"v{suffix}", np.ascontiguousarray(matrix)), TEXTS)


def test_files_that_cannot_be_read(tmp_path):
    for name, content in (("v.npy", b""), ("w.npy", b"no array"), ("v.safetensors", b"12")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TeacherVectorsError, match=f"{name}: cannot be read"):
            VectorFile.open(tmp_path / name, TEXTS)
    file = save(tmp_path / "cut.npy")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(TeacherVectorsError, match="cut.npy: cannot be read"):
        VectorFile.open(file, TEXTS)
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(TeacherVectorsError, match="objects.npy: cannot be read"):
        VectorFile.open(tmp_path / "objects.npy", TEXTS)
    save_file({"a": torch.ones(20, 2), "b": torch.ones(20, 2)}, tmp_path / "two.safetensors")
    with pytest.raises(TeacherVectorsError, match=r"two.safetensors: holds 2 tensors \(a, b\). It must hold one"):
        VectorFile.open(tmp_path / "two.safetensors", TEXTS)
    with pytest.raises(FileNotFoundError, match="absent.npy: no such file"):
        VectorFile.open(tmp_path / "absent.npy", TEXTS)


def take_in_worker(arguments):
    torch.set_num_threads(1)  # as in a DataLoader's worker
    vectors, rows = arguments
    return vectors.take(rows)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_other_processes_read_the_file_themselves(tmp_path, suffix):
    matrix = np.random.default_rng(0).standard_normal((20, 1000)).astype(np.float32)
    vectors = VectorFile.open(save(tmp_path / f"v{suffix}", matrix), TEXTS, truncate_dim=900)
    assert len(pickle.dumps(vectors)) < 5000  # 80 kB of vectors are not sent
    with multiprocessing.get_context("fork").Pool(1) as pool:
        taken = pool.map(take_in_worker, [(vectors, np.arange(10))])[0]
    np.testing.assert_array_equal(taken, vectors.take(np.arange(10)))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kinds of memory are told by Linux only")
@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_nothing_is_copied_into_memory(tmp_path, suffix):
    def own_memory() -> int:
        """MB of this process that no file stands behind."""
        return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1000

    file = tmp_path / f"v{suffix}"
    save(file, np.ones((100_000, 200), np.float32))  # 80 MB
    before = own_memory()
    vectors = VectorFile.open(file, [str(number) for number in range(100_000)])
    vectors.take(np.arange(0, 100_000, 100))
    assert own_memory() - before < 40
    kept = np.asarray(vectors._maps[0]).copy()
    assert own_memory() - before > 60, "a copy would have shown"
    del kept
