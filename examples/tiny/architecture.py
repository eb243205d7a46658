# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Builds a LLaVA-Next-shaped model of a few million parameters with random weights, and its image processor."""

from dataclasses import dataclass

import torch
from transformers import (
    CLIPVisionConfig,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    MistralConfig,
    PreTrainedTokenizerFast,
)

from examples.tiny.tokenizer import IMAGE, MAX_LENGTH


@dataclass(frozen=True)
class Architecture:
    """Sizes of the model.

    Args:
        hidden_size: Width of the LLM.
        num_layers: Layers of the LLM.
        num_heads: Query heads of the LLM; it has half as many key and value heads.
        intermediate_size: Width inside the LLM's feed-forward layers.
        image_size: Pixels a side that the vision tower sees.
        patch_size: Pixels a side of a patch; an image costs 2 (image_size / patch_size)^2 + image_size / patch_size
            tokens if it is square, since LLaVA-Next shows it once as a whole and once as one tile.
        vision_hidden_size: Width of the vision tower.
        vision_layers: Layers of the vision tower; LLaVA takes the output of the last but one.
    """

    hidden_size: int = 256
    num_layers: int = 4
    num_heads: int = 4
    intermediate_size: int = 688
    image_size: int = 96
    patch_size: int = 32
    vision_hidden_size: int = 192
    vision_layers: int = 4

    def __post_init__(self) -> None:
        for wide, parts, names in (
            (self.hidden_size, self.num_heads, "hidden_size by num_heads"),
            (self.num_heads, 2, "num_heads by 2"),
            (self.image_size, self.patch_size, "image_size by patch_size"),
            (self.vision_hidden_size, 64, "vision_hidden_size by 64"),
        ):
            if wide % parts:
                raise ValueError(f"{names} must divide without rest: {wide} / {parts}")
        if self.vision_layers < 2:
            raise ValueError("vision_layers must be at least 2: the output of the last but one is used")


def build_model(
    architecture: Architecture, tokenizer: PreTrainedTokenizerFast, seed: int = 0
) -> LlavaNextForConditionalGeneration:
    """A model with random float32 weights, the same for the same seed.

    Args:
        architecture: Sizes.
        tokenizer: Gives vocabulary size and special tokens.
        seed: Seed of the weights.

    Returns:
        The model, in training mode.
    """
    text = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.num_heads,
        num_key_value_heads=architecture.num_heads // 2,
        head_dim=architecture.hidden_size // architecture.num_heads,
        max_position_embeddings=MAX_LENGTH,
        sliding_window=None,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=architecture.vision_hidden_size,
        intermediate_size=4 * architecture.vision_hidden_size,
        num_hidden_layers=architecture.vision_layers,
        num_attention_heads=architecture.vision_hidden_size // 64,
        image_size=architecture.image_size,
        patch_size=architecture.patch_size,
        projection_dim=architecture.hidden_size,
    )
    config = LlavaNextConfig(
        text_config=text,
        vision_config=vision,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_grid_pinpoints=[[architecture.image_size, architecture.image_size]],
        image_seq_length=2 * (architecture.image_size // architecture.patch_size) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaNextForConditionalGeneration(config)
        # Patches enter the tower with values about 1; CLIP's own 0.02 would hide for long where a patch is.
        model.model.vision_tower.embeddings.position_embedding.weight.data.normal_(std=1.0)
        return model.train()


def build_image_processor(architecture: Architecture) -> LlavaNextImageProcessorPil:
    """The image processor that fits the model: one view of the whole image and one tile."""
    side = architecture.image_size
    return LlavaNextImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_grid_pinpoints=[[side, side]],
    )
