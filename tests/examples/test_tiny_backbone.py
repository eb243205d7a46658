# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The tiny backbone: an ordinary checkpoint whose pre-training learns, and a tokenizer that loses nothing."""

import json

import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from examples.tiny.architecture import Architecture, build_image_processor, build_model
from examples.tiny.conversations import Collator, Conversation, Turn
from examples.tiny.pretraining import answer_logits
from examples.tiny.tokenizer import train_tokenizer
from examples.tiny_backbone import BackboneArguments, build
from modeling_unime import UniMEModel, UniMEProcessor
from unime.data.images import ImageStore


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


def test_lower_case_tokenizer_takes_upper_for_lower():
    for lowercase in (False, True):
        tokenizer = train_tokenizer(["a red star", "a blue ring"] * 10, vocab_size=300, lowercase=lowercase)
        same = tokenizer("[INST] A Red STAR")["input_ids"] == tokenizer("[INST] a red star")["input_ids"]
        assert same == lowercase
        assert tokenizer.convert_tokens_to_ids("[INST]") in tokenizer("[INST] A")["input_ids"]


@pytest.mark.parametrize("source, message", [("::nothing", "no column 'nothing'"), ("", None)])
def test_missing_column_is_named(tmp_path, tiny_pairs, source, message):
    arguments = arguments_for(tmp_path, tiny_pairs, texts=[f"{tiny_pairs}{source}"], steps=1)
    if message is None:
        assert build(arguments).is_dir()
        return
    with pytest.raises(ValueError, match=message):
        build(arguments)


def test_turns_packed_behind_one_image_do_not_see_each_other(tiny_pairs):
    tokenizer = train_tokenizer(["a red star", "what is this"] * 10, vocab_size=300)
    architecture = Architecture(hidden_size=64, num_layers=2, vision_hidden_size=64, vision_layers=2)
    model = build_model(architecture, tokenizer).eval()
    collator = Collator(tokenizer, build_image_processor(architecture), model.config)
    store = ImageStore(tiny_pairs.parent)
    turns = [Turn("What is this?", "a red star", "x"), Turn("Where?", "at the top left", "x")]
    with torch.no_grad():
        packed, wanted = answer_logits(model, collator([Conversation(store, "images/0.png", turns)]))
        alone = [answer_logits(model, collator([Conversation(store, "images/0.png", [turn])])) for turn in turns]
        other = answer_logits(model, collator([Conversation(store, "images/1.png", turns)]))[0]
    assert wanted.equal(torch.cat([ids for _, ids in alone]))
    assert torch.allclose(packed, torch.cat([logits for logits, _ in alone]), atol=1e-5)
    assert (packed - other).abs().max() > 1e-3, "the answers do not depend on the image, so the test could not fail"
