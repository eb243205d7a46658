# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Merges a published LoRA adapter into a UniME model, whatever the names its own library version gave the layers.

Adapters of E5-V, VLM2Vec and UniME were saved on causal-LM classes of transformers 4.4x, whose module paths no longer
exist. What has stayed is the end of a path, `layers.7.self_attn.o_proj`, and whether it lies in the vision tower.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from modeling_unime import UniMEModel

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
# Settings that change what an adapter computes; with one of them set, adding B A to the weight would be wrong.
UNSUPPORTED = ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "modules_to_save", "megatron_config")
IN_TOWER = re.compile(r"vision|visual|img_processor")
PAIR = re.compile(r"^(?P<module>.+)\.lora_(?P<side>A|B)(\.default)?\.weight$")


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


def _find_module(name: str, linears: dict[str, nn.Linear]) -> str:
    """The model's own path of a layer that the adapter calls `name`."""
    end = "layers." + name.rsplit("layers.", 1)[1] if "layers." in name else name.rsplit(".", 1)[1]
    in_tower = bool(IN_TOWER.search(name))
    found = [path for path in linears if path.endswith(f".{end}") and bool(IN_TOWER.search(path)) == in_tower]
    if len(found) != 1:
        raise AdapterError(f"the adapter's layer {name!r} fits {len(found)} layers of the model: {', '.join(found)}")
    return found[0]


@torch.no_grad()
def merge_adapter(model: UniMEModel, folder: str | Path) -> dict[str, str]:
    """Add an adapter's weights to the model's, in float32, in place.

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
    rank, alpha = config["r"], config["lora_alpha"]
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    linears = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    with safe_open(file, framework="pt") as weights:
        for key in weights.keys():  # noqa: SIM118 (the object is no dict)
            match = PAIR.match(key)
            if match is None:
                raise AdapterError(f"{file}: {key!r} is no LoRA weight of a linear layer")
            pairs.setdefault(match["module"], {})[match["side"]] = weights.get_tensor(key).float()
    merged, changes = {}, []
    for name, pair in pairs.items():
        if set(pair) != {"A", "B"}:
            raise AdapterError(f"{file}: layer {name!r} has only lora_{next(iter(pair))}")
        path = _find_module(name, linears)
        change = scaling * pair["B"] @ pair["A"]  # (out, in)
        weight = linears[path].weight
        if change.shape != weight.shape:
            raise AdapterError(
                f"{file}: layer {name!r} is {tuple(change.shape)}, but the model's {path} is {tuple(weight.shape)}"
            )
        merged[name] = path
        changes.append((weight, change))
    if len(set(merged.values())) < len(merged):
        raise AdapterError(f"{file}: two of the adapter's layers fit the same layer of the model")
    for weight, change in changes:
        weight.copy_((weight.float() + change.to(weight.device)).to(weight.dtype))
    return merged
