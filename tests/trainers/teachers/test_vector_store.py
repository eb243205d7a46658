# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Teacher vectors survive what happens to long runs: second writers, failing disks, bad numbers. For kills
see test_encoding_in_ranks.py.
"""

import hashlib
import io
import multiprocessing
import pickle

import numpy as np
import pytest
from tiny_teachers import FakeTeacher, expected

from trainers.teachers import TeacherVectors, TeacherVectorsError
from unime.files import TEMPORARY_PREFIX

TEXTS = [f"text {number} " + "word " * (number % 7) for number in range(50)]


def shards(store):
    return sorted(store.folder.glob("shard-*.npy"))


def test_each_text_is_computed_once(tmp_path):
    teacher = FakeTeacher()
    store = TeacherVectors.open(tmp_path, teacher)
    assert len(store) == 0 and store.dimension is None
    assert store.ensure(TEXTS + TEXTS[:5], shard_size=16, progress=False) is store
    assert sorted(teacher.encoded) == sorted(TEXTS) and teacher.unloaded == 1
    assert len(store) == 50 and store.dimension == 6 and len(shards(store)) == 4
    first, second = teacher.encoded[:13], teacher.encoded[13:26]
    assert [len(text) for text in first] == sorted(map(len, first), reverse=True)
    assert abs(sum(map(len, first)) - sum(map(len, second))) <= max(map(len, TEXTS)), "shards take equally long"

    (store.folder / f"{TEMPORARY_PREFIX}x").write_bytes(shards(store)[0].read_bytes()[:100])  # killed while writing
    again = FakeTeacher()
    store = TeacherVectors.open(tmp_path, again).ensure(["new", *TEXTS], progress=False)
    assert again.encoded == ["new"]
    np.testing.assert_array_equal(store.vectors(TEXTS[::-1]), expected(TEXTS[::-1]))


def test_rows_and_take(tmp_path):
    store = TeacherVectors.open(tmp_path, FakeTeacher()).ensure(TEXTS, shard_size=7, progress=False)
    rows = store.rows(TEXTS)
    assert rows.dtype == np.int64 and sorted(rows) == list(range(50))
    vectors = store.take(rows[[3, 40, 3]])
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, expected([TEXTS[3], TEXTS[40], TEXTS[3]]))
    assert store.take(rows[:0]).shape == (0, 6)
    assert all(isinstance(shard, np.memmap) for shard in store._maps)  # nothing is read before it is asked for

    store.ensure([*TEXTS, "later"], progress=False)
    np.testing.assert_array_equal(store.rows(TEXTS), rows)  # rows handed out stay right
    for bad in ([-1], [51]):
        with pytest.raises(IndexError, match="has 51"):
            store.take(np.array(bad))
    with pytest.raises(TeacherVectorsError, match="no vector of the text 'absent'. Call ensure"):
        store.rows([TEXTS[0], "absent"])
    with pytest.raises(TypeError, match="not one text"):
        store.rows("text")


def test_keys_that_end_in_zero_bytes(tmp_path, monkeypatch):
    store = TeacherVectors.open(tmp_path, FakeTeacher())
    keys = {"a": b"x" * 15 + b"\0", "b": b"x" * 14 + b"\0\0", "c": bytes(16)}
    monkeypatch.setattr(
        store, "_key_array", lambda texts: np.frombuffer(b"".join(keys[text] for text in texts), dtype="S16")
    )
    store.ensure(["a", "b", "c"], shard_size=2, progress=False)
    np.testing.assert_array_equal(store.vectors(["c", "b", "a"]), expected(["c", "b", "a"]))


def test_teachers_and_precisions_do_not_mix(tmp_path):
    TeacherVectors.open(tmp_path, FakeTeacher("one")).ensure(TEXTS, progress=False)
    for options in (
        {"teacher": FakeTeacher("two", dimension=3)},
        {"teacher": FakeTeacher("one"), "stored_dtype": "float16"},
    ):
        store = TeacherVectors.open(tmp_path, **options)
        assert len(store) == 0
        store.ensure(TEXTS, progress=False)
        assert len(options["teacher"].encoded) == 50
    assert store.take(store.rows(TEXTS)).dtype == np.float32
    np.testing.assert_allclose(store.vectors(TEXTS), expected(TEXTS), atol=5e-4)
    assert np.abs(store.vectors(TEXTS) - expected(TEXTS)).max() > 0
    with pytest.raises(ValueError, match="stored_dtype is 'int8'"):
        TeacherVectors.open(tmp_path, FakeTeacher(), stored_dtype="int8")


def test_reading_without_the_teacher(tmp_path):
    TeacherVectors.open(tmp_path, FakeTeacher()).ensure(TEXTS, progress=False)
    store = TeacherVectors.open(tmp_path, "fake").ensure(TEXTS, progress=False)
    np.testing.assert_array_equal(store.vectors(TEXTS), expected(TEXTS))
    with pytest.raises(TeacherVectorsError, match="no vectors of 1 texts, the first 'new'.*with the teacher itself"):
        store.ensure(["new"], progress=False)


def _vectors_in_worker(arguments):
    store, rows = arguments
    return store.take(rows)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_files_themselves(tmp_path, method):
    store = TeacherVectors.open(tmp_path, FakeTeacher(dimension=500)).ensure(TEXTS, shard_size=20, progress=False)
    assert len(pickle.dumps(store)) < 5000  # 100 kB of vectors are not sent
    with multiprocessing.get_context(method).Pool(1) as pool:
        vectors = pool.map(_vectors_in_worker, [(store, store.rows(TEXTS[:10]))])[0]
    np.testing.assert_array_equal(vectors, store.vectors(TEXTS[:10]))


def test_two_writers_at_once(tmp_path):
    first, second = (TeacherVectors.open(tmp_path, FakeTeacher()) for _ in range(2))
    first.ensure(TEXTS[:30], shard_size=10, progress=False)
    assert len(second) == 0
    second._write_shard(TEXTS[25:35], lambda count: None)  # it had begun before it could know
    second.ensure(TEXTS, shard_size=10, progress=False)
    assert len(second) == 55
    assert len(second._teacher.encoded) == 10 + 15
    first.refresh()
    for store in (first, second):
        np.testing.assert_array_equal(store.vectors(TEXTS), expected(TEXTS))


@pytest.mark.parametrize("value, fault", [(np.nan, "not finite"), (np.inf, "not finite"), (0.0, "all zeros")])
def test_bad_vector_of_the_teacher_is_named_and_not_stored(tmp_path, value, fault):
    teacher = FakeTeacher(faults={TEXTS[17]: value})
    store = TeacherVectors.open(tmp_path, teacher)
    with pytest.raises(TeacherVectorsError, match=f"text 'text 17 .* is {fault}"):
        store.ensure(TEXTS, shard_size=10, progress=False)
    assert len(shards(store)) == teacher.encoded.index(TEXTS[17]) // 10  # the shards before it
    store = TeacherVectors.open(tmp_path, FakeTeacher()).ensure(TEXTS, progress=False)
    np.testing.assert_array_equal(store.vectors(TEXTS), expected(TEXTS))


@pytest.mark.parametrize("value, fault", [(np.nan, "not finite"), (0.0, "all zeros")])
def test_bad_vector_in_the_store_is_named_before_training(tmp_path, value, fault):
    """Such as another version of this program may have left, whole and with the right hash."""
    store = TeacherVectors.open(tmp_path, FakeTeacher()).ensure(TEXTS[:40], shard_size=20, progress=False)
    records = np.load(shards(store)[1])
    row = int(np.flatnonzero(records["key"] == store._keys[np.isin(store._keys, records["key"])][0])[0])
    text = next(text for text in TEXTS[:40] if store._key_array([text])[0] == records["key"][row])
    records["vector"][row] = value
    buffer = io.BytesIO()
    np.save(buffer, records)
    shards(store)[1].unlink()
    bad = store.folder / f"shard-{hashlib.blake2b(buffer.getvalue(), digest_size=16).hexdigest()}.npy"
    bad.write_bytes(buffer.getvalue())

    store = TeacherVectors.open(tmp_path, FakeTeacher())
    for use in (lambda: store.ensure(TEXTS[:40], progress=False), lambda: store.rows(TEXTS[:40])):
        with pytest.raises(TeacherVectorsError) as error:
            use()
        for part in (str(bad), repr(text), fault, "Delete this file"):
            assert part in str(error.value)
    store.rows([other for other in TEXTS[:40] if other != text])  # the rest is usable

    bad.unlink()  # as the message says
    teacher = FakeTeacher()
    store = TeacherVectors.open(tmp_path, teacher).ensure(TEXTS[:40], progress=False)
    assert len(teacher.encoded) == 20
    np.testing.assert_array_equal(store.vectors(TEXTS[:40]), expected(TEXTS[:40]))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "renamed"])
def test_damaged_shard_is_named(tmp_path, damage):
    store = TeacherVectors.open(tmp_path, FakeTeacher()).ensure(TEXTS, shard_size=20, progress=False)
    shard = shards(store)[0]
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    damaged = {"truncated": content[:-30], "flipped": content, "empty": b"", "renamed": shards(store)[1].read_bytes()}
    shard.write_bytes(damaged[damage])
    with pytest.raises(TeacherVectorsError, match=f"{shard.name}: damaged.*Delete this file"):
        TeacherVectors.open(tmp_path, FakeTeacher())
    shard.unlink()
    store = TeacherVectors.open(tmp_path, FakeTeacher()).ensure(TEXTS, progress=False)
    np.testing.assert_array_equal(store.vectors(TEXTS), expected(TEXTS))


def test_nan_that_got_into_a_file_is_called_by_its_name(tmp_path):
    store = TeacherVectors.open(tmp_path, FakeTeacher()).ensure(TEXTS, shard_size=20, progress=False)
    shard = shards(store)[0]
    records = np.load(shard)
    records["vector"][7, 1] = np.nan
    np.save(shard, records)
    with pytest.raises(
        TeacherVectorsError, match=r"its name: vector 7 is not finite \(NaN or infinity\). Delete this"
    ):
        TeacherVectors.open(tmp_path, FakeTeacher())


def test_teacher_that_changes_its_dimension(tmp_path):
    TeacherVectors.open(tmp_path, FakeTeacher()).ensure(TEXTS[:3], progress=False)
    with pytest.raises(TeacherVectorsError, match="length 4, but .* has 6"):
        TeacherVectors.open(tmp_path, FakeTeacher(dimension=4)).ensure(TEXTS, progress=False)


def test_progress_goes_on_where_it_stopped(tmp_path, capsys):
    TeacherVectors.open(tmp_path, FakeTeacher()).ensure(TEXTS[:40], progress=False)
    capsys.readouterr()
    TeacherVectors.open(tmp_path, FakeTeacher()).ensure(TEXTS)
    shown = capsys.readouterr().err
    assert "40/50" in shown and "50/50" in shown and "texts/s" in shown
    with pytest.raises(ValueError, match="shard_size is 0"):
        TeacherVectors.open(tmp_path, FakeTeacher()).ensure(TEXTS, shard_size=0)
