# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""One rank or several encode: each text once, evenly dealt, and a killed rank loses its running shard at most.

The ranks are forked from the test's process, which has imported everything: a round takes a fraction of a second.
"""

import multiprocessing
import random
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from tiny_teachers import FakeTeacher, expected

from trainers.teachers import vectors as module
from trainers.teachers.vectors import teacher_vectors
from unime.store import Store, key_of

SHARD = 8
TEXTS = [f"{number}{' word' * (number * 7 % 31)}" for number in range(900)]
KEYS = [key_of(text) for text in TEXTS]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(module, "SHARD_SIZE", SHARD)


def run_rank(rank: int, size: int, folder: Path, seconds: float, faults: dict) -> None:
    """One rank: encode, noting the texts in a file of its own; then check that it reads the vectors of all."""

    def on_encode(texts):
        time.sleep(seconds)
        with open(folder / f"rank-{rank}.log", "a") as log:
            log.writelines(f"{text}\n" for text in texts)

    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=size)
    vectors = teacher_vectors(TEXTS, FakeTeacher(on_encode=on_encode, faults=faults), folder / "cache")
    np.testing.assert_array_equal(vectors, expected(TEXTS))
    dist.destroy_process_group()


def start_ranks(size: int, folder: Path, seconds: float = 0.0, faults: dict | None = None):
    (folder / "meeting").unlink(missing_ok=True)
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=run_rank, args=(rank, size, folder, seconds, faults or {})) for rank in range(size)
    ]
    for process in ranks:
        process.start()
    return ranks


def wait(ranks, seconds: float = 60) -> list[int]:
    """Exit codes."""
    end = time.monotonic() + seconds
    for process in ranks:
        process.join(max(0, end - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in ranks]


def encoded(folder: Path) -> list[list[str]]:
    return [file.read_text().splitlines() for file in sorted(folder.glob("rank-*.log"))]


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_the_work_evenly(tmp_path, size):
    assert wait(start_ranks(size, tmp_path)) == [0] * size
    shares = encoded(tmp_path)
    assert len(shares) == size and sorted(sum(shares, [])) == sorted(TEXTS), "each text once"
    teacher_vectors(TEXTS, FakeTeacher(), tmp_path / "alone")
    files = [{file.name for file in (tmp_path / name).glob("*/*.safetensors")} for name in ("alone", "cache")]
    assert files[0] == files[1], "the same pieces, bit for bit, whatever the number of ranks"
    assert max(map(len, shares)) - min(map(len, shares)) <= SHARD
    letters = [sum(map(len, share)) for share in shares]
    assert max(letters) - min(letters) <= 1.2 * sum(letters) / len(TEXTS) * SHARD, "as much to read, not only as many"


def test_a_rank_that_fails_ends_the_others(tmp_path):
    started = time.monotonic()
    codes = wait(start_ranks(2, tmp_path, faults={max(TEXTS, key=len): np.nan}), seconds=30)
    assert codes == [1, 1] and time.monotonic() - started < 25, "nobody waits for ever"


@pytest.mark.parametrize("size", [1, 2])
def test_killed_again_and_again(tmp_path, size):
    def stored() -> set[str]:
        return {file.name for file in (tmp_path / "cache").glob("*/*.safetensors")}

    rng = random.Random(0)
    known = stored()
    progress, killed = [0], Counter()
    victims = [(0,), (size - 1,), range(size)] * 2
    for number, numbers in enumerate(victims):
        ranks = start_ranks(size, tmp_path, seconds=0.3)  # slow: on a busy machine a kill comes late
        end = time.monotonic() + 60
        while number % 3 and stored() == known and time.monotonic() < end:  # but twice perhaps before anything is done
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        for rank in numbers:
            ranks[rank].kill()
        time.sleep(rng.uniform(0, 0.05))
        for process in ranks:
            process.terminate()  # as torchrun ends the others
        killed.update(wait(ranks))
        assert known <= stored(), "what was stored stays"
        known = stored()
        progress.append(len(TEXTS) - len(Store(tmp_path / "cache", "fake").missing(KEYS)))  # no file is half-written
    assert killed[-signal.SIGKILL] == sum(map(len, victims)) and killed[0] == 0, "no run may have ended by itself"
    assert progress == sorted(progress) and len(set(progress)) > 4 and progress[-1] < len(TEXTS)

    assert wait(start_ranks(size, tmp_path)) == [0] * size
    shares = encoded(tmp_path)
    assert set(sum(shares, [])) == set(TEXTS)
    assert len(sum(shares, [])) - len(TEXTS) <= len(victims) * size * SHARD, "a kill costs each rank one shard at most"
