# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Reads the pre-training material and packs it into batches.

An image costs more tokens than a question about it, so several questions share one image: the sequence is the image
followed by all turns, and a block mask lets each turn see the image and itself only. Every turn gets the positions it
would have alone. The model thus sees exactly what it would see in separate sequences, several times cheaper.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from examples.tiny.tokenizer import IMAGE, TURN_END, TURN_START
from modeling_unime.families import get_family, read_geometry
from unime.data.example import MMEB_IMAGE
from unime.data.images import ImageStore

HEAD = f"{TURN_START} {IMAGE}"
PAIR_COLUMNS = {"image", "prompt", "answer"}
MMEB_COLUMNS = {"qry", "qry_image_path", "pos_text"}
IGNORED = -1  # segment number of padding


@dataclass
class Turn:
    """A question and its answer about an image; `kind` groups the report."""

    prompt: str
    answer: str
    kind: str


@dataclass
class Conversation:
    """An image and everything asked about it."""

    store: ImageStore
    image: str
    turns: list[Turn] = field(default_factory=list)


def read_rows(path: Path) -> Iterator[dict[str, object]]:
    """Rows of a JSON Lines file, gzipped or not.

    Raises:
        ValueError: A line is no JSON object; names file and line.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: expected an object with columns, got {type(row).__name__}")
            yield row


def read_texts(source: str) -> list[str]:
    """All texts of a file, each once.

    Args:
        source: `FILE` takes every string (and list of strings) of every row, `FILE::column,column` those columns only.

    Raises:
        ValueError: A named column is missing; names the file, the row and the columns there are.
    """
    name, _, columns = source.partition("::")
    wanted = [column for column in columns.split(",") if column]
    texts: dict[str, None] = {}
    for number, row in enumerate(read_rows(Path(name)), start=1):
        for column in wanted or row:
            if column not in row:
                raise ValueError(f"{name}, row {number}: no column {column!r}; there are {', '.join(row)}")
            value = row[column]
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str) and text.strip():
                    texts[text.strip()] = None
    return list(texts)


def read_conversations(path: str, image_root: str | None = None) -> list[Conversation]:
    """Group the rows of a file by image.

    Args:
        path: JSON Lines with the columns `image`, `prompt`, `answer` (and perhaps `kind`), or MMEB training rows, of
            which those with an image as query and nothing but text as positive are used.
        image_root: Folder or zip of the images; by default they lie beside the file or in `images.zip` there.

    Raises:
        ValueError: Neither form; names the file and its columns. Or an image is missing.
    """
    store = ImageStore.find(path, image_root)
    conversations: dict[str, Conversation] = {}
    for row in read_rows(Path(path)):
        if PAIR_COLUMNS <= set(row):
            image, turn = row["image"], Turn(row["prompt"], row["answer"], row.get("kind", "answer"))
        elif MMEB_COLUMNS <= set(row):
            if not row["qry_image_path"] or not row["pos_text"] or row.get("pos_image_path"):
                continue
            prompt = MMEB_IMAGE.sub("", row["qry"]).strip()
            image, turn = row["qry_image_path"], Turn(prompt, row["pos_text"], Path(path).stem)
        else:
            raise ValueError(
                f"{path}: expected the columns {sorted(PAIR_COLUMNS)} or {sorted(MMEB_COLUMNS)}, found {sorted(row)}"
            )
        if image not in conversations:
            if not store.exists(image):
                raise ValueError(f"{path}: image {image!r} is not in {store!r}")
            conversations[image] = Conversation(store, image)
        conversations[image].turns.append(turn)
    return list(conversations.values())


class Collator:
    """Turns conversations into model inputs with targets.

    Args:
        tokenizer: The tokenizer.
        image_processor: The image processor of the model.
        config: The model's configuration; it decides how many tokens an image takes.
        max_turn_length: Tokens of a question with its answer; the rest is cut.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, image_processor, config, max_turn_length: int = 128
    ) -> None:
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.max_turn_length = max_turn_length
        family = get_family(config.model_type)
        self._count_tokens = family.count_image_tokens
        self._geometry = read_geometry(family, config)
        self._head = tokenizer(HEAD)["input_ids"]  # <s> [INST] <image>, the last one being repeated for the image
        self._ids: dict[str, list[int]] = {}

    def _encode(self, text: str) -> list[int]:
        if text not in self._ids:
            self._ids[text] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._ids[text]

    def encode_turn(self, turn: Turn) -> tuple[list[int], int]:
        """Token ids of a turn behind its image, and how many of them at the end are the answer with its `</s>`."""
        prompt = self._encode(f"\n{turn.prompt} {TURN_END}")
        answer = [*self._encode(turn.answer), self.tokenizer.eos_token_id]
        ids = (prompt + answer)[: self.max_turn_length]
        return ids, max(len(ids) - len(prompt), 0)

    def __call__(self, conversations: list[Conversation]) -> dict[str, torch.Tensor]:
        """A batch.

        Args:
            conversations: B images with the turns to train on.

        Returns:
            `input_ids`, `position_ids`, `segments` (turn number, 0 for the image part, -1 for padding) and `targets`
            (whether the token is to be predicted), all (B, L); `attention_mask` (B, 1, L, L), True where a token sees
            another; `pixel_values` and `image_sizes` as the image processor makes them.
        """
        pictures = [conversation.store.open(conversation.image) for conversation in conversations]
        pixels = self.image_processor(images=pictures, return_tensors="pt")
        rows = []
        for conversation, count in zip(conversations, self._count_tokens(pixels, self._geometry), strict=True):
            head = self._head[:-1] + self._head[-1:] * count
            ids, positions, segments, targets = (
                list(head),
                list(range(len(head))),
                [0] * len(head),
                [False] * len(head),
            )
            for number, turn in enumerate(conversation.turns, start=1):
                turn_ids, answer_length = self.encode_turn(turn)
                ids += turn_ids
                positions += range(len(head), len(head) + len(turn_ids))
                segments += [number] * len(turn_ids)
                targets += [False] * (len(turn_ids) - answer_length) + [True] * answer_length
            rows.append((ids, positions, segments, targets))
        batch = {
            name: _pad([row[index] for row in rows], fill)
            for index, (name, fill) in enumerate(
                (
                    ("input_ids", self.tokenizer.pad_token_id),
                    ("position_ids", 0),
                    ("segments", IGNORED),
                    ("targets", 0),
                )
            )
        }
        batch["targets"] = batch["targets"].bool()
        batch["attention_mask"] = block_mask(batch["segments"])
        return {**batch, "pixel_values": pixels["pixel_values"], "image_sizes": pixels["image_sizes"]}


def _pad(rows: list[list[int]], fill: int) -> torch.Tensor:
    """Lists of different lengths as one tensor (B, L), padded on the right."""
    length = max(map(len, rows))
    return torch.tensor([row + [fill] * (length - len(row)) for row in rows])


def block_mask(segments: torch.Tensor) -> torch.Tensor:
    """Who sees whom: earlier tokens of the image part and of the own turn.

    Args:
        segments: (B, L), 0 for the image part, 1, 2, ... for the turns, -1 for padding.

    Returns:
        (B, 1, L, L), True where the row's token sees the column's token.
    """
    length = segments.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()  # (L, L)
    same = segments[:, :, None] == segments[:, None, :]  # (B, L, L)
    return (earlier & (same | (segments == 0)[:, None, :]))[:, None]


class TurnSampler:
    """Endless batches of images, each with some of its turns, every image once per round.

    Args:
        conversations: The material.
        batch_size: Images of a batch.
        turns_per_image: Turns drawn for each image at a time.
        seed: Seed of the order.
    """

    def __init__(self, conversations: list[Conversation], batch_size: int, turns_per_image: int, seed: int) -> None:
        self.conversations = conversations
        self.batch_size = batch_size
        self.turns_per_image = turns_per_image
        self.rng = random.Random(seed)

    def __iter__(self) -> Iterator[list[Conversation]]:
        queue: list[Conversation] = []
        while True:
            while len(queue) < self.batch_size:
                queue += self.rng.sample(self.conversations, len(self.conversations))
            batch, queue = queue[: self.batch_size], queue[self.batch_size :]
            yield [
                Conversation(
                    item.store, item.image, self.rng.sample(item.turns, min(self.turns_per_image, len(item.turns)))
                )
                for item in batch
            ]
