# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Texts tokenised once: the model sees what `processor(text=...)` would have given it in every step."""

import pickle
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, DatasetDict
from tiny_models import BACKBONES
from tiny_teachers import FakeTeacher

import trainers.data.text_dataset
from modeling_unime import UniMEProcessor
from trainers.chunks import ChunkLimits
from trainers.collators import TextCollator
from trainers.data.text_dataset import TextDataset, make_text_dataset, tokenize

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


@pytest.mark.parametrize("family", sorted(BACKBONES))
@pytest.mark.parametrize("max_length", [None, 120])
def test_batches_are_the_processors(backbones, family, max_length, monkeypatch):
    processor = UniMEProcessor.from_backbone(backbones[family])
    monkeypatch.setattr(trainers.data.text_dataset, "BLOCK", 3)  # texts in three blocks
    tokens = tokenize(processor, TEXTS, max_length)
    batch = TextCollator(processor, ChunkLimits(3))(list(TextDataset(tokens, np.arange(8, dtype=np.float32)[:, None])))
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
        assert lengths[-2:] == [120, 120] and "x" * 40 in processor.tokenizer.decode(tokens[1].as_py())


def test_one_array_that_workers_can_share(backbones, tmp_path):
    tokens = tokenize(UniMEProcessor.from_backbone(backbones["llava_next"]), TEXTS)
    assert tokens.type.value_type == pa.int32() and tokens.nbytes < 4 * sum(map(len, tokens)) + 8 * 9 + 8
    np.save(tmp_path / "v.npy", np.ones((8, 100_000), np.float32))
    dataset = TextDataset(tokens, np.load(tmp_path / "v.npy", mmap_mode="r"))
    sent = pickle.dumps(dataset)
    assert len(sent) < 10_000, "the vectors stay in their file"
    copy = pickle.loads(sent)
    assert isinstance(copy.vectors, np.memmap) and len(copy) == 8
    for one, other in zip(dataset, copy, strict=True):
        assert one[0] == other[0] and np.array_equal(one[1], other[1]) and np.array_equal(one[2], other[2])


def held(data, teacher, columns=None, **options):
    arguments = SimpleNamespace(max_length=None, process_index=0, device="cpu", **options)
    return make_text_dataset(data, "train_dataset", teacher, columns, WordProcessor(), arguments)


class WordProcessor:
    """One token per letter."""

    clean = staticmethod(str.strip)

    def token_ids(self, texts, max_length):
        return [[ord(letter) for letter in text] for text in texts]


def words(dataset):
    return ["".join(map(chr, ids)) for ids in dataset.tokens.to_pylist()]


ROWS = [
    {"query": "a", "positive": [" b ", "c"], "v": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]},
    {"query": "d", "positive": ["a"], "v": [[2.0, 0.0], [9.0, 9.0]]},
]


@pytest.mark.parametrize("form", [list, Dataset.from_list, lambda rows: DatasetDict({"x": Dataset.from_list(rows)})])
def test_one_vector_for_each_text_of_a_row(form):
    dataset = held(form(ROWS), "v")
    assert words(dataset) == ["a", "b", "c", "d"], "distinct, in order, without white space"
    assert dataset.vectors.tolist() == [[1, 0], [0, 1], [1, 1], [2, 0]] and dataset.vectors.dtype == np.float32


def test_rows_of_a_function(tmp_path):
    lazy = Dataset.from_dict({"n": [0, 1]}).with_transform(
        lambda batch: {"text": [f"t{n}" for n in batch["n"]], "v": [np.full(3, n + 1.0) for n in batch["n"]]}
    )
    dataset = held(lazy, "v")
    assert words(dataset) == ["t0", "t1"] and dataset.vectors.tolist() == [[1] * 3, [2] * 3]


def test_texts_alone_and_parts():
    dataset = held([" one", "two", "one"], FakeTeacher())
    assert words(dataset) == dataset.texts == ["one", "two"] and dataset.vectors is None
    parts = [Dataset.from_list([{"text": "two"}]), Dataset.from_list([{"text": "three"}])]
    assert words(held(parts, FakeTeacher())) == ["two", "three"]


@pytest.mark.parametrize(
    "rows, options, message",
    [
        ([{"text": "a", "v": [1.0]}, {"text": "b", "v": []}], {}, "train_dataset row 2: a vector of 0 dimensions"),
        ([{"text": "a", "v": [0.0]}], {}, "train_dataset row 1: the vector is all zeros"),
        ([{"text": ["a", "b"], "v": [1.0]}], {}, "train_dataset row 1: 2 texts, but 1 vectors in column 'v'"),
        ([{"text": "a", "v": "x"}], {}, "column 'v' is of type string, not lists of floating numbers"),
        (
            [{"text": "a", "v": [1.0]}, {"text": " ", "v": [1.0]}],
            {},
            "train_dataset row 2: column 'text' is empty. Fill",
        ),
        ([{"text": "a", "v": [1.0]}, {"v": [1.0]}], {}, "train_dataset row 2: column 'text' is null. Fill"),
        ([{"text": "a", "v": [1.0]}], {"columns": ["words"]}, "has no column 'words'; its columns are text, v"),
        ([{"one": "a", "two": "b", "v": [1.0]}], {}, "which columns of train_dataset hold texts"),
    ],
)
@pytest.mark.parametrize("form", [list, Dataset.from_list])
def test_what_cannot_be_used_is_named(form, rows, options, message):
    with pytest.raises(ValueError, match=message):
        held(form(rows), "v", **options)


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
        tokenize(processor, ["good", "also good", bad], max_length)


def test_max_length_below_the_prompt_is_refused_at_once(backbones):
    processor = UniMEProcessor.from_backbone(backbones["llava_next"])
    with pytest.raises(ValueError, match="the text 'A dog.' cannot be tokenised: .*but max_length is 10"):
        tokenize(processor, TEXTS, 10)
