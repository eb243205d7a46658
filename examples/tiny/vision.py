# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Teaches a random vision tower to see, before the LLM learns to talk about it: each patch names what it shows.

A real multimodal LLM starts from a tower that has seen millions of pictures with their captions. A tiny one has neither
the pictures nor the hours, but its drawings come with perfect labels: seconds of this replace minutes of learning the
same through an LLM that cannot read yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm
from transformers import LlavaNextForConditionalGeneration

from examples.tiny.conversations import read_rows
from examples.tiny.optimization import learning_rate_factor, make_optimizer, take_step
from unime.data.images import ImageStore

COLUMNS = {"image", "patches"}
ROUNDS = 4  # times that a picture is seen; more pictures than that allows are left out, decoding them takes longest


@dataclass(frozen=True)
class VisionSchedule:
    """How long and how fast to train the tower.

    Args:
        vision_steps: Optimizer steps.
        vision_batch_size: Pictures of a step.
        vision_learning_rate: Peak of the learning rate.
        seed: Seed of the order.
    """

    vision_steps: int = 350
    vision_batch_size: int = 64
    vision_learning_rate: float = 2e-3
    seed: int = 0


@dataclass
class LabeledPatches:
    """A picture and what each of its patches shows, in reading order; "" where that is nothing."""

    store: ImageStore
    image: str
    patches: list[str]


def read_patches(path: str, image_root: str | None = None) -> list[LabeledPatches]:
    """Read labeled pictures.

    Args:
        path: JSON Lines with the columns `image` and `patches`, a list of texts.
        image_root: Folder or zip of the images; by default they lie beside the file or in `images.zip` there.

    Raises:
        ValueError: A column is missing or rows have different numbers of patches; names file and row.
    """
    store = ImageStore.find(path, image_root)
    found: list[LabeledPatches] = []
    for number, row in enumerate(read_rows(Path(path)), start=1):
        if not set(row) >= COLUMNS:
            raise ValueError(f"{path}, row {number}: expected the columns {sorted(COLUMNS)}, found {sorted(row)}")
        if found and len(row["patches"]) != len(found[0].patches):
            raise ValueError(
                f"{path}, row {number}: {len(row['patches'])} patches, but {len(found[0].patches)} in the first row"
            )
        found.append(LabeledPatches(store, row["image"], row["patches"]))
    return found


def view_of(model: LlavaNextForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """Features of pictures (B, 3, H, W) as the LLM would get them, (B, patches, D), without the tower's class token."""
    layer = model.config.vision_feature_layer
    states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[layer]
    return model.model.multi_modal_projector(states[:, 1:])


def _pixels(rows: list[LabeledPatches], image_processor, batch_size: int = 64) -> torch.Tensor:
    """The whole view of each picture, (N, 3, H, W), without the tiles."""
    views = []
    for first in range(0, len(rows), batch_size):
        pictures = [row.store.open(row.image) for row in rows[first : first + batch_size]]
        views.append(image_processor(images=pictures, return_tensors="pt")["pixel_values"][:, 0])
    return torch.cat(views)


def _targets(rows: list[LabeledPatches], words: list[str]) -> torch.Tensor:
    """Which words name each patch, (N, patches, words), 0 or 1."""
    return torch.tensor([[[word in text.split() for word in words] for text in row.patches] for row in rows]).float()


def pretrain_vision(
    model: LlavaNextForConditionalGeneration,
    image_processor,
    rows: list[LabeledPatches],
    held_out: list[LabeledPatches],
    schedule: VisionSchedule,
) -> dict[str, float]:
    """Train vision tower and projector in place; a linear head on top is thrown away.

    Args:
        model: The model, changed in place.
        image_processor: Its image processor.
        rows: Labeled pictures.
        held_out: Labeled pictures to report on.
        schedule: How long and how fast.

    Returns:
        `loss` (running mean at the end), `pictures` (how many were used) and, over the patches of `held_out` that show
        something, `exact`: the share whose every word is right.

    Raises:
        ValueError: The number of labels is not the number of patches that the tower sees.
    """
    rows = rows[: max(schedule.vision_steps * schedule.vision_batch_size // ROUNDS, schedule.vision_batch_size)]
    words = sorted({word for row in rows for text in row.patches for word in text.split()})
    vision = model.config.vision_config
    seen = (vision.image_size // vision.patch_size) ** 2
    if len(rows[0].patches) != seen:
        raise ValueError(f"{len(rows[0].patches)} labels a picture, but the tower sees {seen} patches; set patch_size")
    generator = torch.Generator().manual_seed(schedule.seed)
    head = nn.Linear(model.config.text_config.hidden_size, len(words))
    trained = nn.ModuleList([model.model.vision_tower, model.model.multi_modal_projector, head]).train()
    optimizer = make_optimizer(trained, schedule.vision_learning_rate)
    pixels, targets = _pixels(rows, image_processor), _targets(rows, words)
    running = None
    bar = tqdm(range(schedule.vision_steps), desc="vision tower", unit="step", mininterval=2)
    for step in bar:
        chosen = torch.randint(len(rows), (schedule.vision_batch_size,), generator=generator)
        logits = head(view_of(model, pixels[chosen]))
        loss = functional.binary_cross_entropy_with_logits(logits, targets[chosen])
        rate = schedule.vision_learning_rate * learning_rate_factor(step / schedule.vision_steps)
        take_step(trained, optimizer, loss, rate)
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
        bar.set_postfix(loss=f"{running:.4f}", refresh=False)
    bar.close()
    report = {"loss": running, "pictures": len(rows)}
    if held_out:
        wanted = _targets(held_out, words).bool()
        with torch.no_grad():
            said = head(view_of(model, _pixels(held_out, image_processor))) > 0
        report["exact"] = (said == wanted).all(-1)[wanted.any(-1)].float().mean().item()
    return report
