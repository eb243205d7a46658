# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""CLIP trained by the command of stage 2: chunked and two-rank runs equal a plain one; resumed runs, an unbroken one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import make_clip, write_pairs
from transformers import CLIPModel

import trainers.train_stage1
import trainers.train_stage2

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip_training")
    make_clip(path / "clip")
    file = write_pairs(path)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows:  # images without a word, so that the last chunk of a batch has nothing for the tower of texts
        row["pos_text"] = "" if row["pos_image_path"] else row["pos_text"]
        row["qry"] = "<|image_1|>" if row["qry_image_path"] else row["qry"]
    file.write_text("\n".join(map(json.dumps, rows)))
    return path


def command(folder, output, **options):
    options = {
        "model": folder / "clip",
        "data": folder / "train_pairs.jsonl",
        "output_dir": output,
        "lora_rank": 0,
        "loss_type": "info_nce",
        "temperature": 0.1,
        "per_device_train_batch_size": 16,
        "max_steps": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_steps": 2,
        "use_cpu": True,
        "disable_tqdm": True,
        **options,
    }
    return [f"--{name}={value}" for name, value in options.items()]


def history(output):
    record = json.loads((output / "training_record.json").read_text())
    return [entry for entry in record["log_history"] if "loss" in entry], record


def assert_same_history(first, second):
    assert len(first) == len(second) == 4
    for a, b in zip(first, second, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], abs=1e-5)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3) and a["grad_norm"] > 1e-3


@pytest.fixture(scope="module")
def plain(folder):
    trainers.train_stage2.main(command(folder, folder / "plain"))
    return folder / "plain"


def test_both_towers_are_trained_and_the_folder_is_plain_clip(folder, plain):
    before, after = CLIPModel.from_pretrained(folder / "clip"), CLIPModel.from_pretrained(plain)
    assert json.loads((plain / "config.json").read_text())["architectures"] == ["CLIPModel"]
    changed = {name for name, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    assert {"text_projection.weight", "visual_projection.weight"} < changed and "logit_scale" not in changed
    assert any(name.startswith("vision_model.encoder") for name in changed)
    entries, record = history(plain)
    assert entries[-1]["loss"] < entries[0]["loss"] and record["steps"] == 4
    assert entries[0]["distinct_inputs"] < entries[0]["effective_batch"] + entries[0]["candidates"]


def test_chunked_run_equals_plain_run(folder, plain):
    trainers.train_stage2.main(command(folder, folder / "chunked", gradient_cache_chunk_size=5))
    assert_same_history(history(plain)[0], history(folder / "chunked")[0])


def test_two_ranks_equal_one_process(folder, plain):
    """The last chunk has images only; torch is not asked to look out for a tower without input."""
    options = command(folder, folder / "ranks", per_device_train_batch_size=8, gradient_cache_chunk_size=3)
    options.append("--ddp_find_unused_parameters=False")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launcher += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", "-m", "trainers.train_stage2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, *options], check=True, env=environment, timeout=300, cwd=ROOT)
    entries, record = history(folder / "ranks")
    assert record["world_size"] == 2
    assert_same_history(history(plain)[0], entries)


def test_resumed_run_equals_unbroken_run(folder, plain):
    resumed = folder / "resumed"
    shutil.copytree(plain, resumed)
    for name in ("training_record.json", "model.safetensors"):
        (resumed / name).unlink()
    shutil.rmtree(resumed / "checkpoint-4")
    trainers.train_stage2.main(command(folder, resumed))
    assert_same_history(history(plain)[0], history(resumed)[0])
    weights = load_file(plain / "model.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in load_file(resumed / "model.safetensors").items())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"lora_rank": 16}, "set lora_rank to 0"),
        ({"image_resolution": 336}, "no choice of image_resolution"),
        ({"attention": "bidirectional"}, "no choice of attention"),
    ],
)
def test_options_that_mean_nothing_to_clip_are_refused_before_anything_is_written(folder, tmp_path, option, message):
    with pytest.raises(ValueError, match=message):
        trainers.train_stage2.main(command(folder, tmp_path / "out", **option))
    assert not (tmp_path / "out").exists()


def test_stage1_refuses_clip(folder, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"sent0": "a"}\n{"sent0": "b"}\n')
    options = [
        f"--model={folder / 'clip'}",
        f"--texts={tmp_path / 'texts.jsonl'}::sent0",
        f"--teacher={tmp_path / 't.parquet'}",
    ]
    options.append("--per_device_train_batch_size=2")
    (tmp_path / "t.parquet").touch()
    with pytest.raises(ValueError, match="clip"):
        trainers.train_stage1.main([*options, f"--output_dir={tmp_path / 'out'}", "--use_cpu=True"])
