# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A short generative pre-training: answer questions about images, continue sentences. Plain PyTorch on the CPU."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional
from tqdm import tqdm
from transformers import LlavaNextForConditionalGeneration, PreTrainedTokenizerFast

from examples.tiny.conversations import Collator, Conversation, TurnSampler
from examples.tiny.optimization import learning_rate_factor, make_optimizer, take_step


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Args:
        steps: Optimizer steps.
        max_minutes: Stop after that many minutes all the same; the learning rate comes down in time. 0: no limit.
        batch_size: Images of a step.
        turns_per_image: Questions answered about each image of a step.
        text_share: Share of the steps that read sentences instead of images.
        text_batch_tokens: Tokens of such a step.
        learning_rate: Peak of the learning rate, reached after `warmup` of the run, then falling as a cosine.
        warmup: Share of the run, 0 to 1.
        seed: Seed of the order.
    """

    steps: int
    max_minutes: float = 0.0
    batch_size: int = 32
    turns_per_image: int = 6
    text_share: float = 0.15
    text_batch_tokens: int = 2048
    learning_rate: float = 1e-3
    warmup: float = 0.05
    seed: int = 0


def answer_logits(
    model: LlavaNextForConditionalGeneration, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits at the places where an answer token comes next, and those tokens.

    Args:
        model: The model.
        batch: From `Collator`.

    Returns:
        (T, V) logits and (T,) token ids, T being the number of answer tokens of the batch.
    """
    inputs = {
        key: batch[key] for key in ("input_ids", "attention_mask", "position_ids", "pixel_values", "image_sizes")
    }
    hidden = model.model(**inputs, use_cache=False).last_hidden_state  # (B, L, D)
    next_is_answer = batch["targets"][:, 1:]  # (B, L - 1)
    return model.lm_head(hidden[:, :-1][next_is_answer]), batch["input_ids"][:, 1:][next_is_answer]


def text_blocks(
    texts: list[str], tokenizer: PreTrainedTokenizerFast, batch_tokens: int, seed: int, block: int = 64
) -> Iterator[torch.Tensor]:
    """Endless blocks (batch_tokens / 64, 64) of sentences strung together, shuffled anew in each round."""
    encoded = [[*ids, tokenizer.eos_token_id] for ids in tokenizer(texts)["input_ids"]]
    rng, stream = random.Random(seed), []
    rows = max(batch_tokens // block, 1)
    while True:
        rng.shuffle(encoded)
        for ids in encoded:
            stream += ids
            if len(stream) >= rows * block:
                yield torch.tensor(stream[: rows * block]).view(rows, block)
                stream = stream[rows * block :]


def text_loss(model: LlavaNextForConditionalGeneration, ids: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss of blocks of text (B, L)."""
    hidden = model.model.language_model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]  # (B, L - 1, D)
    return functional.cross_entropy(model.lm_head(hidden).flatten(0, 1), ids[:, 1:].flatten())


def pretrain(
    model: LlavaNextForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    collator: Collator,
    conversations: list[Conversation],
    texts: list[str],
    schedule: Schedule,
) -> list[dict[str, float]]:
    """Train all weights of the model in place.

    Args:
        model: The model, changed in place.
        tokenizer: Its tokenizer.
        collator: Makes batches.
        conversations: Images with questions and answers; may be empty, then only texts are read.
        texts: Sentences; may be empty if there are images.
        schedule: How long and how fast.

    Returns:
        The loss history: `step`, `seconds`, `answer_loss`, `text_loss` (running means) about every hundredth of the run.
    """
    if not conversations and not texts:
        raise ValueError("nothing to pre-train on: give --pairs, --texts or both")
    optimizer = make_optimizer(model, schedule.learning_rate)
    image_batches = iter(
        TurnSampler(conversations, schedule.batch_size, schedule.turns_per_image, schedule.seed)
        if conversations
        else ()
    )
    blocks = text_blocks(texts, tokenizer, schedule.text_batch_tokens, schedule.seed)
    text_share = schedule.text_share if texts and conversations else float(bool(texts))
    running: dict[str, float] = {}
    history: list[dict[str, float]] = []
    start, progress, text_debt = time.monotonic(), 0.0, 0.0
    model.train()
    bar = tqdm(range(schedule.steps), desc="pre-training", unit="step", mininterval=2)
    for step in bar:
        text_debt += text_share
        if text_debt >= 1:
            text_debt -= 1
            name, loss = "text_loss", text_loss(model, next(blocks))
        else:
            name, loss = "answer_loss", functional.cross_entropy(*answer_logits(model, collator(next(image_batches))))
        rate = schedule.learning_rate * learning_rate_factor(progress, schedule.warmup)
        take_step(model, optimizer, loss, rate)
        running[name] = 0.95 * running.get(name, loss.item()) + 0.05 * loss.item()
        seconds = time.monotonic() - start
        progress = (step + 1) / schedule.steps
        if schedule.max_minutes:
            progress = max(progress, seconds / (60 * schedule.max_minutes))
        if not (step + 1) % max(schedule.steps // 100, 1) or progress >= 1:
            bar.set_postfix({key: f"{value:.3f}" for key, value in running.items()})
            history.append({"step": step + 1, "seconds": round(seconds, 2), **running})
        if progress >= 1:
            break
    bar.close()
    return history


@torch.no_grad()
def evaluate(
    model: LlavaNextForConditionalGeneration,
    collator: Collator,
    conversations: list[Conversation],
    batch_size: int = 32,
) -> dict[str, dict[str, float]]:
    """How well the model answers about images.

    Args:
        model: The model.
        collator: Makes batches.
        conversations: Held-out images with all their turns.
        batch_size: Images at a time.

    Returns:
        For "all" and for each kind of turn: `token_accuracy` (right next tokens, the answer so far given) and
        `exact` (share of answers right in every token, which is what greedy decoding would write), and `answers`.
    """
    model.eval()
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])  # right tokens, tokens, right answers, answers
    for first in range(0, len(conversations), batch_size):
        chosen = conversations[first : first + batch_size]
        batch = collator(chosen)
        logits, wanted = answer_logits(model, batch)
        right = (logits.argmax(-1) == wanted).tolist()
        where = batch["targets"][:, 1:].nonzero().tolist()  # (T, 2), in the order of the logits
        answers: dict[tuple[int, int], list[bool]] = defaultdict(list)
        for (row, column), hit in zip(where, right, strict=True):
            answers[row, batch["segments"][row, column + 1].item()].append(hit)
        for (row, number), hits in answers.items():
            for kind in ("all", chosen[row].turns[number - 1].kind):
                for index, value in enumerate((sum(hits), len(hits), all(hits), 1)):
                    counts[kind][index] += value
    return {
        kind: {"token_accuracy": tokens_right / tokens, "exact": exact / answers, "answers": answers}
        for kind, (tokens_right, tokens, exact, answers) in sorted(counts.items())
    }
