# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The public names are where they are said to be, and asking for one imports no more than it needs."""

import subprocess
import sys

import pytest

import unime


@pytest.mark.parametrize("name", unime.__all__)
def test_every_public_name_is_there(name):
    assert getattr(unime, name).__name__ == name
    assert getattr(unime, name).__doc__


def test_a_loss_needs_no_trainer(repository):
    code = (
        "import sys, unime; unime.InfoNCELoss(); print([n for n in ('transformers', 'datasets') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="'unime' has no attribute 'Nothing'"):
        unime.Nothing  # noqa: B018
