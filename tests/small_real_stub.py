# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Tiny random parts in the place of those of `examples.small_real`, and pictures of one colour."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_models import TEXT, make_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from examples.small_real import backbone
from examples.small_real.modeling_efficientnet_lite import EfficientNetLiteConfig, EfficientNetLiteModel

COLOURS = {"red": (200, 20, 20), "green": (20, 180, 20), "blue": (20, 20, 200), "white": (240, 240, 240)}


def stub_parts(monkeypatch) -> None:
    """A tiny LLM, and a tower of 64 pixels, 2 x 2 tokens."""

    def stub_llm(num_layers):
        tokenizer = make_tokenizer(["<image>", "<|im_start|>", "<|im_end|>"], bos=False)
        torch.manual_seed(0)
        values = {**TEXT, "num_hidden_layers": num_layers, "tie_word_embeddings": True}
        return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **values)), tokenizer

    def stub_tower():
        torch.manual_seed(0)
        tower = EfficientNetLiteModel(EfficientNetLiteConfig(image_size=64, patch_size=32, hidden_size=16)).eval()
        for module in tower.modules():
            if isinstance(module, torch.nn.Conv2d):  # as they begin, next to nothing would come through
                torch.nn.init.kaiming_normal_(module.weight)
        return tower

    monkeypatch.setattr(backbone, "load_llm", stub_llm)
    monkeypatch.setattr(backbone, "load_tower", stub_tower)


def write_colours(folder: Path) -> Path:
    """Pictures of one colour and its name: rows to train on, and to evaluate."""
    rng, train, held_out = np.random.default_rng(0), [], []
    (folder / "images").mkdir(parents=True)
    for index in range(24):
        name = list(COLOURS)[index % 4]
        pixels = np.clip(np.array(COLOURS[name]) + rng.integers(-20, 20, (40, 40, 3)), 0, 255).astype(np.uint8)
        image = f"images/{index}.png"
        Image.fromarray(pixels).save(folder / image)
        row = {"qry": f"<|image_1|>\nName colour {index}.\n", "qry_image_path": image, "pos_text": f"{name} {index}"}
        train.append({**row, "pos_image_path": "", "neg_text": "", "neg_image_path": ""})
        held = {"qry_text": "<|image_1|>\nName the colour.\n", "qry_img_path": image}
        others = [other for other in COLOURS if other != name]
        held_out.append({**held, "tgt_text": [name, *others], "tgt_img_path": [""] * 4})
    for name, rows in (("train_colours", train), ("eval_colours", held_out)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
