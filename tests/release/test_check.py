# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The check passes on what we save and finds each thing that can be wrong with a folder."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_unime

from modeling_unime.saved_folder import DIGEST_FILE, digest_weight
from release.check import check, findings_table, main, smallest_cosine
from release.remote_code import foreign_code


@pytest.fixture(scope="module")
def saved(backbones, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save_unime(backbones["llava_next"], folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "model")
    return tmp_path / "model"


def failed(folder) -> dict[str, str]:
    return {item.name: item.note for item in check(folder, fresh_process=False) if item.passed is False}


def test_a_correct_folder_passes_everywhere(folder, capsys):
    pytest.importorskip("sentence_transformers")
    main([str(folder), "--output", str(folder.parent / "findings.json")])
    findings = json.loads((folder.parent / "findings.json").read_text())
    assert all(item["passed"] for item in findings), findings
    assert {"AutoModel without this package", "sentence-transformers without this package"} <= {
        item["name"] for item in findings
    }
    assert capsys.readouterr().out.splitlines()[-2] == f"{folder}: passed"


SECRETS = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "OPENAI_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "WANDB_API_KEY",
    "MY_PASSWORD",
)
SPY = """
import os as _os
open({marker!r}, "w").write(repr(dict(_os.environ)) + repr(__import__("huggingface_hub").get_token()))
"""


def test_other_code_is_run_only_when_trusted_and_never_sees_a_token(folder, tmp_path, monkeypatch, capsys):
    pytest.importorskip("sentence_transformers")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("hf_stored_secret")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for name in SECRETS:
        monkeypatch.setenv(name, "hf_secret")
    marker = tmp_path / "ran"
    with (folder / "modeling_unime.py").open("a", encoding="utf-8") as file:
        file.write(SPY.format(marker=str(marker)))
    with pytest.raises(SystemExit, match="1"):
        main([str(folder)])
    last = capsys.readouterr().out.splitlines()[-1]
    assert "FAILED (code)" in last and "NOT checked: AutoModel without this package" in last
    assert not marker.exists()
    main([str(folder), "--trust_remote_code", "true"])
    assert "passed in what was checked; NOT checked: code (run as" in capsys.readouterr().out.splitlines()[-1]
    seen = marker.read_text()
    assert "PATH" in seen and "secret" not in seen and not any(name in seen for name in SECRETS)


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("more.py", "", "more.py is no file of this package"),
        ("sub/__init__.py", "", "sub/__init__.py is no file"),
        ("pictures.py", "", "pictures.py differs"),
        ("config.json", {"auto_map": {"AutoModel": "me/mine--modeling_unime.UniMEModel"}}, "me/mine--modeling_unime"),
        (
            "tokenizer_config.json",
            {"auto_map": {"AutoTokenizer": ["x.Slow", None]}},
            "tokenizer_config.json loads x.Slow",
        ),
        ("modules.json", [{"type": "pdb.Pdb", "path": "", "idx": 0, "name": "0"}], "modules.json loads pdb.Pdb"),
    ],
)
def test_whatever_else_a_folder_would_run_is_named(folder, name, content, words):
    assert foreign_code(folder) == []
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    if isinstance(content, dict):
        content = {**json.loads(file.read_text()), **content}
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    assert len(foreign_code(folder)) == 1 and words in foreign_code(folder)[0]


def test_an_adapter_beside_the_weights_is_a_fault(folder):
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    assert "adapter_config.json, adapter_model.safetensors" in failed(folder)["no adapter beside the weights"]


def test_a_permuted_weight_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.1.mlp.down_proj.weight"))
    weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    faults = failed(folder)
    assert set(faults) == {"weights and their digest"} and name in faults["weights and their digest"]


def test_a_wrong_padding_side_is_told(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "right"}))
    assert "pads on the right" in failed(folder)["padding side"]


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json", "config.json"])
def test_a_missing_file_is_named_and_the_command_fails(folder, capsys, name):
    (folder / name).unlink()
    with pytest.raises(SystemExit, match="1"):
        main([str(folder), "--fresh_process", "False"])
    assert f"missing: {name}" in capsys.readouterr().out


def test_the_verdict_says_what_was_left_out(folder, capsys):
    (folder / DIGEST_FILE).unlink()
    main([str(folder), "--fresh_process", "False"])
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert verdict.startswith(f"{folder}: passed in what was checked; NOT checked: ")
    assert "weights and their digest" in verdict and "--fresh_process is false" in verdict


def test_a_missing_weight_is_named(folder):
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.1.mlp.down_proj.weight"))
    weights.pop(name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert name in failed(folder)["loading"]


def test_a_file_cut_short_is_told(folder):
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    assert "cannot be read" in failed(folder)["weights and their digest"]


def test_a_model_that_pools_the_padding_fails(folder, monkeypatch):
    monkeypatch.setattr("modeling_unime.modeling_unime.pool_last_token", lambda states, mask: states[:, -1])
    assert "left and right padding" in failed(folder)


def test_a_collapsed_model_fails(folder, monkeypatch):
    monkeypatch.setattr(
        "modeling_unime.modeling_unime.pool_last_token", lambda states, mask: torch.ones(len(states), 4)
    )
    assert "collapsed" in failed(folder)["different inputs differ"]


def test_without_a_digest_the_weights_count_as_not_checked(folder):
    (folder / "weights_digest.json").unlink()
    finding = next(item for item in check(folder, fresh_process=False) if item.name == "weights and their digest")
    assert finding.passed is None and "not checked" in findings_table([finding])


def test_a_digest_of_an_earlier_version_is_no_fault(folder):
    file = folder / "weights_digest.json"
    file.write_text(json.dumps({name: digest[:16] for name, digest in json.loads(file.read_text()).items()}))
    finding = next(item for item in check(folder, fresh_process=False) if item.name == "weights and their digest")
    assert finding.passed is None and "save the model anew" in finding.note


def test_digest_sees_one_value_and_exchanged_columns_of_a_large_matrix():
    large = torch.randn(2048, 2048)
    changed = large.clone()
    changed[1023, 1000] += 1  # one value
    assert digest_weight(changed) != digest_weight(large)
    changed = large.clone()
    changed[:, [3, 800]] = large[:, [800, 3]]
    assert digest_weight(changed) != digest_weight(large) == digest_weight(large.clone())
    assert digest_weight(large.bfloat16()) != digest_weight(large)


def test_smallest_cosine():
    first = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert smallest_cosine(first, torch.tensor([[2.0, 0.0], [1.0, 0.0]])) == pytest.approx(2**-0.5)
