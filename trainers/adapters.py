# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Merges a published LoRA or DoRA adapter into a UniME model, whatever its own library version called the layers.

Adapters of E5-V, VLM2Vec and UniME were saved on causal-LM classes of transformers 4.4x, whose module paths no longer
exist. What has stayed is the end of a path, `layers.7.self_attn.o_proj`, and whether it lies in the vision tower.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from modeling_unime import UniMEModel

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
# Settings that change what an adapter computes and are not computed here.
UNSUPPORTED = ("fan_in_fan_out", "modules_to_save", "megatron_config")
IN_TOWER = re.compile(r"vision|visual|img_processor")
PREFIX = "base_model.model."  # peft puts it before every name
PART = re.compile(r"^(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_magnitude_vector)(\.default)?(\.weight)?$")


class AdapterError(ValueError):
    """An adapter is incomplete, of an unsupported kind, or does not fit the model."""


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds an adapter alone."""
    return (Path(folder) / CONFIG_FILE).is_file() and not (Path(folder) / "config.json").is_file()


def read_adapter_config(folder: str | Path) -> dict:
    """The adapter's settings.

    Raises:
        AdapterError: it is no LoRA adapter, or uses a setting that is not supported; names the setting.
    """
    config = json.loads((Path(folder) / CONFIG_FILE).read_text(encoding="utf-8"))
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{folder}: peft_type is {config.get('peft_type')!r}; only LORA can be merged")
    used = [name for name in UNSUPPORTED if config.get(name)]
    if config.get("bias", "none") != "none":
        used.append("bias")
    if used:
        raise AdapterError(f"{folder}: the adapter uses {', '.join(used)}, which is not supported; merge it with peft")
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


def _scaling(config: dict, name: str, rank: int) -> float:
    """Factor on B A of a layer: alpha / rank, or alpha / sqrt(rank) (rsLoRA)."""
    alpha = config["lora_alpha"]
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            alpha = value
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


@torch.no_grad()
def merge_adapter(model: UniMEModel, folder: str | Path) -> dict[str, str]:
    """Put an adapter's weights into the model's, computed in float32, in place.

    LoRA (arXiv 2106.09685) adds scaling * B A to a weight W. DoRA (arXiv 2402.09353), which VLM2Vec's adapters use,
    then scales every row of the sum to the length that its magnitude vector holds.

    Args:
        model: The model that the adapter was trained on.
        folder: Folder with `adapter_config.json` and `adapter_model.safetensors`.

    Returns:
        The adapter's layer names and the model's, of every layer that was changed.

    Raises:
        AdapterError: names the setting, or the layer that is incomplete or does not fit. The model is unchanged then.
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
        if shape != expected:
            raise AdapterError(f"{file}: layer {name!r} is {shape}, but the model's {places[name]} is {expected}")
        if bool(config.get("use_dora")) != ("lora_magnitude_vector" in parts):
            raise AdapterError(f"{file}: use_dora and the weights of layer {name!r} contradict each other")
    for name, parts in layers.items():
        weight = linears[places[name]].weight
        change = _scaling(config, name, len(parts["lora_A"])) * parts["lora_B"] @ parts["lora_A"]  # (out, in)
        merged = weight.float() + change.to(weight.device)
        if "lora_magnitude_vector" in parts:
            lengths = parts["lora_magnitude_vector"].to(weight.device)  # (out,)
            merged *= (lengths / merged.norm(dim=1))[:, None]
        weight.copy_(merged)  # to the model's own dtype
    return places
