# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Teacher vectors survive what happens to long runs: second writers, failing disks, bad numbers. For kills
see test_encoding_in_ranks.py.
"""

import numpy as np
import pytest
from tiny_teachers import FakeTeacher, expected

from trainers.teachers import vectors as module
from trainers.teachers.vectors import teacher_vectors
from unime.store import Store, key_of

TEXTS = [f"text {number}" + " word" * (number % 7) for number in range(50)]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(module, "SHARD_SIZE", 16)


def pieces(folder):
    return sorted(folder.glob("*/*.safetensors"))


def without_arrays(folder):
    for file in folder.glob("*/*.npy"):
        file.unlink()


def test_each_text_is_computed_once_and_row_i_is_vector_i(tmp_path):
    teacher = FakeTeacher()
    vectors = teacher_vectors(TEXTS, teacher, tmp_path)
    assert isinstance(vectors, np.memmap) and vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, expected(TEXTS))
    assert sorted(teacher.encoded) == sorted(TEXTS) and teacher.unloaded == 1 and len(pieces(tmp_path)) == 4
    first, second = teacher.encoded[:13], teacher.encoded[13:26]
    assert [len(text) for text in first] == sorted(map(len, first), reverse=True)
    assert abs(sum(map(len, first)) - sum(map(len, second))) <= max(map(len, TEXTS)), "pieces take equally long"

    again = FakeTeacher()
    vectors = teacher_vectors(["new", *TEXTS[::-1]], again, tmp_path)
    assert again.encoded == ["new"]
    np.testing.assert_array_equal(vectors, expected(["new", *TEXTS[::-1]]))


def test_what_is_there_needs_no_weights(tmp_path):
    teacher_vectors(TEXTS, FakeTeacher(), tmp_path)
    idle = FakeTeacher(on_encode=lambda texts: pytest.fail("nothing is missing"))
    for texts in (TEXTS, TEXTS[5:9]):
        np.testing.assert_array_equal(teacher_vectors(texts, idle, tmp_path), expected(texts))


def test_teachers_do_not_mix(tmp_path):
    teacher_vectors(TEXTS, FakeTeacher("one"), tmp_path)
    other = FakeTeacher("two", dimension=3)
    assert teacher_vectors(TEXTS, other, tmp_path).shape == (50, 3) and len(other.encoded) == 50
    assert {file.read_text() for file in tmp_path.glob("*/teacher.json")} == {"one", "two"}


def test_a_teacher_without_a_fingerprint_leaves_nothing_on_disk(tmp_path):
    class Encoder:
        def encode(self, texts):
            return expected(texts)

    np.testing.assert_array_equal(teacher_vectors(TEXTS, Encoder(), tmp_path / "cache"), expected(TEXTS))
    assert not (tmp_path / "cache").exists()
    with pytest.raises(TypeError, match="teacher is a int; give a model"):
        teacher_vectors(TEXTS, 5, tmp_path)


def test_two_writers_at_once(tmp_path):
    teacher_vectors(TEXTS[:30], FakeTeacher(), tmp_path)
    others = TEXTS[25:35]  # the other writer could not know of those that were there
    Store(tmp_path, "fake").write([key_of(text) for text in others], expected(others))
    teacher = FakeTeacher()
    np.testing.assert_array_equal(teacher_vectors(TEXTS, teacher, tmp_path), expected(TEXTS))
    assert len(teacher.encoded) == 15


@pytest.mark.parametrize("value, fault", [(np.nan, "not finite"), (np.inf, "not finite"), (0.0, "all zeros")])
def test_bad_vector_of_the_teacher_is_named_and_not_stored(tmp_path, value, fault):
    teacher = FakeTeacher(faults={TEXTS[17]: value})
    with pytest.raises(ValueError, match=f"text 'text 17.* is {fault}"):
        teacher_vectors(TEXTS, teacher, tmp_path)
    before = teacher.encoded.index(TEXTS[17]) // 13
    assert before > 0 and len(pieces(tmp_path)) == before, "the pieces before it"
    np.testing.assert_array_equal(teacher_vectors(TEXTS, FakeTeacher(), tmp_path), expected(TEXTS))


def test_another_number_or_length_of_vectors_is_refused(tmp_path):
    class Short(FakeTeacher):
        def encode(self, texts):
            return super().encode(texts)[1:]

    with pytest.raises(ValueError, match=r"the teacher gave an array \(12, 6\) for 13 texts"):
        teacher_vectors(TEXTS, Short(), tmp_path / "a")
    teacher_vectors(TEXTS[:3], FakeTeacher(), tmp_path / "b")
    with pytest.raises(ValueError, match=r"holds values of shape \(.,\), where others have"):
        teacher_vectors(TEXTS, FakeTeacher(dimension=4), tmp_path / "b")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_piece_is_named(tmp_path, damage):
    teacher_vectors(TEXTS, FakeTeacher(dimension=64), tmp_path)
    without_arrays(tmp_path)
    piece = pieces(tmp_path)[0]
    content = bytearray(piece.read_bytes())
    content[len(content) // 2] ^= 1
    piece.write_bytes({"truncated": content[:-30], "flipped": content, "empty": b""}[damage])
    with pytest.raises(ValueError, match=f"{piece.name} is damaged.*; delete it"):
        teacher_vectors(TEXTS, FakeTeacher(dimension=64), tmp_path)
    piece.unlink()  # as the message says
    teacher = FakeTeacher(dimension=64)
    vectors = teacher_vectors(TEXTS, teacher, tmp_path)
    assert len(teacher.encoded) in (12, 13)
    np.testing.assert_array_equal(vectors, FakeTeacher(dimension=64).encode(TEXTS))


@pytest.mark.parametrize("damage", ["truncated", "nan", "empty", "shorter"])
def test_damaged_array_is_made_again(tmp_path, damage):
    teacher_vectors(TEXTS, FakeTeacher(), tmp_path)
    (array,) = tmp_path.glob("*/*.npy")
    vectors = np.load(array)
    vectors[7, 1] = np.nan
    np.save(array, vectors if damage == "nan" else expected(TEXTS[:-1]))
    content = array.read_bytes()
    if damage in ("truncated", "empty"):
        array.write_bytes(content[:-30] if damage == "truncated" else b"")
    idle = FakeTeacher(on_encode=lambda texts: pytest.fail("nothing is missing"))
    np.testing.assert_array_equal(teacher_vectors(TEXTS, idle, tmp_path), expected(TEXTS))
