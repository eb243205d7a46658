# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Training touches the LLM only, and merging LoRA changes nothing."""

import pytest
import torch
from tiny_models import BACKBONES

from modeling_unime import UniMEModel, UniMEProcessor
from modeling_unime.families import get_family
from trainers.lora import lora_pattern, prepare_for_training, put_trained


@pytest.mark.parametrize("family", sorted(BACKBONES))
@pytest.mark.parametrize("rank", [0, 4])
def test_only_the_llm_is_trained(family, rank, backbones):
    model = prepare_for_training(UniMEModel.from_backbone(backbones[family]), rank)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    root = f"model.{get_family(family).language_model}."
    assert trained and all(root in name for name in trained)
    if rank:
        assert all("lora_" in name for name in trained)
        attention = ["qkv_proj"] if family == "phi3_v" else ["q_proj", "k_proj", "v_proj"]
        mlp = ["gate_up_proj"] if family in ("phi3_v", "glm4v") else ["gate_proj", "up_proj"]
        for projection in (*attention, "o_proj", *mlp, "down_proj"):
            assert sum(f".{projection}." in name for name in trained) == 2 * 2, f"{projection}: A and B in both layers"


def test_pattern_does_not_match_the_vision_tower(backbones):
    import re

    model = UniMEModel.from_backbone(backbones["llava_next"])
    matched = [name for name, _ in model.named_modules() if re.fullmatch(lora_pattern(model), name)]
    assert len(matched) == 14
    assert any("vision_tower" in name and name.endswith("q_proj") for name, _ in model.named_modules())


@pytest.mark.parametrize("lora_type", ["lora", "dora"])
def test_merged_model_gives_the_same_embeddings(lora_type, backbones, tmp_path):
    folder = backbones["llava_next"]
    inputs = UniMEProcessor.from_backbone(folder)(text=["one", "two"])
    untrained = UniMEModel.from_backbone(folder)(**inputs).embeddings
    model = prepare_for_training(UniMEModel.from_backbone(folder), 4, lora_type=lora_type)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
            if "magnitude" in name:
                parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
    model.eval()
    adapted = model(**inputs).embeddings
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    put_trained(UniMEModel.from_backbone(folder), trained, 4, lora_type=lora_type).save_pretrained(tmp_path)
    merged = UniMEModel.from_pretrained(tmp_path)(**inputs).embeddings
    torch.testing.assert_close(merged, adapted, atol=1e-6, rtol=0)
    assert (adapted - untrained).abs().max() > 1e-3


@pytest.mark.parametrize(("alpha", "factor"), [(None, 2), (4, 1), (16, 4)])
def test_alpha_over_rank_scales_what_is_added(alpha, factor, backbones):
    """By default alpha is twice the rank: W + 2 B A."""
    before = dict(UniMEModel.from_backbone(backbones["llava_next"]).named_parameters())
    model = prepare_for_training(UniMEModel.from_backbone(backbones["llava_next"]), 4, alpha)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        for name, parameter in trained.items():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    merged = put_trained(UniMEModel.from_backbone(backbones["llava_next"]), trained, 4, alpha)
    name = next(name for name in trained if "q_proj.lora_A" in name)
    product = trained[name.replace("lora_A", "lora_B")] @ trained[name]
    weight = name.removeprefix("base_model.model.").replace("lora_A.default.weight", "weight")
    added = dict(merged.named_parameters())[weight] - before[weight]
    torch.testing.assert_close(added, factor * product, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("rank", [0, 4])
def test_trained_weights_must_be_those_of_the_model(rank, backbones):
    model = prepare_for_training(UniMEModel.from_backbone(backbones["llava_next"]), rank)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    name = next(iter(trained))
    for wrong in ({**trained, "more": trained[name]}, {**trained, name: trained[name][:1]}):
        with pytest.raises(ValueError, match="not those of the model: (more|.*layers|.*embed)"):
            put_trained(UniMEModel.from_backbone(backbones["llava_next"]), wrong, rank)
    del trained[name]
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        put_trained(UniMEModel.from_backbone(backbones["llava_next"]), trained, rank)


def test_dora_and_the_start_of_the_matrices(backbones):
    def first_matrices(**options):
        torch.manual_seed(0)
        model = prepare_for_training(UniMEModel.from_backbone(backbones["llava_next"]), 4, **options)
        weights = dict(model.named_parameters())
        assert all(not value.any() for name, value in weights.items() if "lora_B" in name)
        assert any("magnitude" in name for name in weights) == (options.get("lora_type") == "dora")
        return torch.cat([value.flatten() for name, value in weights.items() if "lora_A" in name])

    uniform, gaussian = first_matrices(), first_matrices(lora_type="dora", init="gaussian")
    assert (
        uniform.abs().max() <= uniform.std() * 2.5
    )  # of the widest uniform, sqrt(3) and a bit for two widths of input
    assert gaussian.abs().max() > gaussian.std() * 3


def test_dropout_is_lora_s_alone(backbones):
    """A row embedded twice in training mode: different where LoRA drops inputs, equal where it does not."""
    inputs = UniMEProcessor.from_backbone(backbones["llava_next"])(text=["one", "two"])
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        model = prepare_for_training(UniMEModel.from_backbone(backbones["llava_next"]), 4, dropout=dropout)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
            model.train()
            assert torch.equal(model(**inputs).embeddings, model(**inputs).embeddings) == (dropout == 0)
            model.eval()
            assert torch.equal(model(**inputs).embeddings, model(**inputs).embeddings)
