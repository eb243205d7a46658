# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Whatever the type of the checkpoint, weights are trained in float32 and saved in the checkpoint's type."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import BACKBONES, make_clip
from transformers import CLIPModel

import trainers.train_stage2
from modeling_unime import UniMEModel, UniMEProcessor
from trainers.distillation_config import DistillationConfig
from trainers.loading import prepare_model
from trainers.lora import lora_config
from trainers.run import train_and_save

sys.path.insert(0, str(Path(__file__).parent))
from training_worker import Run, build, history_of  # noqa: E402


def stored_in(dtype: torch.dtype, backbone: Path, folder: Path) -> Path:
    """The model with its weights rounded to bf16, stored in a type."""
    UniMEModel.from_backbone(backbone).bfloat16().to(dtype).save_pretrained(folder)
    UniMEProcessor.from_backbone(backbone).save_pretrained(folder)
    return folder


def types_of_the_trained(model: torch.nn.Module) -> set[torch.dtype]:
    return {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}


@pytest.mark.parametrize("computed", ["as the weights", "bf16"])
@pytest.mark.parametrize("family", sorted(BACKBONES))
def test_a_bf16_checkpoint_of_any_family_takes_a_step(family, computed, backbones, folder, tmp_path):
    model = stored_in(torch.bfloat16, backbones[family], tmp_path / "model")
    run = Run("stage2", str(model), str(folder), chunk=4, steps=1, options={"bf16": computed == "bf16"})
    trainer = build(run)
    before = [parameter.detach().clone() for parameter in trainer.model.parameters() if parameter.requires_grad]
    seen = []
    trainer.model.model.get_image_features = seen_by(trainer.model.model.get_image_features, seen)
    trainer.train()
    (entry,) = history_of(trainer)
    assert seen and entry["grad_norm"] > 1e-3
    assert types_of_the_trained(trainer.model) == {torch.float32}
    after = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    moved = sum(int((a != b).sum()) for a, b in zip(before, after, strict=True)) / sum(map(torch.numel, after))
    assert moved > 0.4, "Adam's first step, of 1e-3, moves every weight that has a gradient"


def seen_by(method, seen: list):
    """The method, which notes that it was called."""

    def call(*args, **kwargs):
        seen.append(1)
        return method(*args, **kwargs)

    return call


def share_that_stayed(before: dict, after: dict) -> float:
    """Of the weights of the LLM's matrices, those that ten steps have not moved by a number of bf16."""
    names = [name for name in before if "language_model.layers" in name and before[name].dim() == 2]
    same = [(before[name].bfloat16() == after[name].bfloat16()).float().mean() for name in names]
    return float(torch.stack(same).mean())


def test_ten_small_steps_reach_as_many_weights_as_in_float32(backbones, folder, tmp_path):
    shares = {}
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        model = stored_in(dtype, backbones["llava_next"], tmp_path / name)
        output = tmp_path / f"{name}-trained"
        options = {"learning_rate": 2e-5, "lr_scheduler_type": "constant", "output_dir": str(output)}
        trainer = build(Run("stage1", str(model), str(folder), steps=10, options=options))
        train_and_save(trainer, "stage1", {})
        before, after = (load_file(path / "model.safetensors") for path in (model, output))
        assert {value.dtype for value in after.values()} == {dtype}
        for path in (model, output):
            assert json.loads((path / "config.json").read_text())["dtype"] == name
        shares[dtype] = share_that_stayed(before, after)
    assert shares[torch.bfloat16] == pytest.approx(shares[torch.float32], abs=0.05)
    assert 0 < shares[torch.float32] < 0.7, "were all or none to stay, the comparison would say nothing"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("options", [{"lora_rank": 0}, {"lora_rank": 4}, {"lora_rank": 4, "lora_type": "dora"}])
def test_trained_weights_are_float32_and_frozen_ones_as_stored(options, dtype, backbones, tmp_path):
    config = DistillationConfig(output_dir=str(tmp_path), use_cpu=True, dtype=dtype, **options)
    model = prepare_model(str(backbones["llava_next"]), config, lora_config(config))
    assert types_of_the_trained(model) == {torch.float32}
    frozen = {parameter.dtype for parameter in model.parameters() if not parameter.requires_grad}
    assert frozen == {getattr(torch, dtype)}


def test_a_bf16_clip_is_trained_in_float32_and_saved_in_bf16(folder, tmp_path, monkeypatch):
    CLIPModel.from_pretrained(make_clip(tmp_path / "clip")).bfloat16().save_pretrained(tmp_path / "clip")
    seen = []
    train = trainers.train_stage2.train_and_save

    def look(trainer, *rest, **options):
        seen.append(types_of_the_trained(trainer.model))
        train(trainer, *rest, **options)

    monkeypatch.setattr(trainers.train_stage2, "train_and_save", look)
    options = {"model": tmp_path / "clip", "data": folder / "train_pairs.jsonl", "output_dir": tmp_path / "out"}
    options |= {"lora_rank": 0, "loss_type": "info_nce", "per_device_train_batch_size": 8, "max_steps": 2}
    options |= {"use_cpu": True, "disable_tqdm": True, "learning_rate": 1e-3, "save_strategy": "no"}
    trainers.train_stage2.main([f"--{name}={value}" for name, value in options.items()])
    assert seen == [{torch.float32}]
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    source = load_file(tmp_path / "clip" / "model.safetensors")
    assert any(not torch.equal(value, source[name]) for name, value in weights.items())
