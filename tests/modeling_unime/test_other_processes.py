# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A model that has seen pictures can be copied, pickled and sent to another process, whatever its family."""

import copy
import io
import multiprocessing
import pickle

import pytest
import torch
from tiny_models import BACKBONES, save_unime

from modeling_unime import UniMEModel, UniMEProcessor

TEXTS = ["hello world", None, "a red car"]


@torch.no_grad()
def load_used(folder, pictures):
    """A model that has just embedded pictures, its inputs and their embeddings."""
    model = UniMEModel.from_backbone(folder).requires_grad_(False)
    inputs = dict(UniMEProcessor.from_backbone(folder)(text=TEXTS, images=[None, pictures[0], pictures[1]]))
    return model, inputs, model(**inputs).embeddings


def test_spawned_process_embeds_the_same(backbones, pictures):
    """All families in one process, which takes most of the time to start."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for family, folder in backbones.items():
            model, inputs, expected = load_used(folder, pictures)
            found = pool.apply(model, (), inputs).embeddings  # the model is the function that is called there
            assert torch.equal(found, expected), f"{family}: off by {(found - expected).abs().max()}"


@pytest.mark.parametrize("family", sorted(BACKBONES))
@torch.no_grad()
def test_copies_and_the_original_embed_the_same(backbones, pictures, family):
    model, inputs, expected = load_used(backbones[family], pictures)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = {
        "pickle": pickle.loads(pickle.dumps(model)),
        "deepcopy": copy.deepcopy(model),
        "torch.save": torch.load(file, weights_only=False),
        "the original": model,
    }
    for name, twin in copies.items():
        assert torch.equal(twin(**inputs).embeddings, expected), name
        assert torch.equal(twin(**inputs).embeddings, expected), f"{name}, second call"


def test_hooks_of_others_go_along(backbones, pictures):
    model, inputs, expected = load_used(backbones["llava"], pictures)
    model.language_model.register_forward_hook(print)
    assert list(copy.deepcopy(model).language_model._forward_hooks.values()) == [print]


def test_processor_goes_along(backbones, pictures):
    for family, folder in backbones.items():
        processor = UniMEProcessor.from_backbone(folder)
        expected = processor(text=["a"], images=[pictures[0]])
        found = pickle.loads(pickle.dumps(processor))(text=["a"], images=[pictures[0]])
        assert all(torch.equal(found[name], expected[name]) for name in expected), family


def test_multi_process_pool_of_sentence_transformers(backbones, pictures, tmp_path):
    """The folder's own code, too, is found in the pool's processes."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    save_unime(backbones["llava"], tmp_path)
    model = sentence_transformers.SentenceTransformer(str(tmp_path), trust_remote_code=True, device="cpu")
    items = ["hello world", pictures[0], {"text": "a red car", "image": pictures[1]}]
    expected = model.encode(items)
    pool = model.start_multi_process_pool(["cpu"])
    try:
        found = model.encode(items, pool=pool, chunk_size=len(items))  # in one batch, too
    finally:
        model.stop_multi_process_pool(pool)
    assert abs(found - expected).max() == 0
