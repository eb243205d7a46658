# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What users of sentence-transformers do with exported folders of both formats."""

import http.server
import json
import shutil
import threading
from functools import partial

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.util.quantization import quantize_embeddings, semantic_search_faiss
from tiny_models import save_unime

from modeling_unime import UniMEModel, UniMEProcessor
from release.export import ExportArguments, export

QUESTION = "Represent the given image with the following question:"  # MMEB's instruction of a task
PROMPTS = {"query": "Find: ", "document": "", "mmeb-gqa": QUESTION, "bare": " "}
FORMATS = ("unime", "native")


@pytest.fixture(scope="module")
def root(backbones, tmp_path_factory):
    """A trained folder with prompts by name, and its export in both formats."""
    root = tmp_path_factory.mktemp("exported")
    trained = save_unime(backbones["llava_next"], root / "trained")
    file = trained / "config_sentence_transformers.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prompts": PROMPTS, "truncate_dim": None}))
    for name in FORMATS:
        export(ExportArguments(str(trained), str(root / name), format=name, check=False))
    return root


def load(folder, **options) -> SentenceTransformer:
    return SentenceTransformer(
        str(folder), trust_remote_code=not (folder / "unime.json").exists(), device="cpu", **options
    )


@pytest.fixture(scope="module", params=FORMATS)
def model(request, root):
    return load(root / request.param)


@pytest.fixture(scope="module")
def direct(root):
    """A function: what our own model and processor give."""
    model, processor = (
        UniMEModel.from_pretrained(root / "trained").eval(),
        UniMEProcessor.from_pretrained(root / "trained"),
    )

    @torch.no_grad()
    def embed(**inputs) -> np.ndarray:
        return model(**processor(**inputs)).embeddings.numpy()

    return embed


def test_every_kind_of_input(model, direct, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    picture, path = Image.fromarray(pixels), str(tmp_path / "picture.png")
    picture.save(path)
    ways = [path, picture, pixels, torch.from_numpy(pixels).permute(2, 0, 1)]
    np.testing.assert_allclose(model.encode(ways), direct(images=[picture] * 4), atol=1e-5)
    both = direct(text=["what is it?"], images=[picture])
    for item in ({"text": "what is it?", "image": picture}, {"image": picture, "text": "what is it?"}):
        np.testing.assert_allclose(model.encode([item]), both, atol=1e-5)
    mixed = model.encode(["a dog", picture, {"image": path, "text": "what is it?"}])
    expected = direct(text=["a dog", None, "what is it?"], images=[None, picture, picture])
    np.testing.assert_allclose(mixed, expected, atol=1e-5)


def test_an_address(root, direct, tmp_path):
    """sentence-transformers fetches it for the library's processor; ours refuses, for a text may look like one."""
    picture = Image.new("RGB", (40, 30), "red")
    picture.save(tmp_path / "picture.png")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *arguments: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/picture.png"
        np.testing.assert_allclose(load(root / "native").encode([address]), direct(images=[picture]), atol=1e-5)
        with pytest.raises(ValueError, match="addresses are not fetched"):
            load(root / "unime").encode([address])
        server.shutdown()


def test_prompts_by_name(model, direct, pictures):
    texts = ["a dog", "two cats"]
    assert model.prompts == PROMPTS
    np.testing.assert_allclose(model.encode(texts), direct(text=texts), atol=1e-5)
    np.testing.assert_allclose(model.encode_query(texts), direct(text=texts, instruction="Find: "), atol=1e-5)
    np.testing.assert_allclose(model.encode_document(texts), direct(text=texts), atol=1e-5)
    item = [{"text": "who is it?", "image": pictures[0]}]
    expected = direct(text=["who is it?"], images=[pictures[0]], instruction=QUESTION)
    np.testing.assert_allclose(model.encode(item, prompt_name="mmeb-gqa"), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode(texts, prompt_name="bare"), direct(text=texts, instruction=" "), atol=1e-5)


def test_fewer_dimensions(model, direct):
    expected = direct(text=["a dog"])[:, :8]
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(model.encode(["a dog"], truncate_dim=8, normalize_embeddings=True), expected, atol=1e-5)


def test_quantised_vectors_with_rescoring(model, pictures):
    """The best of 20 candidates by int8 or binary vectors, ranked again by floats, is that of a search with floats."""
    letters = [
        letter * 3 for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"
    ]  # bare, they differ in their last state
    corpus = model.encode([*letters, *pictures], prompt_name="bare")
    queries = model.encode([letters[7], letters[23], pictures[0]], prompt_name="bare")
    assert model.similarity_fn_name == "cosine"
    right = model.similarity(queries, corpus).argmax(1).tolist()
    assert right == [7, 23, 40]
    for precision, width in (("uint8", 32), ("ubinary", 4)):
        quantised = quantize_embeddings(corpus, precision)
        assert (quantised.dtype, quantised.shape[1]) == (np.uint8, width)
        options = {"corpus_embeddings": quantised, "corpus_precision": precision, "calibration_embeddings": corpus}
        found, *_ = semantic_search_faiss(queries, top_k=20, rescore=True, **options)
        best = [
            max(hits, key=lambda hit: query @ corpus[hit["corpus_id"]])
            for hits, query in zip(found, queries, strict=True)
        ]
        assert [hit["corpus_id"] for hit in best] == right, precision
    binary = model.encode(["a dog"], precision="binary")
    assert (binary.dtype, binary.shape) == (np.int8, (1, 4))


def test_several_processes(root):
    """Our own format is tested in test_other_processes."""
    model = load(root / "native")
    texts = ["a dog", "two cats", "a red car"]
    pool = model.start_multi_process_pool(["cpu"])
    try:
        np.testing.assert_allclose(model.encode(texts, pool=pool, chunk_size=2), model.encode(texts), atol=1e-5)
    finally:
        model.stop_multi_process_pool(pool)


@pytest.mark.parametrize("form", FORMATS)
def test_trained_further_and_saved_again(root, tmp_path, pictures, form):
    """With both losses; prompts, similarity, the width of vectors and what the folder computes stay."""
    folder = shutil.copytree(root / form, tmp_path / "model")
    for step, kind in enumerate(
        (MultipleNegativesRankingLoss, partial(CachedMultipleNegativesRankingLoss, mini_batch_size=1))
    ):
        model = load(folder, similarity_fn_name="dot", truncate_dim=16)
        before = model.encode(["a dog"])
        options = {"output_dir": str(tmp_path / "run"), "max_steps": 2, "report_to": "none", "use_cpu": True}
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(**options, per_device_train_batch_size=2, learning_rate=1e-2),
            train_dataset=Dataset.from_dict({"anchor": ["a", "b"], "positive": [pictures[0], pictures[1]]}),
            loss=kind(model),
        )
        trainer.train()
        model.eval()
        expected = model.encode(["a dog", pictures[0]])
        folder = tmp_path / f"saved{step}"
        model.save_pretrained(str(folder))
        found = load(folder)
        assert found.prompts == PROMPTS and found.similarity_fn_name == "dot" and found.get_embedding_dimension() == 16
        assert [type(module) for module in found] == [type(module) for module in model]
        np.testing.assert_allclose(found.encode(["a dog", pictures[0]]), expected, atol=1e-6)
        assert np.abs(expected[0] - before[0]).max() > 1e-3, "nothing was learnt"
