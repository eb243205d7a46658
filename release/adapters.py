# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Merges a published LoRA or DoRA adapter into a UniME model, whatever its own library version called the layers.

Adapters of E5-V, VLM2Vec and UniME were saved on causal-LM classes of transformers 4.4x, whose module paths no longer
exist. What has stayed is the end of a path, `layers.7.self_attn.o_proj`, and whether it lies in the vision tower. The
layers are found by that; what they compute is left to peft.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from torch import nn

from modeling_unime import UniMEModel

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
# Settings of an adapter that are handed to peft as they are, and those that do not change what a trained one computes.
CARRIED = ("use_rslora", "use_dora")
READ_FROM_WEIGHTS = ("r", "rank_pattern", "lora_alpha", "alpha_pattern", "target_modules", "init_lora_weights")
ONLY_FOR_TRAINING = (
    "auto_mapping", "base_model_name_or_path", "corda_config", "eva_config", "exclude_modules", "inference_mode",
    "layers_pattern", "layers_to_transform", "lora_dropout", "lora_ga_config", "peft_type", "peft_version", "revision",
    "runtime_config", "task_type", "qalora_group_size",
)  # fmt: skip
# How an adapter began. Those of the first line leave the base weights as they are. Those of the second take a part out
# of them, which the same base gives again. The others take out one that depends on data or on random numbers.
BASE_UNCHANGED = (True, False, "gaussian", "eva", "orthogonal", "mica")
BASE_REPEATED = ("pissa", "olora")
IN_TOWER = re.compile(r"vision|visual|img_processor")
PREFIX = "base_model.model."  # peft puts it before every name
PART = re.compile(r"^(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(\.default)?(\.weight)?$")


class AdapterError(ValueError):
    """An adapter is incomplete, of an unsupported kind, or does not fit the model."""


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter alone."""
    return (Path(folder) / CONFIG_FILE).is_file() and not (Path(folder) / "config.json").is_file()


def read_adapter_config(folder: str | Path) -> dict:
    """The adapter's settings; refuses, by name, one that is not supported."""
    config = json.loads((Path(folder) / CONFIG_FILE).read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{folder}: peft_type is {config.get('peft_type')!r}; only LORA can be merged")
    defaults = LoraConfig().to_dict()
    known = {*CARRIED, *READ_FROM_WEIGHTS, *ONLY_FOR_TRAINING}
    used = [name for name, value in config.items() if name not in known and value and value != defaults.get(name)]
    if used:
        raise AdapterError(f"{folder}: the adapter uses {', '.join(used)}, which is not supported; merge it with peft")
    start = config.get("init_lora_weights", True)
    if start not in (*BASE_UNCHANGED, *BASE_REPEATED):
        raise AdapterError(
            f"{folder}: init_lora_weights is {start!r}, so the adapter belongs to base weights that were changed before "
            "training and cannot be computed again; save it with peft's path_initial_model_for_weight_conversion first"
        )
    return config


def common_end(first: str, second: str) -> int:
    """How many parts two dotted names share at their ends."""
    pairs = zip(reversed(first.split(".")), reversed(second.split(".")), strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _find_module(name: str, model: UniMEModel, linears: dict[str, nn.Linear]) -> str:
    """The model's own path of a layer that the adapter calls `name`: the one that ends most like it.

    The end must reach from the list that the layer stands in ("layers.7", "blocks.7"), so that no other layer's number
    is taken, or hold two parts where it stands in none.
    """
    published = name
    for pattern, replacement in (model.family.key_mapping or {}).items():
        published = re.sub(pattern, replacement, published + ".").removesuffix(".")
    parts = published.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit() and index]
    needed = len(parts) - numbers[-1] + 1 if numbers else min(2, len(parts))
    in_tower = bool(IN_TOWER.search(published))
    shared = {path: common_end(path, published) for path in linears if bool(IN_TOWER.search(path)) == in_tower}
    longest = max([needed, *shared.values()])
    found = [path for path, length in shared.items() if length == longest]
    if len(found) != 1:
        raise AdapterError(f"the adapter's layer {name!r} fits {len(found)} layers of the model: {', '.join(found)}")
    return found[0]


def _read_layers(file: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The adapter's weights by layer and part, float32; every layer has both matrices."""
    layers: dict[str, dict[str, torch.Tensor]] = {}
    with safe_open(file, framework="pt") as weights:
        for key in weights.keys():  # noqa: SIM118 (the object is no dict)
            match = PART.match(key)
            if match is None:
                raise AdapterError(f"{file}: {key!r} is no LoRA weight of a linear layer")
            layer = layers.setdefault(match["layer"].removeprefix(PREFIX), {})
            layer[match["part"]] = weights.get_tensor(key).float()
    for name, parts in layers.items():
        missing = {"lora_A", "lora_B"} - set(parts)
        if missing:
            raise AdapterError(f"{file}: layer {name!r} has no {' and no '.join(sorted(missing))}")
    return layers


def _alpha(config: dict, name: str) -> float:
    """The alpha of a layer, under the adapter's own name of it."""
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return config["lora_alpha"]


def _lora_config(config: dict, layers: dict[str, dict[str, torch.Tensor]], places: dict[str, str]) -> LoraConfig:
    """The adapter's settings, with the layers by the model's names."""
    start = config.get("init_lora_weights", True)
    return LoraConfig(
        target_modules=list(places.values()),
        rank_pattern={f"^{re.escape(places[name])}": len(parts["lora_A"]) for name, parts in layers.items()},
        alpha_pattern={f"^{re.escape(places[name])}": _alpha(config, name) for name in layers},
        init_lora_weights=start if start in BASE_REPEATED else True,
        **{name: bool(config.get(name)) for name in CARRIED},
    )


@torch.no_grad()
def merge_adapter(model: UniMEModel, folder: str | Path) -> dict[str, str]:
    """Put an adapter's weights into the model's, in place, by peft and layer by layer in float32.

    LoRA (arXiv 2106.09685) adds scaling * B A to a weight W. DoRA (arXiv 2402.09353), which VLM2Vec's adapters use,
    then scales every row of the sum. PiSSA (arXiv 2404.02948) and OLoRA (arXiv 2406.01775) first take from W what the
    adapter began as.

    Returns the adapter's layer names and the model's. An AdapterError leaves the model unchanged.
    """
    folder = Path(folder)
    config = read_adapter_config(folder)
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        raise AdapterError(f"{folder} has no {WEIGHTS_FILE}; pickled adapters (.bin) are not read, convert them first")
    linears = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    layers = _read_layers(file)
    places = {name: _find_module(name, model, linears) for name in layers}
    if len(set(places.values())) < len(places):
        raise AdapterError(f"{file}: two of the adapter's layers fit the same layer of the model")
    for name, parts in layers.items():
        shape, expected = (len(parts["lora_B"]), parts["lora_A"].shape[1]), tuple(linears[places[name]].weight.shape)
        if shape != expected or len(parts["lora_A"]) != parts["lora_B"].shape[1]:
            raise AdapterError(f"{file}: layer {name!r} is {shape}, but the model's {places[name]} is {expected}")
        if bool(config.get("use_dora")) != ("lora_magnitude_vector" in parts):
            raise AdapterError(f"{file}: use_dora and the weights of layer {name!r} contradict each other")

    frozen = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    adapted = get_peft_model(model, _lora_config(config, layers, places))
    weights = {
        f"{PREFIX}{places[name]}.{part}" + ("" if part == "lora_magnitude_vector" else ".weight"): tensor
        for name, parts in layers.items()
        for part, tensor in parts.items()
    }
    if weights.keys() != get_peft_model_state_dict(adapted).keys():  # a weight without a place would be left out
        raise AdapterError(f"{file}: this version of peft has other weights for the adapter's layers; update peft")
    set_peft_model_state_dict(adapted, weights)
    for module in adapted.modules():
        if isinstance(module, LoraLayer):
            base = module.get_base_layer()
            dtype = base.weight.dtype
            base.float()  # rounded once, at the end
            module.merge()
            base.to(dtype)
    adapted.unload()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(frozen[name])
    return places
