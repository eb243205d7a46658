# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The exported folder is complete, clean and described."""

import ast
import json
import re

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from tiny_models import save_unime

from modeling_unime import UniMEModel, WeightsMismatchError
from release.export import ExportArguments, export
from release.remote_code import foreign_code


@pytest.fixture
def trained(backbones, tmp_path):
    folder = tmp_path / "trained"
    save_unime(backbones["llava_next"], folder)
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
    assert "{{" not in card and "}}" not in card
    told = ModelCard(card).data
    assert (told.license, told.library_name, told.base_model) == ("other", "sentence-transformers", None)
    before, after = UniMEModel.from_pretrained(trained), UniMEModel.from_pretrained(output)
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items())


def test_only_the_model_goes_along(trained, tmp_path, capsys):
    """Nothing that lies in the folder by chance, no code but this package's, no path of this machine."""
    secret = str(tmp_path)
    strangers = (
        ".env",
        "token",
        "train.log",
        "pytorch_model.bin",
        "helper.py",
        "bad_rows.json",
        "conversion_report.json",
    )
    for name in strangers:
        (trained / name).write_text(f"import os # {secret}")
    with (trained / "modeling_unime.py").open("a", encoding="utf-8") as file:
        file.write("raise SystemExit('changed code')\n")
    record = json.loads((trained / "training_record.json").read_text())
    (trained / "training_record.json").write_text(json.dumps({**record, "teacher": f"{tmp_path}/NV-Embed-v2"}))
    settings = json.loads((trained / "config_sentence_transformers.json").read_text())
    (trained / "config_sentence_transformers.json").write_text(
        json.dumps({**settings, "prompts": {"query": "Find: "}})
    )
    output = export(ExportArguments(model=str(trained), output=str(tmp_path / "out"), check=False))
    names = {path.name for path in output.iterdir()}
    assert not names & set(strangers)
    assert names <= {
        *("README.md", "chat_template.jinja", "config.json", "config_sentence_transformers.json", "model.safetensors"),
        *(
            "modules.json",
            "processor_config.json",
            "sentence_bert_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ),
        *("weights_digest.json", *(name for name in names if name.endswith(".py"))),
    }
    assert foreign_code(output) == [] and "changed code" not in (output / "modeling_unime.py").read_text()
    for path in output.iterdir():
        assert secret.encode() not in path.read_bytes(), path.name
    assert "- teacher: NV-Embed-v2" in (output / "README.md").read_text()
    assert json.loads((output / "config_sentence_transformers.json").read_text())["prompts"] == {"query": "Find: "}
    said = capsys.readouterr().out
    assert all(name in said for name in strangers) and "model.safetensors" not in said


def test_an_output_that_holds_something_is_refused(trained, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pytorch_model.bin").write_text("old")
    with pytest.raises(FileExistsError, match="not empty"):
        export(ExportArguments(model=str(trained), output=str(tmp_path / "out")))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pytorch_model.bin"]


def test_more_than_a_model_is_refused(trained, tmp_path):
    (trained / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="adapter_config.json beside the model's weights"):
        export(ExportArguments(model=str(trained), output=str(tmp_path / "out")))
    (trained / "adapter_config.json").unlink()
    modules = json.loads((trained / "modules.json").read_text())
    dense = {"idx": 1, "name": "1", "path": "1_Dense", "type": "sentence_transformers.models.Dense"}
    (trained / "modules.json").write_text(json.dumps([*modules, dense]))
    with pytest.raises(ValueError, match="further modules .sentence_transformers.models.Dense"):
        export(ExportArguments(model=str(trained), output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_local_base_model_is_refused(trained, tmp_path):
    with pytest.raises(ValueError, match="name on the Hub"):
        export(ExportArguments(model=str(trained), output=str(tmp_path / "out"), base_model=str(trained)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_exported_bit_by_bit(trained, tmp_path, dtype):
    UniMEModel.from_pretrained(trained, dtype=dtype).save_pretrained(trained)
    output = export(ExportArguments(model=str(trained), output=str(tmp_path / "out"), check=False))
    before, after = load_file(trained / "model.safetensors"), load_file(output / "model.safetensors")
    assert before.keys() == after.keys() and {tensor.dtype for tensor in after.values()} == {dtype}
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_the_card_names_the_versions_of_setup(repository):
    """The card's requirements are those that the package installs."""
    card = (repository / "model_card.md").read_text(encoding="utf-8")
    named = set(re.findall(r'"([a-z-]+[><=][^" ]+)"', card))
    setup = ast.literal_eval(
        "[" + ", ".join(re.findall(r'"[a-z-]+>=[^"]+"', (repository / "setup.py").read_text(encoding="utf-8"))) + "]"
    )
    assert {re.match("[a-z-]+", entry)[0] for entry in named} == {
        "torch",
        "transformers",
        "pillow",
        "sentence-transformers",
    }
    assert named <= set(setup)


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
