# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Vectors computed ahead, by one process or two, are those of the training, which then computes none."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tiny_teachers import make_nv_embed

import trainers.encode_teacher
import trainers.train_stage1
from trainers.teachers import NVEmbedTeacher, TeacherVectors
from unime.launch import build_command

RECIPE = Path(__file__).resolve().parents[2] / "examples" / "recipes" / "tiny-cpu" / "stage1.yaml"
TEXTS = [f"{'word ' * (number * 7 % 23)}{number}" for number in range(101)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A teacher, and texts."""
    path = tmp_path_factory.mktemp("encode")
    make_nv_embed(path / "teacher")
    (path / "texts.jsonl").write_text("\n".join(json.dumps({"sent0": text}) for text in TEXTS))
    return path


def options(folder: Path, cache: str, *more: str) -> list[str]:
    texts = f"{folder / 'texts.jsonl'}::sent0"
    named = ["--texts", texts, "--teacher", str(folder / "teacher"), "--teacher_cache", str(folder / cache)]
    return [str(RECIPE), *named, "--teacher_device", "cpu", "--teacher_prompt", "Do: ", *more]


def vectors(folder: Path, cache: str) -> np.ndarray:
    teacher = NVEmbedTeacher(str(folder / "teacher"), prompt="Do: ", device="cpu")
    return TeacherVectors.open(folder / cache, teacher).vectors(TEXTS)


def test_training_finds_everything_computed(folder, backbones, capsys, monkeypatch):
    trainers.encode_teacher.main(options(folder, "cache"))
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "cache")
    trainers.encode_teacher.main(options(folder, "cache", "--parquet", str(folder / "shared.parquet")))
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "shared.parquet")
    direct = NVEmbedTeacher(str(folder / "teacher"), prompt="Do: ", device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors(folder, "cache"), direct, atol=1e-6)

    monkeypatch.setattr(NVEmbedTeacher, "_load", lambda self: pytest.fail("the teacher's weights are not needed"))
    more = ["--model", str(backbones["llava_next"]), "--max_steps", "2", "--per_device_train_batch_size", "8"]
    more += ["--logging_steps", "1", "--report_to", "none", "--disable_tqdm", "True"]
    losses = []
    for arguments in (
        options(folder, "cache"),
        [*options(folder, "other"), "--teacher_prompt", "", "--teacher", str(folder / "shared.parquet")],
    ):
        output = folder / f"run-{len(losses)}"
        trainers.train_stage1.main([*arguments, *more, "--output_dir", str(output)])
        history = json.loads((output / "training_record.json").read_text())["log_history"]
        losses.append([entry["loss"] for entry in history if "loss" in entry])
    assert len(losses[0]) == 2 and losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_two_processes_compute_what_one_computes(folder):
    trainers.encode_teacher.main(options(folder, "one"))
    launched = ["--nproc_per_node", "2", "--teacher_batch_size", "16"]
    command = build_command(["encode_teacher", *options(folder, "two"), *launched], gpus=0)
    assert command[-2:] == ["--expected_world_size", "2"], "the command itself makes sure that two run"
    at = command.index("--master_port")
    command[at - 2 : at + 2] = ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]  # a port that is free
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=RECIPE.parents[3], env=environment, timeout=300, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [str(folder / "two")], "one process prints"
    shards = [np.load(file) for file in (folder / "two").glob("*/shard-*.npy")]
    assert sorted(map(len, shards)) == [50, 51]
    difference = np.abs(vectors(folder, "two") - vectors(folder, "one")).max()
    assert difference < 1e-6


def test_what_cannot_be_done_is_said_at_once(folder, tmp_path):
    texts = ["--texts", str(tmp_path / "absent.jsonl")]
    with pytest.raises(ValueError, match="teacher_cache is not given"):
        trainers.encode_teacher.main(texts)
    with pytest.raises(ValueError, match="v.npy holds vectors already"):
        trainers.encode_teacher.main([*texts, "--teacher", "v.npy", "--teacher_cache", str(tmp_path)])
    with pytest.raises(RuntimeError, match="expected_world_size is 2, but 1 process"):
        trainers.encode_teacher.main(options(folder, "cache", "--expected_world_size", "2"))


def test_unknown_recipe_key_is_named(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("learning_rate: 1.0\nteachr: x\n")
    with pytest.raises(SystemExit):
        trainers.encode_teacher.main([str(tmp_path / "recipe.yaml")])
    assert "unknown option 'teachr'; did you mean 'teacher'?" in capsys.readouterr().err
