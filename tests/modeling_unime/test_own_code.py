# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Backbones whose vision tower or LLM brings its own code: loaded when trusted, saved with it, and trained."""

import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from own_code_backbone import CODE, make_llava_with_code
from safetensors.torch import load_file
from tiny_models import write_pairs
from tiny_teachers import FakeTeacher
from transformers import AutoConfig, AutoModel

from evaluation.encoder import Encoder
from modeling_unime import UniMEModel, UniMEProcessor
from release.check import check
from release.convert import main as convert
from release.export import main as export
from trainers import DistillationConfig, DistillationTrainer
from trainers.train_stage2 import main as train_stage2
from unime.data.example import Example

SCRIPT = """
import sys, torch

sys.modules.update(dict.fromkeys(("modeling_unime", "trainers", "evaluation")))  # cannot be imported
from PIL import Image
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoProcessor

for folder in sys.argv[1:]:
    images = [Image.open(f"{folder}/{index}.png") for index in range(2)]
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    with torch.no_grad():
        auto = model(**processor(text=["hello world", None, "a red car"], images=[None, *images])).embeddings
    model.save_pretrained(folder + "-again")
    sentence = SentenceTransformer(folder, trust_remote_code=True, device="cpu")
    encoded = sentence.encode(["hello world", images[0], {"text": "a red car", "image": images[1]}])
    torch.save({"AutoModel": auto, "SentenceTransformer": torch.from_numpy(encoded)}, f"{folder}/out.pt")
"""
TRUST = ["--trust_remote_code", "true"]


@pytest.fixture(scope="module", params=sorted(CODE))
def backbone(request, tmp_path_factory):
    return make_llava_with_code(tmp_path_factory.mktemp("own") / "backbone", request.param)


@pytest.fixture
def saved(backbone, tmp_path):
    return save(backbone, tmp_path / "saved")


def save(backbone, folder):
    UniMEModel.from_backbone(backbone, trust_remote_code=True).save_pretrained(folder)
    UniMEProcessor.from_backbone(backbone, trust_remote_code=True).save_pretrained(folder)
    return folder


@torch.no_grad()
def embed(model, folder, pictures):
    inputs = UniMEProcessor.from_pretrained(folder)(
        text=["hello world", None, "a red car"], images=[None, pictures[0], pictures[1]]
    )
    return model.eval()(**inputs).embeddings


@pytest.mark.parametrize("load", [UniMEModel.from_backbone, UniMEProcessor.from_backbone, AutoModel.from_pretrained])
def test_code_does_not_run_unasked(load, backbone, saved):
    source = saved if load == AutoModel.from_pretrained else backbone
    with pytest.raises(
        ValueError, match=f"^{source}: its .*_config is of type 'own_.*trust_remote_code=True to run it$"
    ):
        load(source)


def test_the_code_lies_in_every_saved_folder_and_every_way_loads_it(backbone, saved, pictures, tmp_path):
    code = {path.name: path.read_text() for path in backbone.glob("*.py")}
    assert code.items() <= {path.name: path.read_text() for path in saved.glob("*.py")}.items()
    model = UniMEModel.from_backbone(backbone, trust_remote_code=True)
    expected = embed(model, saved, pictures)
    config = AutoConfig.from_pretrained(saved)
    encoder = Encoder.from_pretrained(saved, trust_remote_code=True, device="cpu")
    ways = {
        "AutoModel": AutoModel.from_pretrained(saved, trust_remote_code=True),
        "from_pretrained": UniMEModel.from_pretrained(saved, trust_remote_code=True, attention="causal"),
        "a config": UniMEModel.from_pretrained(saved, config=type(config)(**config.to_dict()), trust_remote_code=True),
        "from_backbone": UniMEModel.from_backbone(saved, trust_remote_code=True),
        "pickle": pickle.loads(pickle.dumps(model)),
        "Encoder": encoder.model,
    }
    for name, loaded in ways.items():
        assert torch.equal(embed(loaded, saved, pictures), expected), name
    assert torch.allclose(torch.from_numpy(encoder.encode([Example("hello world")])), expected[:1], atol=1e-5)
    eager = UniMEModel.from_pretrained(saved, trust_remote_code=True, attn_implementation="eager")
    assert all(
        module.config._attn_implementation == "eager" for module in eager.modules() if hasattr(module, "config")
    )


def test_fresh_processes_and_versions(backbone, pictures, tmp_path):
    """Two folders of one name, whose code differs in a file that neither config nor model class stands in."""
    pytest.importorskip("sentence_transformers")
    folders = [save(backbone, tmp_path / "first" / "model")]
    if (backbone / "scale_tower.py").is_file():
        other = save(backbone, tmp_path / "other" / "model")
        (other / "scale_tower.py").write_text("SCALE = 3.0\n")
        folders.append(other)
    expected = [
        embed(UniMEModel.from_pretrained(folder, trust_remote_code=True), folder, pictures) for folder in folders
    ]
    again = embed(UniMEModel.from_pretrained(folders[0], trust_remote_code=True), folders[0], pictures)
    assert torch.equal(again, expected[0])
    for folder in folders:
        for index in range(2):
            pictures[index].save(folder / f"{index}.png")
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    command = [sys.executable, "-c", SCRIPT, *map(str, folders)]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, timeout=300)
    for folder, vectors in zip(folders, expected, strict=True):
        found = torch.load(folder / "out.pt")
        for name, value in found.items():
            assert (value - vectors).abs().max() < 1e-5, f"{folder}: {name}"
        for path in folder.glob("*.py"):
            assert folder.with_name("model-again").joinpath(path.name).read_text() == path.read_text(), path
    assert len(folders) == 1 or (expected[0] - expected[1]).abs().max() > 1e-3


def test_training_resumption_export_and_check(backbone, pictures, tmp_path):
    options = {"per_device_train_batch_size": 4, "use_cpu": True, "disable_tqdm": True, "report_to": "none"}
    options |= {"trust_remote_code": True, "lora_rank": 2, "learning_rate": 1e-2}
    texts = [f"text number {index}" for index in range(16)]
    stage1 = tmp_path / "stage1"
    config = DistillationConfig(output_dir=str(stage1), max_steps=2, **options)
    trainer = DistillationTrainer(str(backbone), config, train_dataset=texts, teacher=FakeTeacher())
    trainer.train()
    trainer.save_model()
    options |= {"model": stage1, "data": write_pairs(tmp_path, rows=16), "max_steps": 3, "save_steps": 2}
    options |= {"loss_type": "info_nce", "output_dir": tmp_path / "stage2"}
    command = [f"--{name}={value}" for name, value in options.items()]
    train_stage2(command)
    unbroken = load_file(tmp_path / "stage2" / "model.safetensors")
    for path in (tmp_path / "stage2").iterdir():  # what a run that was stopped after its second step leaves
        if path.is_dir() and path.name != "checkpoint-2":
            shutil.rmtree(path)
        elif path.is_file() and path.name != "training_options.json":
            path.unlink()
    train_stage2(command)
    resumed = load_file(tmp_path / "stage2" / "model.safetensors")
    assert all(torch.equal(value, resumed[name]) for name, value in unbroken.items())
    exported = tmp_path / "exported"
    checked = str((backbone / "modeling_tower.py").is_file())  # in another process, which takes long: once is enough
    export(["--model", str(tmp_path / "stage2"), "--output", str(exported), "--check", checked, *TRUST])
    assert {path.name for path in backbone.glob("*.py")} < {path.name for path in exported.glob("*.py")}
    before = UniMEModel.from_pretrained(stage1, trust_remote_code=True)
    after = UniMEModel.from_pretrained(exported, trust_remote_code=True)
    assert (embed(before, stage1, pictures) - embed(after, exported, pictures)).abs().max() > 0
    tower = [(name, value) for name, value in before.state_dict().items() if "vision_tower" in name]
    assert tower and all(torch.equal(value, after.state_dict()[name]) for name, value in tower)
    unread = check(exported)
    assert {item.name for item in unread if not item.sound} == {"code", "loading"}
    convert([str(backbone), str(tmp_path / "converted"), *TRUST])


def test_the_code_of_a_repository_is_converted_like_that_of_a_folder(stub_hub, tmp_path):
    local = make_llava_with_code(tmp_path / "local")
    stub_hub.add("me/with-code", {path.name: path.read_bytes() for path in local.iterdir()})
    environment = {**os.environ, **stub_hub.environment(tmp_path / "home")}
    command = [sys.executable, "-m", "release.convert", "me/with-code", str(tmp_path / "out"), *TRUST]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    convert([str(local), str(tmp_path / "expected"), *TRUST])
    expected = {path.name: path.read_bytes() for path in (tmp_path / "expected").iterdir()}
    assert expected.keys() > {"configuration_tower.py", "modeling_tower.py", "scale_tower.py"}
    for name in expected.keys() - {"conversion_report.json", "tokenizer_config.json"}:  # they say where from
        assert (tmp_path / "out" / name).read_bytes() == expected[name], name


def test_code_named_as_a_file_of_ours_is_refused(tmp_path):
    backbone = make_llava_with_code(tmp_path / "backbone")
    (backbone / "scale_tower.py").rename(backbone / "prompts.py")
    file = backbone / "modeling_tower.py"
    file.write_text(file.read_text().replace("scale_tower", "prompts"))
    with pytest.raises(ValueError, match="prompts.py has the name of a file of UniME's own code; rename it"):
        UniMEModel.from_backbone(backbone, trust_remote_code=True)
