# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""One run writes into a folder at a time, and whether anything can be written there is known at start."""

import os
import signal
import subprocess
import sys

import pytest

from unime.options import CommandError
from unime.output_folder import check_writable, only_writer

# Holds the folder, with a forked child that outlives it, as the workers of a data loader may.
HOLDER = """
import os, sys, time
from unime.output_folder import only_writer
with only_writer(sys.argv[1], "output_dir"):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


def hold(folder, repository) -> tuple[subprocess.Popen, int]:
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    return process, int(process.stdout.readline())


def test_a_second_run_is_refused_until_the_first_has_died(tmp_path, repository):
    process, child = hold(tmp_path / "out", repository)
    try:
        with pytest.raises(
            CommandError, match=f"output_dir .*out is in use by another run .process {process.pid} on "
        ):
            with only_writer(tmp_path / "out", "output_dir"):
                pytest.fail("two runs write there")
        with only_writer(tmp_path / "out", "output_dir", active=False):  # another process of the first run
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with only_writer(tmp_path / "out", "output_dir"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        process.kill()


def test_nothing_is_left_of_the_lock(tmp_path):
    with only_writer(tmp_path / "out", "output"):
        (tmp_path / "out" / "result").write_text("x")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["result"]
    with only_writer(tmp_path / "empty", "output"):
        pass
    assert not (tmp_path / "empty").exists()
    with only_writer(tmp_path / "out", "output"):  # and again
        pass
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["result"]


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    places = [tmp_path / "file", tmp_path / "file" / "below"]
    if sys.platform == "linux":
        places.append("/proc/out")  # read-only to root, too, who may run the tests
    for place in places:
        with pytest.raises(CommandError, match=f"output {place} cannot be written .*; choose another folder"):
            check_writable(place, "output")
        with pytest.raises(CommandError, match="cannot be written"):
            with only_writer(place, "output"):
                pytest.fail("it was begun")
    check_writable(tmp_path / "a" / "b", "output")
    assert not (tmp_path / "a").exists()
