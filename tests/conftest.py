# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Fixtures shared by all tests."""

import os

# Set before any import of the libraries that read it: no test may ask a hub for anything.
os.environ["HF_HUB_OFFLINE"] = "1"
# For the processes that tests start: what is compared with them here runs on one thread, too (below).
os.environ["OMP_NUM_THREADS"] = "1"

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

# Tiny models gain nothing from threads, and a process that is forked after they were used may wait for them for ever.
torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=3, help="how often test_kills.py kills its run")


def pytest_collection_modifyitems(items):
    """Skip what needs a GPU or the internet; both are absent where the tests usually run."""
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if "network" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs the internet"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder of reference cases beside the repository."""
    path = REPOSITORY.parent / "shared" / "golden"
    if not path.is_dir():
        pytest.skip("the golden reference cases (../shared/golden) are not on this machine")
    return path


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of small real data sets beside the repository."""
    path = REPOSITORY.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the real data sets (../shared/data) are not on this machine")
    return path


@pytest.fixture
def stub_hub():
    """A Hub on the loopback address, for processes that a test starts; see stub_hub.py."""
    from stub_hub import StubHub

    with StubHub() as hub:
        yield hub


@pytest.fixture(scope="session")
def backbones(tmp_path_factory) -> dict[str, Path]:
    """Folders of tiny random backbones, by family."""
    from tiny_models import BACKBONES

    root = tmp_path_factory.mktemp("backbones")
    return {family: make(root / family) for family, make in BACKBONES.items()}


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Three noise pictures of different shapes (width x height): 90 x 40, 30 x 100, 60 x 60."""
    rng = np.random.default_rng(0)
    sizes = [(40, 90), (100, 30), (60, 60)]
    return [Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]
