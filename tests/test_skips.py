# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A test that is left out is listed with its reason; under CI only a GPU, the network or ../shared are reasons."""

import os
import shutil
import subprocess
import sys

import pytest

TESTS = """
import pytest

@pytest.mark.skip(reason="the real data sets (../shared/data) are not on this machine")
def test_without_data(): pass

@pytest.mark.network
def test_network(): pass

{more}
"""
FORBIDDEN = """
def test_without_a_package(): pytest.importorskip("no_such_package")
"""


@pytest.mark.parametrize("more, workers, code", [(FORBIDDEN, "2", 1), ("", "0", 0)])
def test_reasons_for_leaving_tests_out(more, workers, code, tmp_path, repository):
    for name in ("conftest.py", "fork_server.py"):
        shutil.copyfile(repository / "tests" / name, tmp_path / name)
    shutil.copyfile(repository / "pyproject.toml", tmp_path / "pyproject.toml")
    (tmp_path / "test_some.py").write_text(TESTS.format(more=more))
    command = [sys.executable, "-m", "pytest", "-n", workers, "test_some.py"]
    environment = {**os.environ, "CI": "true"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert "1: the real data sets (../shared/data) are not on this machine\n    test_some.py" in done.stdout
    assert "1: needs the internet" in done.stdout
    named = "no reason to leave a test out under CI: could not import 'no_such_package'"
    assert (named in done.stdout) == bool(more)
    assert done.returncode == code, done.stdout
