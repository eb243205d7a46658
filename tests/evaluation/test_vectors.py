# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Each content is encoded once, by whatever process of whatever run, and never again while nothing that it depends on changes."""

import json
import multiprocessing
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from evaluation import run
from evaluation.arguments import EvaluationArguments
from evaluation.encoder import EncodingError
from evaluation.encoders import encoder_identity
from evaluation.vectors import Vectors
from modeling_unime import UniMEModel, UniMEProcessor
from unime.data.content import ContentIndex
from unime.data.example import Example
from unime.data.images import ImageStore
from unime.store import StoreError


def index_of(*examples: Example) -> ContentIndex:
    index = ContentIndex()
    index.add(examples)
    return index


@pytest.fixture
def encode(make_encoder, tmp_path):
    """Encode indexes with the stand-in: the vectors and how many examples were encoded."""

    def encode(*indexes, spoil=None, folder="vectors", identity="model", **options):
        made = []

        def load():
            made.append(make_encoder(spoil))
            return made[-1]

        kept = Vectors(folder and tmp_path / folder, identity, **options).encode(lambda: indexes, load)
        return kept, sum(len(encoder.processor.calls) for encoder in made)

    return encode


TEXTS = [Example(letter * length) for length, letter in enumerate("abcdefghijklmnopqrstuvwxyz", 1)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.safetensors")}


def test_content_is_encoded_once_over_data_sets_and_runs(encode, make_encoder, tmp_path, write_image):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    write_image("one/x.png", "red"), write_image("two/y.bmp", "red"), write_image("two/z.png", "blue")
    first = index_of(Example("a", "x.png", "", ImageStore(tmp_path / "one")), Example("b"), Example("c"))
    second = index_of(Example("c"), Example("a", "y.bmp", "", ImageStore(tmp_path / "two")), Example("d"))
    kept, encoded = encode(first, second)
    assert encoded == 4
    for index in (first, second):
        np.testing.assert_array_equal(kept.take(index, "set"), make_encoder().encode(index.examples))
    third = index_of(Example("a", "z.png", "", ImageStore(tmp_path / "two")), Example("d"), Example("b"))
    again, encoded = encode(third, second)
    assert encoded == 1 and again.store.counts == {"found": 4, "computed": 1}
    np.testing.assert_array_equal(again.take(third, "set"), make_encoder().encode(third.examples))


@pytest.mark.parametrize(
    "example", [Example("b", None, ""), Example("b", None, "do"), Example("b "), Example("B"), Example("b", "x.png")]
)
def test_another_prompt_or_picture_is_another_content(encode, tmp_path, write_image, example):
    write_image("x.png", "red")
    encode(index_of(Example("b"), Example("c")))
    assert encode(index_of(example.placed(ImageStore(tmp_path)), Example("c")))[1] == 1


def test_other_pixels_in_the_same_file_are_encoded(encode, tmp_path, write_image):
    for colour, expected in (("red", 1), ("blue", 1), ("red", 0)):
        write_image("x.png", colour)
        assert encode(index_of(Example("a", "x.png", "", ImageStore(tmp_path))))[1] == expected


def test_another_model_type_length_or_code_is_another_identity(tmp_path, monkeypatch):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")

    def folder(**options) -> Path:
        arguments = EvaluationArguments(str(model), [], str(tmp_path / "out"), vectors=str(tmp_path), **options)
        return Vectors.of(arguments, encoder_identity(arguments)).store.folder

    first = folder(device="cpu")
    assert (
        first.parent == tmp_path and folder(device="cpu", batch_size=7, batch_tokens=9, limit=3, mixed="sum") == first
    )
    changed = [folder(device="cpu", dtype="bfloat16"), folder(device="cpu", max_length=9)]
    (model / "preprocessor_config.json").write_text("{}")
    changed.append(folder(device="cpu"))
    monkeypatch.setattr("evaluation.encoders.code_identity", lambda: "other")
    changed.append(folder(device="cpu"))
    assert len({first, *changed}) == 5


def test_killed_and_resumed_is_as_unbroken(encode, tmp_path):
    index = index_of(*TEXTS)
    unbroken, encoded = encode(index, batch_size=2, folder="unbroken")
    assert encoded == 26 and len(files(tmp_path / "unbroken")) == 4, "pieces of 4 batches of 2"
    passes = []

    def kill(embeddings):
        passes.append(len(embeddings))
        if len(passes) in (6, 12):
            raise KeyboardInterrupt
        return embeddings

    for done in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            encode(index, batch_size=2, spoil=kill)
        assert len(files(tmp_path / "vectors")) == done
    kept, encoded = encode(index, batch_size=2)
    assert encoded == 26 - 16 and kept.store.counts == {"found": 16, "computed": 10}
    assert files(tmp_path / "vectors") == files(tmp_path / "unbroken")
    np.testing.assert_array_equal(kept.take(index, "set"), unbroken.take(index, "set"))


def test_batches_keep_to_tokens_and_examples_and_part_images_from_texts(tmp_path, write_image):
    write_image("x.png", "red"), write_image("y.png", "blue")
    store = ImageStore(tmp_path)
    pictures = [Example("t", name, "", store) for name in ("x.png", "y.png")]
    long, short = [Example(letter * 400) for letter in "abc"], [Example(letter) for letter in "defghij"]
    planned = Vectors(batch_size=4, batch_tokens=240)._plan([index_of(*long, *short, *pictures)])
    batches = [[one.example for one in batch] for piece in planned for batch in piece]
    assert [len(batch) for batch in batches] == [1, 1, 2, 2, 4, 2], (
        "400 bytes are about 100 tokens, and an image is 576"
    )
    assert set(batches[0] + batches[1]) == set(pictures) and batches[3][0] == long[2]
    by_length = [Example(f"{number:02}" + "x" * 20 * number) for number in range(60)]
    planned = Vectors()._plan([index_of(*by_length)])
    tokens = [[one.tokens for one in batch] for piece in planned for batch in piece]
    assert len(tokens) > 1 and all(len(batch) <= 16 or batch[-1] >= 0.8 * batch[0] for batch in tokens), (
        "little padding"
    )


def test_unusable_embeddings_fail_only_those_that_have_them(encode, make_encoder):
    def spoil(embeddings):
        embeddings[0] = float("nan")  # the longest text
        return embeddings

    good, bad = index_of(Example("a"), Example("b")), index_of(Example("a"), Example("long"))
    for found in (0, 2):
        kept, _ = encode(good, bad, spoil=spoil if found == 0 else lambda embeddings: embeddings * float("nan"))
        assert kept.store.counts["found"] == found, "it is not kept"
        np.testing.assert_array_equal(kept.take(good, "good"), make_encoder().encode(good.examples))
        with pytest.raises(EncodingError, match="bad: the embedding of text 'long' is NaN"):
            kept.take(bad, "bad")


def test_what_the_model_does_not_read_fails_only_those_that_have_it(encode, make_encoder, monkeypatch):
    monkeypatch.setattr(
        "evaluation.encoder.Encoder.refusal", lambda self, example: "no b" if example.text == "b" else None
    )
    kept, encoded = encode(index_of(Example("a"), Example("b")), good := index_of(Example("a")))
    assert encoded == 1 and kept.take(good, "good").shape == (1, 16)
    with pytest.raises(EncodingError, match="one: no b"):
        kept.take(index_of(Example("b")), "one")


def test_damage_is_named(encode, tmp_path):
    index = index_of(*TEXTS)
    encode(index)
    (file,) = (tmp_path / "vectors").rglob("*.safetensors")
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StoreError, match="is damaged; delete it"):
        encode(index)[0].take(index, "set")
    file.write_bytes(content[:100])
    with pytest.raises(StoreError, match="is damaged .*; delete it"):
        encode(index)


def test_parts_of_sums_are_shared(encode, make_encoder, tmp_path, write_image):
    from evaluation.modality_sum import ModalitySum

    write_image("x.png", "red")
    store = ImageStore(tmp_path)
    index = index_of(*(Example(text, "x.png", "", store) for text in ("a", "b", "a b")), Example("a"))
    kept, encoded = encode(index, mixed="sum")
    assert encoded == 4
    np.testing.assert_array_equal(kept.take(index, "set"), ModalitySum(make_encoder()).encode(index.examples))


# ---- several processes, forked from the test's, which has imported everything


@pytest.fixture
def model_and_data(tmp_path, backbones, write_rows, write_image):
    """A real model's folder and two data sets that share candidates and a picture."""
    from tiny_models import save_unime

    save_unime(backbones["llava_next"], tmp_path / "model")
    for number in range(6):
        write_image(f"data/{number}.png", f"#{40 * number:02x}00ff")
    labels = [f"label {number} {'word ' * (number % 4)}" for number in range(12)]
    row = {"tgt_text": labels, "tgt_img_path": [""] * 12}
    for name, first in (("one", 0), ("two", 3)):
        rows = [
            {"qry_text": "<|image_1|>\nWhich?", "qry_img_path": f"{number}.png", **row}
            for number in range(first, first + 3)
        ]
        write_rows([*rows, {"qry_text": name, "qry_img_path": "", **row}], f"data/eval_{name}.jsonl")
    return tmp_path


def run_rank(rank: int, size: int, folder: Path, output: str) -> None:
    sys.stdout = sys.stderr
    if size > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder / f'meeting-{output}'}", rank=rank, world_size=size
        )
    arguments = EvaluationArguments(
        str(folder / "model"), [str(folder / "data")], str(folder / output), device="cpu", batch_size=3
    )
    run.evaluate(arguments)
    if size > 1:
        dist.destroy_process_group()


def run_ranks(size: int, folder: Path, output: str) -> dict:
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=run_rank, args=(rank, size, folder, output)) for rank in range(size)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0] * size
    return json.loads((folder / output / "results.json").read_text())


def test_one_two_and_three_processes_give_the_same_numbers_and_files(model_and_data):
    folder = model_and_data
    results = {size: run_ranks(size, folder, str(size)) for size in (1, 2, 3)}
    figures = {
        size: [
            {name: value for name, value in data_set.items() if name != "seconds"} for data_set in result["data_sets"]
        ]
        for size, result in results.items()
    }
    assert figures[1] == figures[2] == figures[3]
    assert len(files(folder / "1")) == 2, "20 contents are 7 batches, images apart from texts"
    assert files(folder / "1") == files(folder / "2") == files(folder / "3")
    assert [result["world_size"] for result in results.values()] == [1, 2, 3]
    assert results[3]["vectors"] == results[1]["vectors"] == {"found": 0, "computed": 20}
    shutil.copytree(folder / "1" / "vectors", folder / "4" / "vectors")
    assert run_ranks(2, folder, "4")["vectors"] == {"found": 20, "computed": 0}


def in_memory(rank: int, size: int, folder: Path, model: UniMEModel, processor: UniMEProcessor) -> None:
    from evaluation.encoder import Encoder

    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder / f'meeting{size}'}", rank=rank, world_size=size)
    store = ImageStore(folder / "data")
    index = index_of(*TEXTS[:9], *(Example(None, f"{number}.png", "do", store) for number in range(5)))
    passes = []

    class Counting(Encoder):
        def embed(self, inputs):
            passes.append("pixel_values" in inputs)
            return super().embed(inputs)

    kept = Vectors(batch_size=2).encode(lambda: [index], lambda: Counting(model, processor))
    torch.save((kept.take(index, "set"), passes), folder / f"{size}-{rank}.pt")


def test_in_memory_all_processes_make_the_same_passes(model_and_data):
    folder = model_and_data
    model, processor = (kind.from_pretrained(folder / "model") for kind in (UniMEModel, UniMEProcessor))
    context = multiprocessing.get_context("fork")
    for size in (1, 2):
        ranks = [
            context.Process(target=in_memory, args=(rank, size, folder, model, processor)) for rank in range(size)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(60)
    (alone, passes), (first, own), (second, others) = (
        torch.load(folder / f"{name}.pt", weights_only=False) for name in ("1-0", "2-0", "2-1")
    )
    assert passes == [True] * 3 + [False] * 5 and own == others == [True] * 2 + [False] * 3
    np.testing.assert_array_equal(first, alone), np.testing.assert_array_equal(second, alone)
