# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What a user sets in sentence-transformers is saved by sentence-transformers, and stays."""

import json

import pytest
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Dense
from tiny_models import save_unime

from modeling_unime import UniMEModel

PROMPTS = {"query": "Find: ", "document": "", "bare": " "}


@pytest.fixture(scope="module")
def folder(backbones, tmp_path_factory):
    path = tmp_path_factory.mktemp("st") / "saved"
    save_unime(backbones["llava_next"], path)
    return path


def load(folder, **options) -> SentenceTransformer:
    return SentenceTransformer(str(folder), trust_remote_code=True, device="cpu", **options)


@pytest.fixture
def changed(folder):
    """All that can be set, and a further module."""
    torch.manual_seed(0)
    options = {"default_prompt_name": "query", "similarity_fn_name": "dot", "truncate_dim": 4}
    model = load(folder, prompts={"query": "Find: "}, **options)
    model.append(Dense(32, 8))
    return model


def assert_kept(folder, expected):
    found = load(folder)
    assert found.prompts == PROMPTS and found.default_prompt_name == "query"
    assert found.similarity_fn_name == "dot" and found.truncate_dim == 4
    assert [type(module).__name__ for module in found] == ["Transformer", "Dense"]
    assert abs(found.encode(["a dog"]) - expected).max() < 1e-6


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_settings_and_modules_survive(changed, tmp_path):
    expected = changed.encode(["a dog"])
    assert expected.shape == (1, 4)
    changed.save_pretrained(str(tmp_path))
    assert_kept(tmp_path, expected)


def test_second_save_changes_nothing(changed, tmp_path):
    changed.save_pretrained(str(tmp_path))
    first = contents(tmp_path)
    load(tmp_path).save_pretrained(str(tmp_path))
    assert contents(tmp_path) == first
    load(tmp_path).save_pretrained(str(tmp_path / "other"))
    other = contents(tmp_path / "other")
    assert {name: other[name] for name in first} == first


def test_model_saved_over_a_folder_leaves_its_settings(changed, folder, tmp_path):
    """By our own class, as AutoModel gives it."""
    changed.save_pretrained(str(tmp_path))
    expected, first = changed.encode(["a dog"]), contents(tmp_path)
    UniMEModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    kept = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
    assert all(contents(tmp_path)[name] == first[name] for name in kept)
    assert_kept(tmp_path, expected)


def test_checkpoints_of_their_trainer_have_them(changed, tmp_path):
    options = {"output_dir": str(tmp_path), "max_steps": 1, "save_steps": 1, "report_to": "none", "use_cpu": True}
    trainer = SentenceTransformerTrainer(
        model=changed,
        args=SentenceTransformerTrainingArguments(**options, per_device_train_batch_size=2),
        train_dataset=Dataset.from_dict({"anchor": ["a", "b"], "positive": ["c", "d"]}),
        loss=MultipleNegativesRankingLoss(changed),
    )
    trainer.train()
    changed.eval()
    assert_kept(tmp_path / "checkpoint-1", changed.encode(["a dog"]))


def test_first_save_writes_all_three(folder):
    config = json.loads((folder / "config_sentence_transformers.json").read_text())
    assert config["prompts"] == {"query": "", "document": "", "bare": " "} and config["similarity_fn_name"] == "cosine"
    assert [module["path"] for module in json.loads((folder / "modules.json").read_text())] == [""]
    assert "modality_config" in json.loads((folder / "sentence_bert_config.json").read_text())
