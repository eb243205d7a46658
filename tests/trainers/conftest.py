# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Fixtures of the tests that train."""

from pathlib import Path

import pytest
from tiny_models import write_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the rows of `write_pairs` and their images."""
    return write_pairs(tmp_path_factory.mktemp("pairs")).parent
