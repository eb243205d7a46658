# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 1 holds the LLM alone, and the LLM alone embeds texts as the whole model does."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import BACKBONES

from modeling_unime import UniMEModel, UniMEProcessor, WeightsMismatchError
from trainers.language_model import load_language_model
from trainers.lora import prepare_for_training, put_trained


def assert_is_the_llm_of(part: UniMEModel, whole: UniMEModel, folder) -> None:
    names = {f"model.{whole.family.language_model}.{name}" for name in whole.language_model.state_dict()}
    assert part.state_dict().keys() == names < whole.state_dict().keys()
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in part.state_dict().items())
    assert all(tensor.device.type == "cpu" for tensor in (*part.parameters(), *part.buffers()))
    inputs = UniMEProcessor.from_backbone(folder)(text=["one", "two words {and} more"])
    with torch.no_grad():
        assert torch.equal(part(**inputs).embeddings, whole(**inputs).embeddings)


@pytest.mark.parametrize("family", sorted(BACKBONES))
def test_llm_alone_embeds_as_the_whole_model(family, backbones, tmp_path):
    whole = UniMEModel.from_backbone(backbones[family])
    assert_is_the_llm_of(load_language_model(str(backbones[family])), whole, backbones[family])
    whole.save_pretrained(tmp_path)
    assert_is_the_llm_of(load_language_model(str(tmp_path)), whole, backbones[family])


def test_options_reach_the_llm(backbones):
    part = load_language_model(
        str(backbones["qwen2_vl"]), dtype="bfloat16", attn_implementation="eager", attention="bidirectional"
    )
    assert {parameter.dtype for parameter in part.parameters()} == {torch.bfloat16} == {part.dtype}
    assert part.language_model.config._attn_implementation == "eager"
    assert part.config.attention == "bidirectional"
    assert not any(module.is_causal for module in part.modules() if hasattr(module, "is_causal"))


@pytest.mark.parametrize("part", ["language_model", "vision_tower"])
@pytest.mark.parametrize("fault", ["missing", "unexpected", "of another shape"])
def test_wrong_weights_of_either_part_are_named(part, fault, backbones, tmp_path):
    UniMEModel.from_backbone(backbones["llava_next"]).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = next(name for name in weights if part in name and "layers.0" in name and name.endswith("q_proj.weight"))
    if fault == "missing":
        del weights[name]
    elif fault == "unexpected":
        name = name.replace("layers.0", "layers.9")
        weights[name] = torch.zeros(2)
    else:
        weights[name] = weights[name][:-1]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsMismatchError, match=rf"1 {fault}: .*{name.removeprefix('model.')}"):
        load_language_model(str(tmp_path))


def test_tower_is_never_in_memory(backbones, monkeypatch):
    """No tensor of the tower is read into memory: whatever is materialised belongs to the LLM."""
    from transformers import core_model_loading

    read = []
    materialise = core_model_loading._materialize_copy

    def watch(tensor, device=None, dtype=None):
        result = materialise(tensor, device, dtype)
        read.append((tuple(result.shape), result.device.type))
        return result

    monkeypatch.setattr(core_model_loading, "_materialize_copy", watch)
    part = load_language_model(str(backbones["llava_next"]))
    in_memory = sorted(shape for shape, device in read if device != "meta")
    own = sorted(tuple(parameter.shape) for parameter in part.parameters())
    line_break = (32,)  # of LLaVA-NeXT: one vector that lies beside the LLM, read and dropped
    assert in_memory == sorted([*own, line_break])
    assert any(device == "meta" for _, device in read)


@pytest.mark.parametrize("family", sorted(BACKBONES))
@pytest.mark.parametrize("rank", [0, 4])
def test_trained_llm_returns_into_the_whole_model(family, rank, backbones):
    folder = str(backbones[family])
    part = prepare_for_training(load_language_model(folder), rank)
    with torch.no_grad():
        for parameter in part.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    part.eval()
    trained = {name: parameter for name, parameter in part.named_parameters() if parameter.requires_grad}
    source = UniMEModel.from_backbone(folder)
    finished = put_trained(UniMEModel.from_backbone(folder), trained, rank)
    assert finished.state_dict().keys() == source.state_dict().keys()
    for name, value in source.state_dict().items():
        if f".{source.family.language_model}." not in name:
            assert torch.equal(finished.state_dict()[name], value)
    inputs = UniMEProcessor.from_backbone(folder)(text=["one", "two words"])
    with torch.no_grad():
        torch.testing.assert_close(finished(**inputs).embeddings, part(**inputs).embeddings, atol=1e-5, rtol=0)
        assert (finished(**inputs).embeddings - source(**inputs).embeddings).abs().max() > 1e-3
