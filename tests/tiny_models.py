# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Tiny random backbones, complete with tokenizer and image processor, made on the spot."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    LlavaNextConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SPECIAL = ["<pad>", "<s>", "</s>"]


def make_tokenizer(extra: list[str], bos: bool) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: one token per byte, so that any text has its own ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(SPECIAL + extra + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=extra,
        model_max_length=2048,
    )


def save_backbone(folder: Path, config, tokenizer, image_processor, dropout: float, seed: int) -> Path:
    torch.manual_seed(seed)
    config.text_config.attention_dropout = dropout
    model = AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases that are not trivial
            parameter.add_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    return folder


def make_llava_next(folder: Path, dropout: float = 0.0, seed: int = 0) -> Path:
    """LLaVA-NeXT with a CLIP tower of 28-pixel tiles and a Mistral LLM 32 wide; anyres grid of up to 2 x 2 tiles."""
    tokenizer = make_tokenizer(["<image>"], bos=True)
    grid = [[28, 56], [56, 28], [56, 56]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=28,
            patch_size=7,
        ),
        text_config=MistralConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            sliding_window=None,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=grid,
    )
    image_processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=grid
    )
    return save_backbone(folder, config, tokenizer, image_processor, dropout, seed)


def make_qwen2_vl(folder: Path, dropout: float = 0.0, seed: int = 0) -> Path:
    """Qwen2-VL, 32 wide."""
    marks = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = make_tokenizer(marks, bos=False)
    ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in marks}
    config = Qwen2VLConfig(
        vision_config={"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 2048,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 1, 1]},
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    image_processor = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=28 * 28 * 12)
    return save_backbone(folder, config, tokenizer, image_processor, dropout, seed)


BACKBONES = {"llava_next": make_llava_next, "qwen2_vl": make_qwen2_vl}


def write_pairs(folder: Path, rows: int = 32) -> Path:
    """MMEB-train rows of every kind, with images, hard negatives and repeated positives; returns the file."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for index in range(rows):
        size = rng.integers(20, 90, size=2)
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(folder / "images" / f"{index}.png")
    labels = ["dog", "cat", "tree", "car"]
    lines = []
    for index in range(rows):
        image, label = f"images/{index}.png", labels[index % 4]
        row = {
            "qry": "",
            "qry_image_path": "",
            "pos_text": "",
            "pos_image_path": "",
            "neg_text": "",
            "neg_image_path": "",
        }
        if index % 3 == 0:
            row |= {"qry": "<|image_1|>\nIdentify the object\n", "qry_image_path": image, "pos_text": label}
            row["neg_text"] = labels[(index + 1) % 4] if index % 2 else ""
        elif index % 3 == 1:
            row |= {"qry": f"Find an image of number {index}", "pos_text": "<|image_1|>\nRepresent the given image\n"}
            row |= {"pos_image_path": image}
        else:
            row |= {
                "qry": f"Find the text {index}",
                "pos_text": f"text number {index}",
                "neg_text": f"no text {index}",
            }
        lines.append(json.dumps(row))
    file = folder / "train_pairs.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
