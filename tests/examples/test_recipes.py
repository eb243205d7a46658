# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Every recipe holds options that exist, with values of the right kind."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from evaluation.command_line import parse_dataclasses
from trainers.distillation_config import DistillationConfig
from trainers.hard_negative_config import HardNegativeConfig
from trainers.launch import build_command
from trainers.run import ModelArguments
from trainers.teacher_arguments import TeacherArguments
from trainers.train_stage1 import Stage1Arguments
from trainers.train_stage2 import Stage2Arguments

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "recipes"
CLASSES = {
    "stage1": (ModelArguments, Stage1Arguments, TeacherArguments, DistillationConfig),
    "stage2": (ModelArguments, Stage2Arguments, HardNegativeConfig),
}


OTHER_KINDS = ("backbone",)  # read by examples.tiny_backbone, and tested with it


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(RECIPES.glob("*/*.yaml")) if path.stem not in OTHER_KINDS],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_recipe_is_read(path, tmp_path):
    content = yaml.safe_load(path.read_text())
    stage = "stage1" if "stage1" in path.stem else "stage2"
    required = ["--texts", "t.csv"] if stage == "stage1" else ["--data", "d.jsonl"]
    if "model" not in content:
        required += ["--model", "m"]
    # What this machine lacks is switched off; names and types are checked all the same.
    off = ["--deepspeed=", "--fsdp=", "--bf16=False", "--fp16=False", "--use_cpu=True", f"--output_dir={tmp_path}"]
    arguments = parse_dataclasses(CLASSES[stage], [str(path), *required, *off])
    values = {entry.name: getattr(group, entry.name) for group in arguments for entry in fields(group)}
    for name, value in content.items():
        if name not in ("deepspeed", "fsdp", "bf16", "fp16", "report_to"):
            assert values[name] == value, name
    if "deepspeed" in content:
        assert (RECIPES.parents[1] / content["deepspeed"]).is_file()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*-*/e5v_stage1.yaml")), ids=lambda path: path.parent.name)
def test_baseline_sees_as_many_rows_as_e5v(path):
    content = yaml.safe_load(path.read_text())
    assert content["loss_type"] == "contrastive" and content["temperature"] == 0.05
    if content.get("expected_world_size"):
        assert content["expected_world_size"] * content["per_device_train_batch_size"] == 768


@pytest.mark.parametrize(
    "path",
    [path for name in ("stage2", "stage2_v2", "vlm2vec") for path in sorted(RECIPES.glob(f"*-*/{name}.yaml"))],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_stage2_batch_is_the_papers(path):
    content = yaml.safe_load(path.read_text())
    if content.get("expected_world_size"):
        assert content["expected_world_size"] * content["per_device_train_batch_size"] == 1024


def test_launcher_starts_as_many_processes_as_the_recipe_says():
    command = build_command(["train_stage1", str(RECIPES / "llava-1.6-7b/stage1.yaml"), "--texts", "t.csv"], gpus=2)
    assert "torch.distributed.run" in command and command[command.index("--nproc_per_node") + 1] == "8"
    assert command[-2:] == ["--expected_world_size", "8"]
    nodes = build_command(["train_stage2", str(RECIPES / "llava-1.6-7b/stage2.yaml"), "--nnodes", "2"], gpus=4)
    assert nodes[nodes.index("--nproc_per_node") + 1] == "4" and nodes[-1] == "8"
    nodes = build_command(["train_stage2", str(RECIPES / "llava-1.6-7b-whole/stage2.yaml"), "--nnodes", "2"], gpus=8)
    assert nodes[nodes.index("--nproc_per_node") + 1] == "8" and nodes[-1] == "16"


def test_launcher_starts_one_process_without_gpus():
    command = build_command(["train_stage1", str(RECIPES / "tiny-cpu/stage1.yaml")], gpus=0)
    assert command[1:3] == ["-m", "trainers.train_stage1"] and command[-2:] == ["--expected_world_size", "1"]
    assert build_command(["train_stage1", "--nproc_per_node", "2"], gpus=0)[-1] == "2"
    with pytest.raises(ValueError, match="does not divide by 3 nodes"):
        build_command(["train_stage1", str(RECIPES / "llava-1.6-7b/stage1.yaml"), "--nnodes", "3"], gpus=0)
