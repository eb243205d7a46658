# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Launchers other than our own: a run in fewer processes than were asked for does not start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unime.launch import without_token

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: {kind}
use_cpu: true
num_processes: {processes}
num_machines: 1
machine_rank: 0
mixed_precision: 'no'
"""
SCRIPT = "from unime.distributed import check_world_size; check_world_size({expected}); print('starts')"


@pytest.mark.parametrize(
    "kind, processes, expected, starts",
    [("MULTI_CPU", 2, 0, False), ("MULTI_CPU", 2, 2, False), ("'NO'", 1, 0, True), ("MULTI_CPU", 2, 1, True)],
)
def test_accelerate_launch_that_starts_one_process_of_several(kind, processes, expected, starts, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG.format(kind=kind, processes=processes))
    (tmp_path / "run.py").write_text(SCRIPT.format(expected=expected))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "config.yaml")]
    names = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [*command, str(tmp_path / "run.py")],
        env=environment | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == starts == ("starts" in done.stdout)
    assert starts or "accelerate launch was asked for several processes and started one" in done.stderr


@pytest.mark.parametrize("words", [["--hub_token", "hf_x"], ["--hub_token=hf_x"], ["--hub-token", "hf_x"]])
def test_the_command_is_shown_without_the_token(words):
    shown = without_token(["python", "-m", "trainers.train_stage2", *words, "--seed", "1"])
    assert not any("hf_x" in word for word in shown) and shown[-2:] == ["--seed", "1"]
