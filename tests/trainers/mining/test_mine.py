# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Mining of rows in memory: by brute force, with pictures, and straight into the trainer."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image

from modeling_unime import UniMEModel, UniMEProcessor
from trainers import HardNegativeConfig, HardNegativeTrainer, mine_hard_negatives

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
