# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Batches of stage 2: what is embedded once, and which source each row counts to."""

import json

import numpy as np
import pytest
from PIL import Image

from modeling_unime import UniMEProcessor
from trainers.chunks import ChunkLimits
from trainers.collators import PairCollator
from trainers.data.mmeb import load_mmeb_train

FIND = "<|image_1|>\nRepresent it.\n"


@pytest.fixture
def sources(tmp_path):
    """Three sets, two of which name other pictures by the same path."""
    for seed, name in enumerate("ab"):
        (tmp_path / name / "images").mkdir(parents=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / "images/0.png")
        rows = [
            {"qry": "find it", "pos_text": FIND, "pos_image_path": "images/0.png"},
            {"qry": "<|image_1|>\nname it", "qry_image_path": "images/0.png", "pos_text": "thing"},
        ]
        lines = [json.dumps({"qry_image_path": "", "pos_image_path": "", **row}) for row in rows]
        (tmp_path / name / "train_x.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/train_x.jsonl").write_text(json.dumps({"qry": "words", "pos_text": "thing"}), encoding="utf-8")
    return [str(tmp_path / name / "train_x.jsonl") for name in "abc"]


@pytest.mark.parametrize("check", ["full", "exists"])
def test_the_same_path_in_two_folders_is_two_contents(sources, backbones, check):
    dataset = load_mmeb_train(sources, image_check=check, progress=False)
    first, _, second, *_ = list(dataset)
    assert first.positive.image == second.positive.image and first.group != second.group
    processor = UniMEProcessor.from_backbone(backbones["llava_next"])
    collator = PairCollator(processor, ChunkLimits(64))
    batch = collator([dataset[i] for i in (0, 1, 2, 3)])
    queries, candidates = batch["query_positions"].tolist(), batch["candidate_positions"].tolist()
    # "find it" once, each of the two pictures under each of the two prompts, "thing" once
    assert len({*queries, *candidates}) == 1 + 2 + 2 + 1
    assert queries[0] == queries[2] and queries[1] != queries[3]
    assert candidates[0] != candidates[2] and candidates[1] == candidates[3]
    groups = batch["groups"].tolist()
    assert groups[0] != groups[2] and groups[1] == groups[3]


def test_rows_count_to_their_own_source(sources, backbones):
    dataset = load_mmeb_train(sources, progress=False)
    collator = PairCollator(UniMEProcessor.from_backbone(backbones["llava_next"]), ChunkLimits(64))
    assert dataset.source_indices.tolist() == [0, 0, 1, 1, 2]
    assert collator([dataset[i] for i in (4, 0, 3, 2)])["sources"] == [
        dataset.sources[number].name for number in (2, 0, 1, 1)
    ]
