# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A stand-in for model and processor, and small data files, shared by the tests of `evaluation`."""

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from evaluation.encoder import Encoder

WIDTH = 16


class HashProcessor:
    """Gives each (text, image, instruction) a random but fixed vector and counts what it was asked for."""

    def __init__(self):
        self.calls: list[tuple] = []

    def __call__(self, text, images, instruction, return_tensors):
        assert return_tensors == "pt"
        instructions = instruction if isinstance(instruction, list) else [instruction] * len(text)
        rows = []
        for example in zip(text, images, instructions, strict=True):
            self.calls.append(example)
            pixels = b"" if example[1] is None else example[1].tobytes()
            digest = hashlib.sha256(repr((example[0], example[2])).encode() + pixels).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
            rows.append(torch.randn(WIDTH, generator=generator))
        return {"features": torch.stack(rows)}  # (B, WIDTH)


class PassThrough(torch.nn.Module):
    """Normalises the features; `spoil` may change the embeddings (B, WIDTH)."""

    def __init__(self, spoil=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.spoil = spoil

    def forward(self, features):
        embeddings = torch.nn.functional.normalize(features * self.weight, dim=-1)
        return SimpleNamespace(embeddings=embeddings if self.spoil is None else self.spoil(embeddings))


@pytest.fixture
def make_encoder():
    """Build an `Encoder` around the stand-ins; its processor records the calls."""

    def make(spoil=None, **options) -> Encoder:
        return Encoder(PassThrough(spoil), HashProcessor(), **options)

    return make


@pytest.fixture
def write_rows(tmp_path):
    """Write rows as JSON Lines, by default into a folder called `set`."""

    def write(rows: list, name: str = "set/eval_toy.jsonl") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path

    return write


def text_row(query: str, *candidates: str) -> dict:
    """An MMEB row without images; the first candidate is right."""
    return {
        "qry_text": query,
        "qry_img_path": "",
        "tgt_text": list(candidates),
        "tgt_img_path": [""] * len(candidates),
    }


@pytest.fixture(name="text_row")
def text_row_fixture():
    """`text_row` as a fixture."""
    return text_row
