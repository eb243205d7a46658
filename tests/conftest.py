# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Fixtures shared by all tests."""

import io
import os

# Set before any import of the libraries that read it: no test may ask a hub for anything.
os.environ["HF_HUB_OFFLINE"] = "1"
# For the processes that tests start: what is compared with them here runs on one thread, too (below).
os.environ["OMP_NUM_THREADS"] = "1"

from pathlib import Path

import fork_server
import numpy as np
import pytest
import torch
from PIL import Image

fork_server.install()

# Tiny models gain nothing from threads, and a process that is forked after they were used may wait for them for ever.
torch.set_num_threads(1)

# A test that is left out for another reason is a test that nobody runs: under CI it ends the session with a failure.
SKIPS_THAT_MAY_BE = ("needs a CUDA device", "needs the internet", "../shared", "the extra real")
REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=3, help="how often test_kills.py kills its run")


def pytest_collection_modifyitems(items):
    """Begin with slow files, so that none keeps one process busy at the end; skip what needs a GPU or the internet."""
    slow = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
        if "network" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs the internet"))


def skips(config) -> dict[str, list[str]]:
    """Tests that were skipped in this session, by the reason; with xdist, known to the controlling process only."""
    found: dict[str, list[str]] = {}
    for report in config.pluginmanager.get_plugin("terminalreporter").stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        found.setdefault(reason.removeprefix("Skipped: "), []).append(report.nodeid)
    return found


def forbidden_skips(config) -> list[str]:
    """The reasons that are not among those that may be."""
    return [reason for reason in skips(config) if not any(allowed in reason for allowed in SKIPS_THAT_MAY_BE)]


def pytest_terminal_summary(terminalreporter):
    """List what was left out, and why."""
    found = skips(terminalreporter.config)
    if found:
        terminalreporter.section("not run")
    for reason, tests in found.items():
        terminalreporter.line(f"{len(tests)}: {reason}")
        for test in tests:
            terminalreporter.line(f"    {test}")
    for reason in forbidden_skips(terminalreporter.config):
        terminalreporter.line(f"no reason to leave a test out under CI: {reason}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Fail under CI when a test was skipped for want of a package or the like."""
    is_controller = not hasattr(session.config, "workerinput")
    if os.environ.get("CI") == "true" and is_controller and forbidden_skips(session.config):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


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


@pytest.fixture
def write_image(tmp_path):
    """Write a picture of one colour; equal colours give equal bytes."""

    def write(name: str, colour: str = "red", folder: Path = tmp_path) -> str:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        Image.new("RGB", (8, 6), colour).save(buffer, "PNG")
        path.write_bytes(buffer.getvalue())
        return name

    return write
