# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Large files are read once, and again whenever they may have changed."""

import hashlib
import os

import pytest

from unime import files as module
from unime.files import file_digest, remembered_digest


@pytest.fixture
def reads(tmp_path, monkeypatch) -> list:
    """What was read; every file counts as large."""
    made, real = [], module.file_digest
    monkeypatch.setattr(module, "REMEMBERED_FROM", 0)
    monkeypatch.setattr(module, "DIGESTS", tmp_path / "memory")
    monkeypatch.setattr(module, "file_digest", lambda path: made.append(path) or real(path))
    return made


def test_read_once_until_it_changes(tmp_path, reads):
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(5000))
    os.utime(file, (1e9, 1e9))
    assert remembered_digest(file) == remembered_digest(file) == hashlib.sha256(bytes(5000)).hexdigest()
    assert len(reads) == 1
    changed = bytes(2500) + b"\x01" + bytes(2499)
    with open(file, "r+b") as opened:
        opened.write(changed)
    os.utime(file, (1e9, 1e9))  # as a copy that keeps times would have it
    assert remembered_digest(file) == hashlib.sha256(changed).hexdigest()
    assert len(reads) == 2


def test_a_file_written_just_now_is_not_remembered(tmp_path, reads):
    (tmp_path / "x").write_bytes(b"abc")
    remembered_digest(tmp_path / "x")
    remembered_digest(tmp_path / "x")
    assert len(reads) == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"file": 1}'])
def test_a_damaged_memory_is_made_anew(tmp_path, reads, content):
    (tmp_path / "x").write_bytes(b"abc")
    os.utime(tmp_path / "x", (1e9, 1e9))
    remembered_digest(tmp_path / "x")
    next((tmp_path / "memory").iterdir()).write_text(content)
    assert remembered_digest(tmp_path / "x").startswith("ba7816bf")


def test_where_nothing_can_be_remembered_it_is_read_each_time(tmp_path, reads, monkeypatch):
    (tmp_path / "memory").write_text("a file")
    (tmp_path / "x").write_bytes(b"abc")
    os.utime(tmp_path / "x", (1e9, 1e9))
    assert remembered_digest(tmp_path / "x") == remembered_digest(tmp_path / "x")
    assert len(reads) == 2


def test_file_digest(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x").startswith("ba7816bf")
