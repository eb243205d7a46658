# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Mining of rows in memory: by brute force, with pictures, and straight into the trainer."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from datasets import Dataset
from PIL import Image

import trainers.mining.mine
from modeling_unime import UniMEModel, UniMEProcessor
from trainers import HardNegativeConfig, HardNegativeTrainer, mine_hard_negatives
from trainers.data.held_rows import HeldRows
from trainers.mining.judge import Judge
from unime.data.forms import find_form

TEXT_OF = {"dict": "a picture", "mmeb": "<|image_1|>"}
QUERIES = ["red", "green", "blue", "red", "round", "square"]
POSITIVES = ["a red dog", "a green tree", "the blue sea", "a red car", "a ball", "a box"]


def test_the_most_similar_ones_that_no_row_calls_right(backbones):
    dataset = Dataset.from_dict({"query": QUERIES, "positive": POSITIVES, "negatives": [["old"]] * 6})
    model = UniMEModel.from_backbone(backbones["llava_next"])
    processor = UniMEProcessor.from_backbone(backbones["llava_next"])
    mined = mine_hard_negatives(dataset, model, processor, num_negatives=3, absolute_margin=None)
    with torch.no_grad():
        similarities = model(**processor(text=QUERIES)).embeddings @ model(**processor(text=POSITIVES)).embeddings.T
    for row, negatives in enumerate(mined["negatives"]):
        right = {POSITIVES[other] for other in range(6) if QUERIES[other] == QUERIES[row]}
        order = [POSITIVES[i] for i in similarities[row].argsort(descending=True) if POSITIVES[i] not in right]
        assert negatives == order[:3]
    assert mined["query"] == QUERIES and mined["positive"] == POSITIVES
    by_name = mine_hard_negatives(dataset, str(backbones["llava_next"]), num_negatives=3, absolute_margin=None)
    assert by_name["negatives"][:] == mined["negatives"][:]


def test_pictures_are_mined_and_trained_with(backbones, tmp_path):
    pictures = [
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (30, 40, 3), dtype=np.uint8)) for i in range(6)
    ]
    dataset = Dataset.from_dict({"query": QUERIES, "positive": pictures})
    mined = mine_hard_negatives(dataset, str(backbones["llava_next"]), num_negatives=2, absolute_margin=None)
    found = mined[0]["negatives"]
    others = [np.asarray(picture) for picture in (*pictures[1:3], *pictures[4:])]
    assert len(found) == 2 and all(any(np.array_equal(np.asarray(image), o) for o in others) for image in found)
    config = HardNegativeConfig(
        str(tmp_path), max_steps=1, per_device_train_batch_size=4, use_cpu=True, report_to="none", logging_steps=1
    )
    trainer = HardNegativeTrainer(str(backbones["llava_next"]), config, train_dataset=mined)
    trainer.train()
    assert trainer.state.log_history[0]["candidates"] == 4 + 2 * 4


WORDS = ["red", "green", "blue", "round", "square", "small", "large", "old", "new", "wet"]
TEXTS = {
    "query": [f"find the {word} one, number {i}" for i, word in enumerate(WORDS)],
    "positive": [f"{word} is what it looks like" for word in WORDS],
}


@pytest.mark.parametrize(
    "options",
    [
        {"absolute_margin": None},
        {"absolute_margin": 0.0005},
        {"absolute_margin": -0.002, "range_min": 1},
        {"absolute_margin": None, "relative_margin": 0.001},
        {"absolute_margin": None, "relative_margin": -0.001, "max_score": "median", "min_score": "least"},
    ],
    ids=str,
)
def test_texts_are_mined_as_by_sentence_transformers(options, backbones, tmp_path):
    """Where both mean the same: one positive for a query, and all candidates ranked."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = str(backbones["llava_next"])
    for kind in (UniMEModel, UniMEProcessor):
        kind.from_backbone(folder).save_pretrained(tmp_path)
    peer = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu")
    similarities = np.sort(peer.encode(TEXTS["query"]) @ peer.encode(TEXTS["positive"]).T, axis=None)
    scores = {"median": float(similarities[60]) + 1e-5, "least": float(similarities[20]) + 1e-5}
    options = {name: scores.get(value, value) for name, value in options.items()}
    dataset = Dataset.from_dict(TEXTS)
    theirs = sentence_transformers.util.mine_hard_negatives(
        dataset, peer, num_negatives=3, range_max=9, output_format="labeled-list", verbose=False, **options
    )
    expected = {row["query"]: row["positive"][1:] for row in theirs}
    ours = mine_hard_negatives(dataset, str(tmp_path), num_negatives=3, range_max=9, **options)
    assert [row["negatives"] for row in ours] == [expected.get(query, []) for query in TEXTS["query"]]
    if len(options) > 1 or options["absolute_margin"] is not None:
        plain = mine_hard_negatives(dataset, str(tmp_path), num_negatives=3, absolute_margin=None)
        assert any(expected.values()) and ours["negatives"][:] != plain["negatives"][:], "the options change nothing"


def mine_in_rank(rank: int, folder: Path, model: UniMEModel, processor: UniMEProcessor) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    if rank == 1:
        model.forward = lambda **inputs: pytest.fail("the first process has all the work there is, one piece each")
    mined = mine_hard_negatives(Dataset.from_dict(TEXTS), model, processor, num_negatives=3)
    (folder / f"{rank}.json").write_text(json.dumps(mined["negatives"][:]))


def test_without_a_folder_two_processes_share_the_work(backbones, tmp_path):
    model, processor = (kind.from_backbone(backbones["llava_next"]) for kind in (UniMEModel, UniMEProcessor))
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=mine_in_rank, args=(rank, tmp_path, model, processor)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0, 0]
    alone = mine_hard_negatives(Dataset.from_dict(TEXTS), model, processor, num_negatives=3)["negatives"][:]
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)] == [alone, alone]


@pytest.mark.parametrize("form", ["Image", "path", "bytes", "dict", "mmeb", "transform"])
def test_pictures_of_every_form_pass_through(form, backbones, tmp_path):
    pixels = [np.random.default_rng(i).integers(0, 255, (30, 40, 3), dtype=np.uint8) for i in range(6)]
    files = [str(tmp_path / f"{i}.png") for i in range(6)]
    for array, file in zip(pixels, files, strict=True):
        Image.fromarray(array).save(file)
    values = {
        "Image": [Image.fromarray(array) for array in pixels],
        "path": files,
        "bytes": [Path(file).read_bytes() for file in files],
        "dict": [{"text": "a picture", "image": Image.fromarray(array)} for array in pixels],
    }
    if form == "mmeb":
        texts = ["<|image_1|>"] * 6
        dataset = Dataset.from_dict({"qry": QUERIES, "pos_text": texts, "pos_image_path": files})
    elif form == "transform":
        dataset = Dataset.from_dict({"number": range(6)}).with_transform(
            lambda rows: {
                "query": [QUERIES[i] for i in rows["number"]],
                "positive": [Image.fromarray(pixels[i]) for i in rows["number"]],
            }
        )
    else:
        dataset = Dataset.from_dict({"query": QUERIES, "positive": values[form]})
    mined = mine_hard_negatives(dataset, str(backbones["llava_next"]), num_negatives=2, absolute_margin=None)
    right = [{j for j in range(6) if QUERIES[j] == query} for query in QUERIES]
    for row, others in zip(HeldRows(mined, "mined"), right, strict=True):
        negatives = find_form(list(row)).parse(row).negatives
        found = [np.asarray(negative.open()) for negative in negatives]
        numbers = [next(i for i in range(6) if np.array_equal(pixels[i], picture)) for picture in found]
        assert len(set(numbers)) == 2 and not others & set(numbers)
        assert [negative.text for negative in negatives] == [TEXT_OF.get(form)] * 2


def test_a_folder_keeps_what_was_encoded_and_judged(backbones, tmp_path, monkeypatch):
    dataset = Dataset.from_dict({"query": QUERIES, "positive": POSITIVES})
    options = {"num_negatives": 2, "absolute_margin": None, "judge": backbones["qwen2_vl"], "judge_margin": 0}
    mined = mine_hard_negatives(dataset, str(backbones["llava_next"]), cache_folder=tmp_path, **options)
    for row in mined:
        assert len(row["hard_negatives_scores"]) == len(row["negatives"])
        assert all(score <= row["query_pos_scores"] for score in row["hard_negatives_scores"])
    assert len(list(tmp_path.glob("*"))) == 2, "a folder of vectors and one of scores"
    monkeypatch.setattr(trainers.mining.mine, "make_encoder", lambda arguments: pytest.fail("encoded again"))
    monkeypatch.setattr(Judge, "scores", lambda *pairs: pytest.fail("judged again"))
    again = mine_hard_negatives(dataset, str(backbones["llava_next"]), cache_folder=tmp_path, **options)
    assert again.to_list() == mined.to_list()
    with pytest.raises(ValueError, match="give its folder or name"):
        model = UniMEModel.from_backbone(backbones["llava_next"])
        mine_hard_negatives(dataset, model, object(), cache_folder=tmp_path)


@pytest.mark.parametrize(
    "data, options, error, words",
    [
        ([{"query": "a"}], {}, TypeError, "give a datasets.Dataset"),
        (Dataset.from_dict({"text": ["a"]}), {}, ValueError, "no column query or sent0 or qry; it has text"),
        (Dataset.from_dict({"query": ["a"], "positive": ["b"]}), {"output": "x"}, TypeError, "argument 'output'"),
    ],
)
def test_what_cannot_be_mined_is_said(data, options, error, words):
    with pytest.raises(error, match=words):
        mine_hard_negatives(data, "model", **options)
