# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What a run leaves behind can be read by whom the umask lets read, and says nothing of where things lay."""

import json
import os
import stat

import pytest
import torch
from peft import LoraConfig
from tiny_models import make_clip, make_llava_next, save_unime, write_pairs

import trainers.train_stage2
from modeling_unime import UniMEModel
from release.convert import main as convert
from trainers.lora import freeze_for_training
from unime.public_names import public_name

OWN_FILES = ("training_options.json", "training_args.bin")  # what a restart needs; never published


@pytest.fixture(params=[0o027, 0o002], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def run(model, data, output, **options):
    """Two steps of stage 2, a checkpoint at each."""
    options = {
        "model": model,
        "data": data,
        "output_dir": output,
        "max_steps": 2,
        "save_steps": 1,
        "per_device_train_batch_size": 4,
        "loss_type": "info_nce",
        "use_cpu": True,
        "disable_tqdm": True,
        **options,
    }
    trainers.train_stage2.main([f"--{name}={value}" for name, value in options.items()])
    return output


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_usual_modes(folder, umask):
    wrong = {str(path): oct(path.stat().st_mode) for path in files_of(folder) if mode_of(path) != 0o666 & ~umask}
    assert not wrong


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("kind", ["adapter", "whole LLM", "CLIP"])
def test_every_file_of_a_run_has_the_mode_of_the_umask(tmp_path, umask, kind):
    data = write_pairs(tmp_path, rows=8)
    model = make_clip(tmp_path / "model") if kind == "CLIP" else make_llava_next(tmp_path / "model")
    output = run(model, data, tmp_path / "output", lora_rank=2 if kind == "adapter" else 0)
    assert (len(list(output.rglob("adapter_model.safetensors"))) == 2) == (kind == "adapter")
    assert_usual_modes(output, umask)


def test_no_file_of_a_run_or_a_conversion_says_where_the_model_lay(tmp_path):
    """The model is a UniME folder made from a folder: the library keeps both paths in its configs."""
    private = tmp_path / "private-of-me" / "also-mine"
    private.mkdir(parents=True)
    backbone = make_llava_next(private / "backbone")
    save_unime(backbone, private / "stage1")
    output = run(private / "stage1", write_pairs(tmp_path / "data", rows=8), tmp_path / "output", lora_rank=2)
    convert([str(backbone), str(tmp_path / "converted")])
    found = [
        str(path)
        for folder in (output, tmp_path / "converted", private / "stage1")
        for path in files_of(folder)
        if path.name not in OWN_FILES and b"private-of-me" in path.read_bytes()
    ]
    assert not found
    assert json.loads((output / "training_record.json").read_text())["model"] == "stage1"
    adapter = json.loads((output / "checkpoint-1" / "adapter_config.json").read_text())
    assert not adapter["base_model_name_or_path"]


def test_public_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stage1").mkdir()
    assert (
        public_name(str(tmp_path / "stage1"))
        == public_name("stage1")
        == public_name("../" + tmp_path.name + "/stage1")
    )
    assert public_name("/no/such/folder/of/another/machine") == "machine"
    assert public_name("Qwen/Qwen2-VL-2B-Instruct") == "Qwen/Qwen2-VL-2B-Instruct"
    assert public_name("") == ""


def test_an_adapter_of_a_hub_model_names_it(backbones):
    model = UniMEModel.from_backbone(backbones["llava_next"])
    model.name_or_path = "someone/unime"
    assert (
        freeze_for_training(model, LoraConfig(r=2)).peft_config["default"].base_model_name_or_path == "someone/unime"
    )


def test_weights_that_nobody_may_read_stay_so_only_under_such_a_umask(backbones, tmp_path):
    model = UniMEModel.from_backbone(backbones["llava_next"])
    for umask, expected in ((0o077, 0o600), (0o022, 0o644)):
        before = os.umask(umask)
        try:
            model.save_pretrained(tmp_path, max_shard_size="20KB")
        finally:
            os.umask(before)
        shards = sorted(tmp_path.glob("*.safetensors"))
        assert len(shards) > 1 and {mode_of(path) for path in shards} == {expected}
    assert torch.isfinite(UniMEModel.from_pretrained(tmp_path).language_model.norm.weight).all()
