# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""push_to_hub against a Hub on the loopback address; what a run writes and pushes holds no token, path or host name."""

import io
import os
import pickle
import socket
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from stub_hub import TOKEN, StubHub
from tiny_models import make_llava_next, write_pairs

import trainers.train_stage2
from trainers.hard_negative_config import HardNegativeConfig

ROOT = Path(__file__).resolve().parents[2]
# The same command twice, then what a user of the model does.
SCRIPT = """
import sys
import torch
from transformers import AutoModel
import trainers.train_stage2
trainers.train_stage2.main(sys.argv[1:])
trainers.train_stage2.main(sys.argv[1:])
options = {"trust_remote_code": True, "dtype": torch.float32}
pushed = AutoModel.from_pretrained("me/tiny", revision="v1", **options).state_dict()
local = AutoModel.from_pretrained(sys.argv[2], **options).state_dict()
assert pushed.keys() == local.keys() and all(torch.equal(pushed[name], local[name]) for name in local)
print("the same model")
"""


def command(model: Path, data: Path, output: Path) -> list[str]:
    options = ["--output_dir", str(output), "--model", str(model), "--data", str(data), "--lora_rank", "2"]
    options += ["--max_steps", "4", "--save_steps", "2", "--per_device_train_batch_size", "4", "--use_cpu", "true"]
    options += ["--learning_rate", "1e-2", "--disable_tqdm", "true", "--report_to", "tensorboard"]
    return [*options, "--push_to_hub", "true", "--hub_model_id", "tiny", "--hub_token", TOKEN, "--hub_revision", "v1"]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory) -> tuple[StubHub, Path]:
    """The Hub and the output folder of a run with LoRA that was pushed by a token given as an option."""
    folder = tmp_path_factory.mktemp("private-path")
    write_pairs(folder / "data", rows=12)
    arguments = command(make_llava_next(folder / "backbone"), folder / "data", folder / "out")
    with StubHub() as hub:
        environment = {**os.environ, **hub.environment(folder / "home", token=None)}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert done.stdout.splitlines()[-1] == "the same model"
        assert TOKEN not in done.stdout + done.stderr
        yield hub, folder / "out"


def test_the_finished_model_and_its_card_are_pushed_once(pushed):
    hub, _ = pushed
    repository = hub.repositories["models", "me/tiny"]
    assert [(commit["branch"], commit["message"]) for commit in repository.commits] == [("v1", "Finished model")]
    files = hub.files("me/tiny", "v1")
    assert {"config.json", "model.safetensors", "modeling_unime.py", "processor_config.json", "README.md"} <= set(
        files
    )
    assert "me/tiny" in files["README.md"].decode() and "stage2, 4 steps" in files["README.md"].decode()
    unwanted = ("adapter", "checkpoint", "runs/", "training_", "optimizer", "rng_state", "events")
    assert [path for path in files if any(word in path for word in unwanted)] == []


def test_no_adapter_stands_beside_the_merged_weights(pushed):
    _, output = pushed
    assert list(output.glob("adapter_*")) == []
    assert (output / "checkpoint-4" / "adapter_model.safetensors").exists(), "nothing was there to be left behind"


def test_no_file_of_the_run_holds_the_token(pushed):
    hub, output = pushed
    for name, content in {
        **{str(path): path.read_bytes() for path in output.rglob("*") if path.is_file()},
        **hub.files("me/tiny", "v1"),
    }.items():
        parts = [content]
        if zipfile.is_zipfile(io.BytesIO(content)):
            archive = zipfile.ZipFile(io.BytesIO(content))
            parts += [archive.read(member) for member in archive.namelist()]
        assert not any(TOKEN.encode() in part for part in parts), name
    saved = torch.load(output / "checkpoint-4" / "training_args.bin", weights_only=False)
    assert saved.hub_token is None and saved.learning_rate == 1e-2


def test_tensorboard_is_not_told_where_it_runs(pushed):
    _, output = pushed
    events = list((output / "runs").rglob("events*"))
    assert len(events) == 1
    for name in (socket.gethostname(), "private-path"):
        assert name not in str(events[0].relative_to(output))
        assert name.encode() not in events[0].read_bytes()
    assert b"learning_rate" in events[0].read_bytes(), "the options stand there all the same"


def test_the_config_keeps_the_token_for_the_push(tmp_path):
    config = HardNegativeConfig(output_dir=str(tmp_path), use_cpu=True, hub_token=TOKEN)
    assert config.hub_token == replace(config, seed=1).hub_token == TOKEN
    assert pickle.loads(pickle.dumps(config)).hub_token is None
    assert TOKEN not in f"{config}{config.to_json_string()}"


def test_a_token_that_the_hub_refuses_is_found_before_anything_is_read(stub_hub, tmp_path, backbones):
    arguments = command(backbones["llava_next"], tmp_path / "absent", tmp_path / "out")
    environment = {**os.environ, **stub_hub.environment(tmp_path / "home", token=None)}
    done = subprocess.run(
        [sys.executable, "-m", "trainers.train_stage2", *arguments, "--hub_token", "hf_wrong"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    said = done.stderr.strip().splitlines()[-1]
    assert "push_to_hub: there is no repository to push to, check hub_token and hub_model_id" in said
    assert stub_hub.repositories == {}


def test_a_folder_with_an_adapter_is_not_trained_into(tmp_path, backbones):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "adapter_config.json").write_text("{}")
    arguments = command(backbones["llava_next"], tmp_path / "absent", tmp_path / "out")
    with pytest.raises(ValueError, match="holds adapter_config.json, which AutoModel would apply"):
        trainers.train_stage2.main([*arguments, "--push_to_hub", "false"])
