# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The exported folder is complete, clean and described."""

import json

import pytest
import torch

from modeling_unime import UniMEModel, UniMEProcessor, WeightsMismatchError
from trainers.export import ExportArguments, export


@pytest.fixture
def trained(backbones, tmp_path):
    folder = tmp_path / "trained"
    UniMEModel.from_backbone(backbones["llava_next"]).save_pretrained(folder)
    UniMEProcessor.from_backbone(backbones["llava_next"]).save_pretrained(folder)
    record = {"stage": "stage2", "steps": 7, "seed": 3, "world_size": 1, "hardware": {"cpu": "x"}, "versions": {}}
    (folder / "training_record.json").write_text(json.dumps(record))
    (folder / "training_options.json").write_text(json.dumps({"temperature": 0.02}))
    (folder / "checkpoint-7").mkdir()
    return folder


def test_export(trained, tmp_path):
    output = export(ExportArguments(model=str(trained), output=str(tmp_path / "my-unime"), repository="me/my-unime"))
    names = {path.name for path in output.iterdir()}
    assert {"model.safetensors", "config.json", "processor_config.json", "modules.json", "README.md"} <= names
    assert not names & {"checkpoint-7", "training_record.json", "training_options.json"}
    card = (output / "README.md").read_text()
    assert card.startswith("---\n") and 'SentenceTransformer("me/my-unime"' in card
    assert "stage2, 7 steps, seed 3" in card and "temperature: 0.02" in card
    for slot in ("{name}", "{results}", "{training}", "{dimension}"):
        assert slot not in card
    before, after = UniMEModel.from_pretrained(trained), UniMEModel.from_pretrained(output)
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items())


def test_card_of_the_baseline_does_not_speak_of_a_teacher(trained, tmp_path):
    file = trained / "training_record.json"
    for stage, extra, words in (
        ("stage1", {"teacher": "all-MiniLM-L6-v2"}, "textual discriminative knowledge distillation"),
        ("stage1 (E5-V)", {}, "contrastive training on text alone"),
    ):
        file.write_text(json.dumps({**json.loads(file.read_text()), "stage": stage, **extra}))
        card = (
            export(ExportArguments(model=str(trained), output=str(tmp_path / stage), check=False)) / "README.md"
        ).read_text()
        assert words in card
        file.write_text(
            json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "teacher"})
        )
        assert ("- teacher: all-MiniLM-L6-v2" in card) == bool(extra)


def test_incomplete_folder_is_refused(trained, tmp_path):
    (trained / "processor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="no processor_config.json"):
        export(ExportArguments(model=str(trained), output=str(tmp_path / "out")))


def test_wrong_weights_are_refused(trained, tmp_path):
    from safetensors.torch import load_file, save_file

    weights = load_file(trained / "model.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, trained / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsMismatchError):
        export(ExportArguments(model=str(trained), output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
