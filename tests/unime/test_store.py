# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Finished work is read and not done again; other work never reads it; damage is said."""

import numpy as np
import pytest

from unime.store import Store, StoreError, digest, key_of

KEYS = [key_of(number) for number in range(7)]
ORDER, PIECES = [6, 0, 3, 1, 2, 4, 5], [[6, 0], [3, 1], [2, 4], [5]]


def values_of(numbers) -> np.ndarray:
    return np.array([[number, -number] for number in numbers], np.float32)


def test_only_what_is_missing_is_computed(tmp_path):
    calls = []

    def compute(numbers):
        calls.append(list(numbers))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return values_of(numbers)

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).ensure(KEYS, ORDER, 2, compute, "things")
    store = Store(tmp_path)
    store.ensure(KEYS, ORDER, 2, compute, "things")
    assert calls == [*PIECES[:3], *PIECES[2:]] and store.counts == {"found": 4, "computed": 3}
    np.testing.assert_array_equal(store.read(KEYS[::-1]), values_of(range(6, -1, -1)))
    assert not list(store.folder.glob(".unfinished*"))
    Store(tmp_path, "other").ensure(KEYS, ORDER, 2, compute, "things")
    assert calls[5:] == PIECES, "what depends on something else has a folder of its own"

    unbroken = Store(tmp_path / "unbroken")
    unbroken.ensure(KEYS, ORDER, 2, values_of, "things")
    assert {path.name for path in unbroken.folder.iterdir()} == {path.name for path in store.folder.iterdir()}


@pytest.mark.parametrize("spread, pieces", [(False, [[6, 0], [3, 4]]), (True, [[0, 4], [6, 3]])])
def test_what_other_work_has_left_of_pieces_goes_together(tmp_path, spread, pieces):
    Store(tmp_path).write([KEYS[number] for number in (1, 2, 5)], values_of((1, 2, 5)))
    calls = []
    store = Store(tmp_path)
    store.ensure(KEYS, ORDER, 2, lambda part: calls.append(list(part)) or values_of(part), "things", spread)
    assert calls == pieces and store.counts == {"found": 3, "computed": 4}
    np.testing.assert_array_equal(store.read(KEYS), values_of(range(7)))


def test_in_memory():
    store = Store()
    for _ in range(2):
        store.ensure(KEYS, ORDER, 2, values_of, "things")
    assert store.counts == {"found": 7, "computed": 7}
    np.testing.assert_array_equal(store.read(KEYS[::-1]), values_of(range(6, -1, -1)))


def test_digest_tells_parts_apart():
    parts = [(), ("ab",), ("a", "b"), (b"ab",), (["a", "b"],), ([1, "b"],), (None,), (0,), (0.0,)]
    assert len({digest(*part) for part in parts}) == len(parts)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_damage_and_another_shape_are_named(tmp_path):
    store = Store(tmp_path)
    store.write(KEYS[:2], values_of(range(2)))
    (file,) = store.folder.iterdir()
    content = file.read_bytes()
    assert content.count(b"\x80\x3f") == 1, "a one among the values"
    for damaged in (content.replace(b"\x80\x3f", b"\x80\x40"), content[:150], content[:20], b""):
        file.write_bytes(damaged)
        with pytest.raises(StoreError, match=f"{file.name} is damaged.*; delete it, and it is computed again"):
            Store(tmp_path).read(KEYS[:2])
    file.write_bytes(content)
    with pytest.raises(StoreError, match="lacks a value that was written: all processes must see the same folder"):
        store.read(KEYS[:3])
    store.write(KEYS[2:3], np.ones((1, 3), np.float32))
    with pytest.raises(StoreError, match=r"holds values of shape \(.,\), where others have \(.,\); delete it"):
        store.read(KEYS[:3])
