# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Vectors of contents: each computed once over all data sets of a run, by all its processes, and kept for later runs.

A key stands for a text, an instruction and pixels, so a vector is found again under whatever data set and suite. Batches
are planned over all contents, those that are there included, whatever the number of processes: a run that was killed, or
shared differently, makes the same batches and so the same files, bit for bit (on CPUs, with as many threads per process).
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from evaluation.arguments import EvaluationArguments
from evaluation.encoder import BaseEncoder, EncodingError, unusable_rows
from evaluation.modality_sum import add_parts, split_modalities
from unime.data.content import ContentIndex
from unime.data.example import Example
from unime.distributed import LongWaitGroup
from unime.store import Store, key_of

BATCHES_OF_A_FILE = 4  # what a killed process loses at most
FULL_ENOUGH, ALIKE = (
    16,
    0.8,
)  # a batch of so many takes no more examples of less than this share of its longest one's tokens
IMAGE_TOKENS = 576  # of an image whose number of tokens is not known: LLaVA's


class Content(NamedTuple):
    """What is encoded: its key, the example, and about how many tokens that takes."""

    key: bytes
    example: Example
    tokens: int


class Vectors:
    """Vectors of contents, on disk or, for a model that changes, in memory.

    Example::

        vectors = Vectors(folder, identity)
        vectors.encode(lambda: [task.index], lambda: encoder)
        score = task.score(vectors.take(task.index, task.name))

    Args:
        folder: where they are kept; `None`: in memory. All processes must see the same one.
        identity: what they depend on beside the content, ready for JSON: see `encoder_identity`.
        mixed: "sum" encodes text and image of an example by themselves and adds them up.
        batch_size: examples of a forward pass, at most.
        batch_tokens: tokens of a forward pass, padding and images' included, as estimated from lengths and sizes, at most;
            an example that takes more is encoded by itself.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        identity: object = None,
        mixed: str = "joint",
        batch_size: int = 256,
        batch_tokens: int = 16384,
    ):
        self.store = Store(folder, identity)
        self.mixed = mixed
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self._faults: dict[bytes, str] = {}

    @classmethod
    def of(cls, arguments: EvaluationArguments, identity: dict[str, Any]) -> "Vectors":
        """The vectors of the model that the options name, whose `encoder_identity` is given, where they say."""
        identity = {name: fact for name, fact in identity.items() if name != "mixed"}  # parts have keys of their own
        folder = arguments.vectors or Path(arguments.output, "vectors")
        return cls(folder, identity, arguments.mixed, arguments.batch_size, arguments.batch_tokens)

    def encode(
        self, collect: Callable[[], Sequence[ContentIndex]], load_encoder: Callable[[], BaseEncoder]
    ) -> "Vectors":
        """Compute what is missing; all processes of a run call it, and wait for each other.

        Args:
            collect: gives the contents; called on the first process, whose error ends the others.
            load_encoder: called where something is left to encode.
        """
        with LongWaitGroup() as ranks:
            pieces = ranks.broadcast_from_main(lambda: self._plan(collect()))
            mine = self._share(pieces, ranks.rank, ranks.size)
            if mine:
                self._compute(mine, load_encoder(), show=ranks.rank == 0)
            for faults in ranks.gather(self._faults):
                self._faults |= faults
            self.store.share(ranks)
        return self

    def take(self, index: ContentIndex, what: str) -> np.ndarray:
        """Vectors of the contents of an index, (U, D) float32; on the first process, after `encode`.

        Raises:
            EncodingError: a content could not be encoded, or got an unusable embedding; `what` begins the message.
        """
        groups = [self._parts(example) for example in index.examples]
        keys = [_key(part, index) for group in groups for part in group]
        for key in keys:
            if key in self._faults:
                raise EncodingError(f"{what}: {self._faults[key]}")
        vectors = self.store.read(keys)
        return vectors if self.mixed == "joint" else add_parts(index.examples, groups, vectors, what)

    def _parts(self, example: Example) -> list[Example]:
        return split_modalities(example) if self.mixed == "sum" else [example]

    def _plan(self, indexes: Iterable[ContentIndex]) -> list[list[list[Content]]]:
        """Pieces of work, lists of batches, without what is there."""
        contents: dict[bytes, Content] = {}
        for index in indexes:
            for example in index.examples:
                for part in self._parts(example):
                    key = _key(part, index)
                    if key not in contents:
                        contents[key] = Content(key, part, _count_tokens(part, index))
        # The costliest first, so that memory runs out at once if it does; images apart from texts.
        order = sorted(contents.values(), key=lambda one: (one.example.image is not None, one.tokens), reverse=True)
        batches: list[list[Content]] = []
        for content in order:
            batch = batches[-1] if batches else []
            fits = batch and len(batch) < self.batch_size and (len(batch) + 1) * batch[0].tokens <= self.batch_tokens
            fits = fits and (len(batch) < FULL_ENOUGH or content.tokens >= ALIKE * batch[0].tokens)
            if fits and (batch[0].example.image is None) == (content.example.image is None):
                batch.append(content)
            else:
                batches.append([content])
        missing = self.store.missing(list(contents))
        size = BATCHES_OF_A_FILE if self.store.folder else 1
        pieces = [batches[start : start + size] for start in range(0, len(batches), size)]
        pieces = [[[one for one in batch if one.key in missing] for batch in piece] for piece in pieces]
        pieces = [[batch for batch in piece if batch] for piece in pieces]
        return [piece for piece in pieces if piece]

    def _share(self, pieces: list[list[list[Content]]], rank: int, size: int) -> list[list[list[Content]]]:
        if self.store.folder:
            return pieces[rank::size]
        # A model in training may have its weights spread over all processes, which then go through it in step, with images
        # or without: the last pieces are encoded several times, and count once.
        shares = []
        for has_image in (True, False):
            group = [piece for piece in pieces if (piece[0][0].example.image is not None) == has_image]
            group += group[-1:] * (-len(group) % size)
            shares += group[rank::size]
        return shares

    def _compute(self, pieces: list[list[list[Content]]], encoder: BaseEncoder, show: bool) -> None:
        for batch in (batch for piece in pieces for batch in piece):
            self._faults |= {one.key: fault for one in batch if (fault := encoder.refusal(one.example))}
        pieces = [[[one for one in batch if one.key not in self._faults] for batch in piece] for piece in pieces]
        pieces = [[batch for batch in piece if batch] for piece in pieces]
        batches = [batch for piece in pieces for batch in piece]
        if not batches:
            return
        outputs = iter(encoder.encode_batches([[one.example for one in batch] for batch in batches]))
        total = sum(one.tokens for batch in batches for one in batch)
        with tqdm(total=total, desc="encoding", unit="token", unit_scale=True, disable=None if show else True) as bar:
            for piece in filter(None, pieces):
                keys, rows = [], []
                for batch in piece:
                    output = next(outputs)  # (B, D)
                    if len(output) != len(batch):
                        raise EncodingError(f"{len(batch)} examples gave {len(output)} embeddings")
                    unusable = unusable_rows([one.example for one in batch], output)
                    self._faults |= {batch[row].key: fault for row, fault in unusable.items()}
                    good = [row for row in range(len(batch)) if row not in unusable]
                    keys += [batch[row].key for row in good]
                    rows.append(output[good])
                    bar.update(sum(one.tokens for one in batch))
                if keys:
                    self.store.write(keys, np.concatenate(rows).astype(np.float32))


def _key(example: Example, index: ContentIndex) -> bytes:
    """16 bytes that stand for a content: to the letter, since white space at the ends changes a prompt."""
    return key_of(example.text, example.instruction, index.picture(example).hex())


def _count_tokens(example: Example, index: ContentIndex) -> int:
    tokens = 16 + len(f"{example.text or ''}{example.instruction or ''}".encode()) // 4
    return tokens if example.image is None else tokens + (index.image_tokens(example) or IMAGE_TOKENS)
