# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Checkpoints under the names people have become UniME folders: renamed, sharded, adapters alone."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from modeling_unime import UniMEModel, UniMEProcessor, WeightsMismatchError
from release.adapters import AdapterError, merge_adapter
from release.convert import ConvertArguments, convert, main


def vectors_of(folder) -> torch.Tensor:
    processor, model = UniMEProcessor.from_pretrained(folder), UniMEModel.from_pretrained(folder)
    with torch.no_grad():
        return model(**processor(text=["one", "two words"])).embeddings


@pytest.fixture(scope="module")
def expected(backbones) -> torch.Tensor:
    processor, model = (cls.from_backbone(backbones["llava_next"]) for cls in (UniMEProcessor, UniMEModel))
    with torch.no_grad():
        return model(**processor(text=["one", "two words"])).embeddings


def with_weights(backbone, folder, rename):
    """A copy of a checkpoint with its weights under other names."""
    shutil.copytree(backbone, folder)
    weights = {rename(name): tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_names_of_old_library_versions(backbones, expected, tmp_path):
    """transformers 4.4x had the LLM at `language_model.model`, the tower at `vision_tower.vision_model`."""

    def rename(name: str) -> str:
        for new, old in (
            ("model.language_model.", "language_model.model."),
            ("model.vision_tower.", "vision_tower."),
            ("model.", ""),
            ("lm_head.", "language_model.lm_head."),
        ):
            if name.startswith(new):
                return old + name.removeprefix(new)
        return name

    stored = set(load_file(backbones["llava_next"] / "model.safetensors"))
    folder = with_weights(backbones["llava_next"], tmp_path / "old", rename)
    renamed = set(load_file(folder / "model.safetensors"))
    output = convert(ConvertArguments(source=str(folder), output=str(tmp_path / "out")))
    torch.testing.assert_close(vectors_of(output), expected, atol=1e-6, rtol=0)
    report = json.loads((output / "conversion_report.json").read_text())
    assert set(report["mapped"]) | set(report["dropped"]) == renamed and not report["transformed"]
    assert all("lm_head" in name for name in report["dropped"]) and len(report["dropped"]) == 1
    assert len(set(report["mapped"].values())) == len(report["mapped"]) == len(stored) - 1


def test_shards(backbones, expected, tmp_path):
    model = AutoModelForImageTextToText.from_pretrained(backbones["llava_next"])
    shutil.copytree(backbones["llava_next"], tmp_path / "shards", ignore=shutil.ignore_patterns("*.safetensors"))
    model.save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    main([str(tmp_path / "shards"), str(tmp_path / "out"), "--dtype", "float32"])
    torch.testing.assert_close(vectors_of(tmp_path / "out"), expected, atol=1e-6, rtol=0)


def test_a_missing_weight_writes_nothing(backbones, tmp_path):
    folder = with_weights(backbones["llava_next"], tmp_path / "broken", lambda name: name.replace("o_proj", "x_proj"))
    with pytest.raises(WeightsMismatchError, match="o_proj"):
        convert(ConvertArguments(source=str(folder), output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_not_empty_is_kept(backbones, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(FileExistsError, match="not empty"):
        convert(ConvertArguments(source=str(backbones["llava_next"]), output=str(tmp_path)))


def test_a_source_that_is_not_there_is_said_without_a_trace(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="'/no/such/folder' is neither a folder nor can it be had from the Hub"
    ):
        main(["/no/such/folder", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_image_options_are_kept(backbones, tmp_path):
    main([str(backbones["phi3_v"]), str(tmp_path / "out"), "--image_options", '{"num_crops": 9}'])
    assert UniMEProcessor.from_pretrained(tmp_path / "out").image_processor.num_crops == 9
    for wrong in ("num_crops=9", "[9]"):
        with pytest.raises(ValueError, match="image_options"):
            ConvertArguments("a", "b", image_options=wrong)


@pytest.fixture(scope="module")
def adapted(backbones, tmp_path_factory):
    """An adapter on LLM and vision tower, trained elsewhere, and the embeddings it must give."""
    torch.manual_seed(0)
    base = AutoModelForImageTextToText.from_pretrained(backbones["llava_next"])
    peft_model = get_peft_model(base, LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj", "fc1"]))
    with torch.no_grad():
        for name, parameter in peft_model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    folder = tmp_path_factory.mktemp("adapter")
    peft_model.save_pretrained(folder)
    merged = tmp_path_factory.mktemp("merged")
    shutil.copytree(backbones["llava_next"], merged, dirs_exist_ok=True)
    peft_model.merge_and_unload().save_pretrained(merged)
    return folder, merged


@pytest.mark.parametrize("old_names", [False, True])
def test_adapter_alone(backbones, adapted, expected, tmp_path, old_names):
    adapter, merged = adapted
    source = tmp_path / "adapter"
    shutil.copytree(adapter, source)
    config = json.loads((source / "adapter_config.json").read_text())
    (source / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": str(backbones["llava_next"])})
    )
    if old_names:  # of a causal-LM class of transformers 4.4x
        weights = load_file(source / "adapter_model.safetensors")
        renamed = {
            name.replace("model.model.language_model.layers", "model.language_model.model.layers").replace(
                "model.model.vision_tower.", "model.vision_tower.vision_model."
            ): tensor
            for name, tensor in weights.items()
        }
        assert set(renamed) != set(weights)
        save_file(renamed, source / "adapter_model.safetensors", metadata={"format": "pt"})
    output = convert(ConvertArguments(source=str(source), output=str(tmp_path / "out")))
    reference = convert(ConvertArguments(source=str(merged), output=str(tmp_path / "reference")))
    torch.testing.assert_close(vectors_of(output), vectors_of(reference), atol=1e-6, rtol=0)
    assert (vectors_of(output) - expected).abs().max() > 1e-3
    report = (output / "conversion_report.json").read_text()
    assert str(tmp_path) not in report and str(backbones["llava_next"]) not in report, "a path of this machine"
    layers = json.loads(report)["adapter_layers"]
    assert len(layers) == len(set(layers.values()))
    assert any("vision_tower" in path for path in layers.values())
    for name, tensor in (
        UniMEModel.from_pretrained(output).state_dict().items()
    ):  # the tower too, which texts do not see
        torch.testing.assert_close(tensor, UniMEModel.from_pretrained(reference).state_dict()[name], atol=1e-6, rtol=0)


def test_an_adapter_beside_a_whole_model_is_refused(backbones, adapted, tmp_path):
    shutil.copytree(backbones["llava_next"], tmp_path / "both")
    shutil.copytree(adapted[0], tmp_path / "both", dirs_exist_ok=True)
    with pytest.raises(ValueError, match="remove its adapter_"):
        convert(ConvertArguments(source=str(tmp_path / "both"), output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["llava_next", "phi3_v", "qwen2_vl"])
def test_adapter_as_vlm2vec_trains_them(backbones, tmp_path, family):
    """DoRA, on LLM and vision tower, with a layer's own alpha, under the names of the published Phi-3.5-vision."""
    torch.manual_seed(0)
    model = UniMEModel.from_backbone(backbones[family])
    targets = "qkv_proj,o_proj,gate_up_proj,down_proj,k_proj,q_proj,out_proj,v_proj,qkv,linear_1".split(",")
    config = LoraConfig(r=4, lora_alpha=8, use_dora=True, target_modules=targets, alpha_pattern={"down_proj": 3})
    adapted = get_peft_model(UniMEModel.from_backbone(backbones[family]), config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name or "magnitude" in name:
                parameter.add_(torch.rand_like(parameter) * 0.2)
    adapted.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    assert any("vision" in name or "visual" in name for name in weights)
    if family == "phi3_v":
        published = (
            ("model.language_model.", "model."),
            ("model.vision_tower.", "model.vision_embed_tokens.img_processor.vision_model."),
            ("model.image_projection.linear_1", "model.vision_embed_tokens.img_projection.0"),
        )
        for own, name in published:
            assert any(own in key for key in weights)
            weights = {key.replace(own, name): tensor for key, tensor in weights.items()}
        save_file(weights, file, metadata={"format": "pt"})
    layers = merge_adapter(model, tmp_path)
    assert len(layers) == len(weights) // 3
    expected = adapted.merge_and_unload().state_dict()
    before = UniMEModel.from_backbone(backbones[family]).state_dict()
    changed = {name for name, tensor in expected.items() if not torch.equal(tensor, before[name])}
    assert changed == {f"{path}.weight" for path in layers.values()}
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    "start, rslora",
    [("pissa", False), ("olora", False), ("pissa", True), ("gaussian", True), ("orthogonal", False), ("eva", False)],
)
def test_adapters_that_began_in_other_ways(backbones, tmp_path, start, rslora):
    """PiSSA and OLoRA take a part out of the base weights before they train; the model is base minus part plus B A."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=6, use_rslora=rslora, init_lora_weights=start, target_modules=["down_proj"])
    adapted = get_peft_model(UniMEModel.from_backbone(backbones["llava_next"]), config)
    scaling = 6 / (2 if rslora else 4)
    expected = {}
    with torch.no_grad():
        for name, module in adapted.named_modules():
            if hasattr(module, "lora_A") and name.endswith("down_proj"):
                for side in (module.lora_A, module.lora_B):
                    side["default"].weight.add_(torch.randn_like(side["default"].weight) * 0.1)
                change = module.lora_B["default"].weight @ module.lora_A["default"].weight
                expected[name.removeprefix("base_model.model.")] = module.base_layer.weight + scaling * change
    adapted.save_pretrained(tmp_path)
    model = UniMEModel.from_backbone(backbones["llava_next"])
    assert set(merge_adapter(model, tmp_path).values()) == set(expected) and len(expected) == 2
    for name, weight in expected.items():
        torch.testing.assert_close(model.get_submodule(name).weight, weight, atol=1e-5, rtol=0)


def test_a_bfloat16_model_is_rounded_once(backbones, adapted):
    """The sum is computed in float32, as it was when the adapter was merged by hand."""
    base = UniMEModel.from_backbone(backbones["llava_next"], dtype=torch.bfloat16)
    exact = UniMEModel.from_backbone(backbones["llava_next"], dtype=torch.bfloat16).float()
    merge_adapter(base, adapted[0])
    merge_adapter(exact, adapted[0])
    assert base.dtype == torch.bfloat16 and type(base) is UniMEModel
    for name, weight in base.state_dict().items():
        assert torch.equal(weight, exact.state_dict()[name].bfloat16()), name


@pytest.mark.parametrize(
    "change, message",
    [
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is 'pissa_niter_4'"),
        ({"init_lora_weights": "corda"}, "init_lora_weights is 'corda'"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights is 'loftq'"),
        ({"init_lora_weights": "lora_ga"}, "init_lora_weights is 'lora_ga'"),
        ({"init_lora_weights": "of next year"}, "init_lora_weights is 'of next year'"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"setting_of_next_year": True}, "setting_of_next_year"),
        ({"use_dora": True}, "use_dora .* contradict"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"bias": "all"}, "bias"),
        ({"peft_type": "LOHA"}, "only LORA"),
        ({"modules_to_save": ["embed_tokens"]}, "modules_to_save"),
    ],
)
def test_other_adapters_are_refused(backbones, adapted, tmp_path, change, message):
    shutil.copytree(adapted[0], tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(AdapterError, match=message):
        merge_adapter(UniMEModel.from_backbone(backbones["llava_next"]), tmp_path / "adapter")


@pytest.mark.parametrize(
    "fault, message", [("half", "has no lora_B"), ("shape", "but the model's"), ("name", "fits 0 layers")]
)
def test_an_adapter_that_does_not_fit_changes_nothing(backbones, adapted, tmp_path, fault, message):
    shutil.copytree(adapted[0], tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(file)
    last = sorted(name for name in weights if "lora_B" in name)[-1]
    tensor = weights.pop(last)
    if fault == "shape":
        weights[last] = tensor[:-1].contiguous()
    elif fault == "name":
        for side in ("A", "B"):
            name = last.replace("lora_B", f"lora_{side}")
            weights[name.replace("layers.", "layers.9")] = tensor if side == "B" else weights.pop(name)
    save_file(weights, file, metadata={"format": "pt"})
    model = UniMEModel.from_backbone(backbones["llava_next"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(AdapterError, match=message):
        merge_adapter(model, tmp_path / "adapter")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
