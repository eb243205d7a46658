# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A reader never meets half a file."""

import os
import time

import pytest

from evaluation.atomic import TEMPORARY_PREFIX, remove_unfinished, write_atomically


def test_file_is_written_with_its_folder(tmp_path):
    path = write_atomically(tmp_path / "deep" / "file.bin", b"abc")
    assert path.read_bytes() == b"abc"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_failed_writer_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")

    def fail(descriptor):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk is full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.bin"]


def test_only_old_leftovers_are_removed(tmp_path):
    old, young = tmp_path / f"{TEMPORARY_PREFIX}old", tmp_path / f"{TEMPORARY_PREFIX}young"
    for file in (old, young):
        file.write_bytes(b"")
    os.utime(old, (time.time() - 7200,) * 2)
    remove_unfinished(tmp_path)
    assert [young] == list(tmp_path.iterdir())
