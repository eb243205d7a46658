# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Teaches the projector to speak the LLM's words: a picture's tokens come to lie where the words that name it lie.

The features of the frozen tower are computed once, so that an epoch over them takes seconds. The contrast is between
the mean of a picture's tokens and the mean of the LLM's own word vectors of its caption, against the other captions of
the batch; afterwards the tokens get the length of word vectors. No layer of the LLM runs or changes.
"""

from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from examples.small_real.parts import multiplies_in_bf16

TEMPERATURE = 0.05


@dataclass(frozen=True)
class AlignmentSchedule:
    """How long and how fast to train the projector.

    Args:
        alignment_steps: Optimizer steps; 0 leaves the projector random.
        alignment_batch_size: Pictures of a step.
        alignment_learning_rate: Peak of the learning rate.
        seed: Seed of the order.
    """

    alignment_steps: int = 200
    alignment_batch_size: int = 64
    alignment_learning_rate: float = 1e-3
    seed: int = 0


@torch.no_grad()
def tower_features(tower: nn.Module, image_processor, pictures, batch_size: int = 32) -> torch.Tensor:
    """(N, tokens, D) features of pictures, which `pictures` yields one by one."""
    pictures = iter(tqdm(pictures, desc="pictures through the tower", unit="", mininterval=2))
    features = []
    while batch := list(islice(pictures, batch_size)):
        pixels = image_processor(images=batch, return_tensors="pt")
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=multiplies_in_bf16()):  # a third of the time
            features.append(tower(**pixels).last_hidden_state.float())
    return torch.cat(features)


@torch.no_grad()
def caption_vectors(embeddings: nn.Embedding, tokenizer, captions: list[str]) -> torch.Tensor:
    """(N, D) means of the word vectors of captions, without what all words have in common."""
    common = embeddings.weight.mean(0)
    ids = tokenizer(captions, add_special_tokens=False)["input_ids"]
    return torch.stack([(embeddings.weight[row] - common).mean(0) for row in ids])


def align(
    projector: nn.Module,
    features: torch.Tensor,
    captions: list[list[str]],
    embeddings: nn.Embedding,
    tokenizer,
    schedule: AlignmentSchedule,
) -> dict[str, float]:
    """Train the projector in place.

    Args:
        projector: (B, tokens, D) features of the tower to (B, tokens, hidden) tokens of the LLM.
        features: (N, tokens, D) of N pictures.
        captions: What names each of them: one text or several, of which a step takes one.
        embeddings: The LLM's word vectors, which stay as they are.
        tokenizer: The LLM's.
        schedule: How long and how fast.

    Returns:
        `loss` (running mean at the end) and `pictures`.
    """
    distinct = list(dict.fromkeys(text for texts in captions for text in texts))
    vectors = caption_vectors(embeddings, tokenizer, distinct)  # (T, D)
    number = {text: index for index, text in enumerate(distinct)}
    numbers = [[number[text] for text in texts] for texts in captions]
    common = embeddings.weight.detach().mean(0)
    generator = torch.Generator().manual_seed(schedule.seed)
    optimizer = torch.optim.AdamW(projector.parameters(), lr=schedule.alignment_learning_rate, weight_decay=0.01)
    steps = schedule.alignment_steps
    decay = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.alignment_learning_rate, max(steps, 1), pct_start=0.1
    )
    running = None
    for _ in tqdm(range(steps), desc="alignment", unit="step", mininterval=2):
        chosen = torch.randint(len(features), (schedule.alignment_batch_size,), generator=generator).tolist()
        texts = torch.tensor(
            [numbers[row][torch.randint(len(numbers[row]), (), generator=generator)] for row in chosen]
        )
        seen = projector(features[chosen]).mean(1) - common  # (B, D)
        scores = functional.normalize(seen, dim=-1) @ functional.normalize(vectors[texts], dim=-1).T / TEMPERATURE
        same = texts[:, None] == texts[None]
        scores = scores.masked_fill(same & ~torch.eye(len(texts), dtype=torch.bool), -torch.inf)
        loss = functional.cross_entropy(scores, torch.arange(len(texts)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
    match_length(projector, features[: schedule.alignment_batch_size], embeddings)
    return {"loss": running, "pictures": len(features)}


@torch.no_grad()
def match_length(projector: nn.Module, features: torch.Tensor, embeddings: nn.Embedding) -> None:
    """Give the projector's tokens the mean length of word vectors, which is what the LLM has learnt to read."""
    factor = embeddings.weight.norm(dim=-1).mean() / projector(features).norm(dim=-1).mean()
    projector.linear_2.weight.mul_(factor)
    projector.linear_2.bias.mul_(factor)
