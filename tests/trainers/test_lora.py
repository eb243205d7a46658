# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Training touches the LLM only, and merging LoRA changes nothing."""

import pytest
import torch
from peft import LoraConfig
from tiny_models import BACKBONES

from modeling_unime import UniMEModel, UniMEProcessor
from modeling_unime.families import get_family
from trainers import HardNegativeConfig
from trainers.lora import freeze_for_training, lora_config, lora_pattern, merge_trained


def lora(rank: int = 4, **options) -> LoraConfig | None:
    """As the options of a recipe give it."""
    return LoraConfig(r=rank, lora_alpha=2 * rank, **options) if rank else None


@pytest.mark.parametrize("family", sorted(BACKBONES))
@pytest.mark.parametrize("rank", [0, 4])
def test_only_the_llm_is_trained(family, rank, backbones):
    model = freeze_for_training(UniMEModel.from_backbone(backbones[family]), lora(rank))
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
    model = freeze_for_training(UniMEModel.from_backbone(folder), lora(use_dora=lora_type == "dora"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
            if "magnitude" in name:
                parameter.mul_(1 + 0.1 * torch.rand_like(parameter))
    model.eval()
    adapted = model(**inputs).embeddings
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    merge_trained(UniMEModel.from_backbone(folder), trained, lora(use_dora=lora_type == "dora")).save_pretrained(
        tmp_path
    )
    merged = UniMEModel.from_pretrained(tmp_path)(**inputs).embeddings
    torch.testing.assert_close(merged, adapted, atol=1e-6, rtol=0)
    assert (adapted - untrained).abs().max() > 1e-3


@pytest.mark.parametrize(("alpha", "factor"), [(None, 2), (4, 1), (16, 4)])
def test_alpha_over_rank_scales_what_is_added(alpha, factor, backbones):
    """By default alpha is twice the rank: W + 2 B A."""
    before = dict(UniMEModel.from_backbone(backbones["llava_next"]).named_parameters())
    model = freeze_for_training(
        UniMEModel.from_backbone(backbones["llava_next"]),
        lora_config(HardNegativeConfig(output_dir="out", use_cpu=True, lora_rank=4, lora_alpha=alpha)),
    )
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        for name, parameter in trained.items():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    merged = merge_trained(
        UniMEModel.from_backbone(backbones["llava_next"]),
        trained,
        lora_config(HardNegativeConfig(output_dir="out", use_cpu=True, lora_rank=4, lora_alpha=alpha)),
    )
    name = next(name for name in trained if "q_proj.lora_A" in name)
    product = trained[name.replace("lora_A", "lora_B")] @ trained[name]
    weight = name.removeprefix("base_model.model.").replace("lora_A.default.weight", "weight")
    added = dict(merged.named_parameters())[weight] - before[weight]
    torch.testing.assert_close(added, factor * product, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("rank", [0, 4])
def test_trained_weights_must_be_those_of_the_model(rank, backbones):
    model = freeze_for_training(UniMEModel.from_backbone(backbones["llava_next"]), lora(rank))
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    name = next(iter(trained))
    for wrong in ({**trained, "more": trained[name]}, {**trained, name: trained[name][:1]}):
        with pytest.raises(ValueError, match="not those of the model: (more|.*layers|.*embed)"):
            merge_trained(UniMEModel.from_backbone(backbones["llava_next"]), wrong, lora(rank))
    del trained[name]
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        merge_trained(UniMEModel.from_backbone(backbones["llava_next"]), trained, lora(rank))


def test_dora_and_the_start_of_the_matrices(backbones):
    def first_matrices(**options):
        torch.manual_seed(0)
        model = freeze_for_training(UniMEModel.from_backbone(backbones["llava_next"]), lora(**options))
        weights = dict(model.named_parameters())
        assert all(not value.any() for name, value in weights.items() if "lora_B" in name)
        assert any("magnitude" in name for name in weights) == options.get("use_dora", False)
        return torch.cat([value.flatten() for name, value in weights.items() if "lora_A" in name])

    uniform, gaussian = first_matrices(), first_matrices(use_dora=True, init_lora_weights="gaussian")
    assert (
        uniform.abs().max() <= uniform.std() * 2.5
    )  # of the widest uniform, sqrt(3) and a bit for two widths of input
    assert gaussian.abs().max() > gaussian.std() * 3


def test_dropout_is_lora_s_alone(backbones):
    """A row embedded twice in training mode: different where LoRA drops inputs, equal where it does not."""
    inputs = UniMEProcessor.from_backbone(backbones["llava_next"])(text=["one", "two"])
    for dropout in (0.0, 0.5):
        torch.manual_seed(0)
        model = freeze_for_training(
            UniMEModel.from_backbone(backbones["llava_next"]),
            lora_config(HardNegativeConfig(output_dir="out", use_cpu=True, lora_rank=4, lora_dropout=dropout)),
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.1)
            model.train()
            assert torch.equal(model(**inputs).embeddings, model(**inputs).embeddings) == (dropout == 0)
            model.eval()
            assert torch.equal(model(**inputs).embeddings, model(**inputs).embeddings)


@pytest.mark.parametrize("config", [LoraConfig(init_lora_weights="pissa"), LoraConfig(init_lora_weights="olora")])
def test_a_start_that_changes_the_weights_themselves_is_refused(config, backbones):
    with pytest.raises(ValueError, match="changes the weights that LoRA is added to"):
        freeze_for_training(UniMEModel.from_backbone(backbones["llava_next"]), config)
