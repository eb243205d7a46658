# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A model brought to half precision is the one that is loaded in it: angles of rotary positions stay in float32."""

import copy

import pytest
import torch
from peft import LoraConfig
from tiny_models import BACKBONES

from modeling_unime import UniMEModel, UniMEProcessor
from trainers.lora import freeze_for_training

CASTS = {
    "half": (torch.float16, lambda model: model.half()),
    "bfloat16": (torch.bfloat16, lambda model: model.bfloat16()),
    "to": (torch.bfloat16, lambda model: model.to(torch.bfloat16)),
    "to device and dtype": (torch.float16, lambda model: model.to("cpu", torch.float16)),
    "to like": (torch.bfloat16, lambda model: model.to(torch.zeros(1, dtype=torch.bfloat16))),
    "a part of another module": (torch.float16, lambda model: torch.nn.Sequential(model).half()[0]),
}


@pytest.mark.parametrize("family", sorted(BACKBONES))
@torch.no_grad()
def test_cast_model_is_the_one_loaded_in_that_type(backbones, pictures, family):
    whole = UniMEModel.from_backbone(backbones[family])
    inputs = UniMEProcessor.from_backbone(backbones[family])(text=["a dog", "b"], images=[pictures[0], None])
    loaded = {
        dtype: UniMEModel.from_backbone(backbones[family], dtype=dtype) for dtype in (torch.float16, torch.bfloat16)
    }
    vectors = {dtype: model(**inputs).embeddings for dtype, model in loaded.items()}
    for name, (dtype, cast) in CASTS.items():
        expected = loaded[dtype]
        found = cast(copy.deepcopy(whole))
        assert {parameter.dtype for parameter in found.parameters()} == {dtype}, name
        for (key, value), (_, other) in zip(found.named_buffers(), expected.named_buffers(), strict=True):
            assert value.dtype == other.dtype and torch.equal(value, other), f"{name}: {key}"
        assert torch.equal(found(**inputs).embeddings, vectors[dtype]), name


@pytest.mark.parametrize("family", sorted(set(BACKBONES) - {"phi3_v"}))  # which keeps no angles
def test_angles_survive_the_way_there_and_back(backbones, family):
    model = UniMEModel.from_backbone(backbones[family])
    before = {name: value.clone() for name, value in model.named_buffers() if name.endswith("inv_freq")}
    assert before
    model.half().float()
    for name, value in before.items():
        assert torch.equal(dict(model.named_buffers())[name], value), name


def test_angles_of_an_adapted_model_stay(backbones):
    model = freeze_for_training(UniMEModel.from_backbone(backbones["qwen2_5_vl"]), LoraConfig(r=2)).bfloat16()
    kinds = {value.dtype for name, value in model.named_buffers() if name.endswith("inv_freq")}
    assert kinds == {torch.float32}


def test_other_moves_are_as_ever(backbones):
    model = UniMEModel.from_backbone(backbones["qwen2_vl"])
    kinds = {value.dtype for name, value in model.double().named_buffers() if name.endswith("inv_freq")}
    assert kinds == {torch.float64}
    assert {value.device.type for value in model.to("meta").buffers()} == {"meta"}
    assert {value.dtype for value in model.half().parameters()} == {torch.float16}
    assert {value.device.type for value in model.to_empty(device="cpu").buffers()} == {"cpu"}
