# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The random model that the step benchmarks train: LLaVA-NeXT's shape, a vocabulary of the usual size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import LlavaNextForConditionalGeneration

from examples.tiny.architecture import Architecture, build_image_processor, build_model
from examples.tiny.tokenizer import train_tokenizer
from modeling_unime import UniMEModel, UniMEProcessor

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass
class StepModelArguments:
    """Sizes of the model."""

    vocab_size: int = field(default=32000, metadata={"help": "Tokens of the vocabulary."})
    hidden_size: int = field(default=512, metadata={"help": "Width of the LLM."})
    num_layers: int = field(default=6, metadata={"help": "Layers of the LLM."})
    image_size: int = field(default=56, metadata={"help": "Pixels a side that the vision tower sees."})
    patch_size: int = field(default=14, metadata={"help": "Pixels a side of a patch."})
    vision_hidden_size: int = field(default=256, metadata={"help": "Width of the vision tower."})
    vision_layers: int = field(default=4, metadata={"help": "Layers of the vision tower."})
    seed: int = field(default=0, metadata={"help": "Of weights and order of the data."})


def adamw(parameters: Iterable[torch.nn.Parameter]) -> torch.optim.AdamW:
    """The optimizer of all ways, fused as transformers' Trainer has it by default.

    Its learning rate is 0: a step costs the same, and all rounds measure the same model.
    """
    return torch.optim.AdamW([parameter for parameter in parameters if parameter.requires_grad], lr=0.0, fused=True)


def save_step_model(folder: Path, arguments: StepModelArguments, texts: Sequence[str]) -> int:
    """Write a backbone with random weights whose tokenizer has learnt from `texts`.

    Args:
        folder: Where to.
        arguments: Sizes.
        texts: What the tokenizer learns from; it gets fewer tokens than `vocab_size` if they are few.

    Returns:
        Number of parameters, LM head included.
    """
    tokenizer = train_tokenizer(texts, arguments.vocab_size)
    architecture = Architecture(
        hidden_size=arguments.hidden_size,
        num_layers=arguments.num_layers,
        num_heads=max(2, arguments.hidden_size // 64),
        intermediate_size=2 * arguments.hidden_size + arguments.hidden_size // 2,
        image_size=arguments.image_size,
        patch_size=arguments.patch_size,
        vision_hidden_size=arguments.vision_hidden_size,
        vision_layers=arguments.vision_layers,
    )
    model = build_model(architecture, tokenizer, arguments.seed)
    model.resize_token_embeddings(arguments.vocab_size, mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    build_image_processor(architecture).save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def load_causal_lm(folder: Path) -> LlavaNextForConditionalGeneration:
    """The model of `folder` with its LM head; only the LLM is trained, as in all ways."""
    model = LlavaNextForConditionalGeneration.from_pretrained(folder).train()
    model.requires_grad_(False)
    model.model.language_model.requires_grad_(True)
    return model


def load_sentence_transformer(folder: Path) -> SentenceTransformer:
    """The model of `folder` through the other library; only the LLM is trained, as in all ways."""
    from sentence_transformers import SentenceTransformer

    saved = folder / "unime"
    if not saved.exists():
        for kind in (UniMEModel, UniMEProcessor):
            kind.from_backbone(str(folder)).save_pretrained(saved)
    model = SentenceTransformer(str(saved), trust_remote_code=True, device="cpu").train()
    unime = model[0].model
    unime.requires_grad_(False)
    unime.language_model.requires_grad_(True)
    return model
