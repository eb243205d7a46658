# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Texts tokenised once: the model sees what `processor(text=...)` would have given it in every step."""

import pickle

import numpy as np
import pytest
import torch
from tiny_models import BACKBONES

import trainers.data.tokens
from modeling_unime import UniMEProcessor
from trainers.chunks import ChunkLimits
from trainers.collators import TextCollator
from trainers.data.text_dataset import TextDataset
from trainers.data.tokens import TokenizedTexts

TEXTS = [
    "A dog.",
    "x" * 200,
    "two\nlines ",
    "<image> stray token",
    "<|image_1|>\nraw text of MMEB",
    "mañana 🐕",
    "The quick brown fox jumps over the lazy dog. " * 4,
    "b",
]


class NumberTeacher:
    """The vector of row i is i."""

    def take(self, rows):
        return np.asarray(rows, np.float32)[:, None]


@pytest.mark.parametrize("family", sorted(BACKBONES))
@pytest.mark.parametrize("max_length", [None, 120])
def test_batches_are_the_processors(backbones, family, max_length, monkeypatch):
    processor = UniMEProcessor.from_backbone(backbones[family])
    monkeypatch.setattr(trainers.data.tokens, "BLOCK", 3)  # texts in three blocks
    tokens = TokenizedTexts.of(processor, TEXTS, max_length, progress=False)
    batch = TextCollator(processor, ChunkLimits(3))(list(TextDataset(tokens, NumberTeacher())))
    order = batch["teacher"].squeeze(1).int().tolist()
    assert sorted(order) == list(range(8)) != order
    lengths = []
    for start, chunk in zip((0, 3, 6), batch["chunks"], strict=True):
        expected = processor(text=[TEXTS[row] for row in order[start : start + 3]], max_length=max_length)
        assert expected.keys() == chunk.keys() == {"input_ids", "attention_mask"}
        for name, value in expected.items():
            assert chunk[name].dtype == value.dtype and torch.equal(chunk[name], value)
        lengths += chunk["attention_mask"].sum(dim=1).tolist()
    assert lengths == sorted(lengths)
    if max_length is not None:
        assert lengths[-2:] == [120, 120] and "x" * 40 in processor.tokenizer.decode(tokens[1].tolist())


def test_one_array_that_workers_can_share(backbones):
    tokens = TokenizedTexts.of(UniMEProcessor.from_backbone(backbones["llava_next"]), TEXTS)
    assert tokens.ids.dtype == np.int32 and tokens.ids.nbytes == 4 * sum(map(len, tokens))
    assert tokens[3].base is not None, "a view, not a copy"
    copy = pickle.loads(pickle.dumps(tokens))
    assert all(np.array_equal(one, other) for one, other in zip(tokens, copy, strict=True))


@pytest.mark.parametrize(
    "bad, max_length, message",
    [
        ("<image>", None, "the text '<image>' cannot be trained on: it is empty or nothing but image tokens"),
        ("", None, "the text '' cannot be trained on: it is empty"),
    ],
)
def test_bad_text_is_quoted(backbones, bad, max_length, message):
    processor = UniMEProcessor.from_backbone(backbones["llava_next"])
    with pytest.raises(ValueError, match=message):
        TokenizedTexts.of(processor, ["good", "also good", bad], max_length)


def test_max_length_below_the_prompt_is_refused_at_once(backbones):
    processor = UniMEProcessor.from_backbone(backbones["llava_next"])
    with pytest.raises(ValueError, match="the text 'A dog.' cannot be tokenised: .*but max_length is 10"):
        TokenizedTexts.of(processor, TEXTS, 10)
