# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A reader never meets half a file."""

import os
import time

import pytest

from trainers.data.atomic import TEMPORARY_PREFIX, remove_unfinished, write_atomically


def test_file_is_written_with_its_folder(tmp_path):
    path = write_atomically(tmp_path / "deep" / "file.bin", lambda file: file.write(b"abc"))
    assert path.read_bytes() == b"abc"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_failed_writer_leaves_the_old_content(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def write_half(file):
        file.write(b"ne")
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk is full"):
        write_atomically(path, write_half)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_only_old_leftovers_are_removed(tmp_path):
    old, young = tmp_path / f"{TEMPORARY_PREFIX}old", tmp_path / f"{TEMPORARY_PREFIX}young"
    for file in (old, young):
        file.write_bytes(b"")
    os.utime(old, (time.time() - 7200,) * 2)
    remove_unfinished(tmp_path)
    assert [young] == list(tmp_path.iterdir())
