# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder of reference cases beside the repository."""
    path = REPOSITORY.parent / "shared" / "golden"
    if not path.is_dir():
        pytest.skip("the golden reference cases (../shared/golden) are not on this machine")
    return path
