# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Weights load bit-equal under the names of every library version that wrote them: 4.4x, 4.5x, 5.x, module names."""

import re
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_models import BACKBONES
from transformers import AutoModel, AutoModelForImageTextToText

from modeling_unime import UniMEModel

# Names of transformers 4.4x: the LLM and its head inside `language_model`, the tower with a `vision_model` level.
LLAVA = {
    r"^model\.language_model\.": "language_model.model.",
    r"^lm_head\.": "language_model.lm_head.",
    r"^model\.vision_tower\.": "vision_tower.vision_model.",
    r"^model\.": "",
}
QWEN = {r"^model\.language_model\.": "model.", r"^model\.visual\.": "visual."}
OLD_NAMES = {
    "internvl": {**LLAVA, r"^model\.vision_tower\.": "vision_tower."},
    "llava": LLAVA,
    "llava_next": LLAVA,
    "llava_onevision": LLAVA,
    "phi3_v": {
        r"^vision_tower\.": "model.vision_embed_tokens.img_processor.vision_model.",
        r"^image_projection\.linear_1\.": "model.vision_embed_tokens.img_projection.0.",
        r"^image_projection\.linear_2\.": "model.vision_embed_tokens.img_projection.2.",
        r"^image_projection\.view_separator$": "model.vision_embed_tokens.glb_GN",
        r"^image_projection\.row_separator$": "model.vision_embed_tokens.sub_GN",
        r"^language_model\.": "model.",
    },
    "qwen2_vl": QWEN,
    "qwen2_5_vl": QWEN,
}


def whole_model(folder):
    """The backbone with its head, where the library has such a class."""
    try:
        return AutoModelForImageTextToText.from_pretrained(folder)
    except ValueError:
        return AutoModel.from_pretrained(folder)


def rename(name: str, table: dict[str, str]) -> str:
    """The first pattern that fits decides."""
    for pattern, old in table.items():
        new, count = re.subn(pattern, old, name)
        if count:
            return new
    return name


def assert_same_weights(folder, reference):
    expected = UniMEModel.from_backbone(reference).state_dict()
    found = UniMEModel.from_backbone(folder).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("family", sorted(OLD_NAMES))
def test_names_of_transformers_4(family, backbones, tmp_path):
    shutil.copytree(backbones[family], tmp_path, dirs_exist_ok=True)
    weights = whole_model(backbones[family]).state_dict()
    old = {rename(name, OLD_NAMES[family]): tensor.clone() for name, tensor in weights.items()}
    assert len(old) == len(weights) and set(old) != set(weights)
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert_same_weights(tmp_path, backbones[family])


@pytest.mark.parametrize("original_format", [True, False])
@pytest.mark.parametrize("family", sorted(BACKBONES))
def test_names_of_transformers_5(family, original_format, backbones, tmp_path):
    """As `save_pretrained` writes them, reversed to published names or not, in shards."""
    shutil.copytree(backbones[family], tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    model = whole_model(backbones[family])
    model.save_pretrained(tmp_path, save_original_format=original_format, max_shard_size="40KB")
    shards = list(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    if not original_format:
        names = {key for file in shards for key in safe_open(file, framework="pt").keys()}
        assert names == set(model.state_dict())
    assert_same_weights(tmp_path, backbones[family])


def test_the_tables_rename_what_they_name(backbones):
    """A pattern that fits nothing would make the test above say less than it seems to."""
    for family, table in OLD_NAMES.items():
        names = set(whole_model(backbones[family]).state_dict())
        for pattern in table:
            assert any(re.search(pattern, name) for name in names), (family, pattern)
    assert load_file(backbones["llava"] / "model.safetensors")
