# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The tiny backbone: an ordinary checkpoint whose pre-training learns, and a tokenizer that loses nothing."""

import json

import pytest
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from examples.tiny.tokenizer import train_tokenizer
from examples.tiny_backbone import BackboneArguments, build
from modeling_unime import UniMEModel, UniMEProcessor


def arguments_for(folder, tiny_pairs, **changes) -> BackboneArguments:
    values = {
        "texts": [f"{tiny_pairs}::qry"],
        "pairs": [str(tiny_pairs)],
        "output": str(folder / "backbone"),
        "vocab_size": 300,
        "hidden_size": 64,
        "num_layers": 2,
        "intermediate_size": 64,
        "vision_hidden_size": 64,
        "vision_layers": 2,
        "batch_size": 4,
        "steps": 30,
        "learning_rate": 3e-3,
    }
    return BackboneArguments(**{**values, **changes})


@pytest.fixture(scope="module")
def tiny_pairs(tmp_path_factory):
    from tiny_models import write_pairs

    return write_pairs(tmp_path_factory.mktemp("pairs"))


def test_backbone_is_an_ordinary_checkpoint(tmp_path, tiny_pairs):
    folder = build(arguments_for(tmp_path, tiny_pairs))
    AutoModelForImageTextToText.from_pretrained(folder)
    AutoImageProcessor.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id and tokenizer.padding_side == "left"
    model, processor = UniMEModel.from_backbone(folder), UniMEProcessor.from_backbone(folder)
    assert processor.prompts["text"].startswith("[INST] {text}")
    assert model(**processor(text=["a dog"])).embeddings.shape == (1, 64)
    metrics = json.loads((folder / "pretrain_metrics.json").read_text())
    losses = [entry["answer_loss"] for entry in metrics["history"] if "answer_loss" in entry]
    assert losses[-1] < 0.8 * losses[0], "the pre-training learnt nothing"

    written = (folder / "model.safetensors").stat().st_mtime_ns
    build(arguments_for(tmp_path, tiny_pairs))
    assert (folder / "model.safetensors").stat().st_mtime_ns == written, "a finished folder is made again"
    with pytest.raises(FileExistsError, match="other settings"):
        build(arguments_for(tmp_path, tiny_pairs, steps=31))


def test_tokenizer_round_trip():
    tokenizer = train_tokenizer(["a red star", "a blue ring"] * 10, vocab_size=300)
    for text in ("a red star", "naïve café 東京 🙂", "x\ny  z"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert tokenizer("[INST] <image>\na [/INST]")["input_ids"].count(tokenizer.convert_tokens_to_ids("<image>")) == 1
    with pytest.raises(ValueError, match="vocab_size must be at least"):
        train_tokenizer(["a"], vocab_size=100)


@pytest.mark.parametrize("source, message", [("::nothing", "no column 'nothing'"), ("", None)])
def test_missing_column_is_named(tmp_path, tiny_pairs, source, message):
    arguments = arguments_for(tmp_path, tiny_pairs, texts=[f"{tiny_pairs}{source}"], steps=1)
    if message is None:
        assert build(arguments).is_dir()
        return
    with pytest.raises(ValueError, match=message):
        build(arguments)
