# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A reader never meets half a file."""

import os
import subprocess
import sys
import time

import pytest

from unime.files import TEMPORARY_PREFIX, atomic_path, remove_unfinished, write_atomically


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


WRITER = """
import sys, time
from unime.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_bytes(b"half")
    print(temporary, flush=True)
    time.sleep(60)
"""


def test_a_clock_that_is_behind_deletes_no_file_of_a_living_writer(tmp_path, monkeypatch, repository):
    """Whether the file's time is behind or this machine's clock is ahead."""
    with atomic_path(tmp_path / "file") as own:
        own.write_bytes(b"half")
        os.utime(own, (time.time() - 7200,) * 2)
        remove_unfinished(tmp_path)
        own.write_bytes(b"whole")
    young = tmp_path / f"{TEMPORARY_PREFIX}00000000-1-of-another-machine"
    young.write_bytes(b"")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    remove_unfinished(tmp_path)
    assert young.exists() and (tmp_path / "file").read_bytes() == b"whole"
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", WRITER, str(tmp_path / "other")]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        temporary = writer.stdout.readline().strip()
        os.utime(temporary, (now - 7200,) * 2)
        remove_unfinished(tmp_path)
        assert os.path.exists(temporary)
    finally:
        writer.kill()
        writer.wait()
    remove_unfinished(tmp_path)
    assert not os.path.exists(temporary), "what a killed writer left stays for ever"
