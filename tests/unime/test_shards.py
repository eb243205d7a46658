# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Finished work is read and not done again; other options never read it; damage is said."""

import numpy as np
import pytest

from unime.shards import ShardError, Shards, digest


def test_only_what_is_missing_is_computed(tmp_path):
    calls = []

    def compute(number):
        calls.append(number)
        if number == 2 and len(calls) == 3:
            raise KeyboardInterrupt
        return {"a": np.arange(number), "b": np.full((2, 3), number, np.float32)}

    keys = [digest("x", number) for number in range(4)]
    with pytest.raises(KeyboardInterrupt):
        Shards(tmp_path).ensure("things", keys, compute)
    shards = Shards(tmp_path)
    shards.ensure("things", keys, compute)
    assert calls == [0, 1, 2, 2, 3]
    assert shards.counts == {"things": {"found": 2, "computed": 2}}
    read = list(shards.read("things", keys))
    assert [arrays["a"].tolist() for arrays in read] == [[], [0], [0, 1], [0, 1, 2]]
    assert read[3]["b"].dtype == np.float32 and read[3]["b"].shape == (2, 3)
    assert not list(tmp_path.glob(".unfinished*"))
    shards.ensure("others", keys[:1], compute)
    assert calls[-1] == 0 and len(calls) == 6, "another kind has its own files"


def test_digest_tells_parts_apart():
    parts = [(), ("ab",), ("a", "b"), (b"ab",), (["a", "b"],), ([1, "b"],), (None,), (0,), (0.0,)]
    assert len({digest(*part) for part in parts}) == len(parts)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_damage_is_named(tmp_path):
    shards = Shards(tmp_path)
    shards.ensure("things", ["key"], lambda number: {"a": np.arange(100)})
    file = shards.path("things", "key")
    content = bytearray(file.read_bytes())
    content[300] ^= 255
    for damaged in (bytes(content), bytes(content[:200]), b""):
        file.write_bytes(damaged)
        with pytest.raises(ShardError, match="things-key.npz is damaged .*; delete it, and it is computed again"):
            list(shards.read("things", ["key"]))
