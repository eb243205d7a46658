# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What sentence-transformers and transformers.pipeline do with a saved folder gives the vectors of the processor."""

import base64
import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MultipleNegativesRankingLoss,
)
from tiny_models import BACKBONES, save_unime
from transformers import pipeline

from modeling_unime import UniMEModel, UniMEProcessor


@pytest.fixture(scope="module")
def folders(backbones, tmp_path_factory):
    """A function: family -> its saved UniME folder."""
    root = tmp_path_factory.mktemp("folders")

    def folder(family: str) -> str:
        if not (root / family).exists():
            save_unime(backbones[family], root / family)
        return str(root / family)

    return folder


def load(folder: str) -> SentenceTransformer:
    return SentenceTransformer(folder, trust_remote_code=True, device="cpu")


def direct(folder: str, **inputs) -> np.ndarray:
    model, processor = UniMEModel.from_pretrained(folder), UniMEProcessor.from_pretrained(folder)
    with torch.no_grad():
        return model(**processor(**inputs)).embeddings.numpy()


@pytest.fixture
def transparent(tmp_path):
    """A transparent RGBA picture as a file: its hidden colour is black, what it shows is white around a red square."""
    picture = Image.new("RGBA", (60, 60), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (20, 20, 40, 40))
    picture.save(tmp_path / "c.png")
    return tmp_path / "c.png"


def test_every_way_of_giving_a_picture_is_the_same_vector(folders, transparent):
    shown = np.full((60, 60, 3), 255, dtype=np.uint8)
    shown[20:40, 20:40] = (255, 0, 0)
    right = direct(folders("qwen2_vl"), images=[Image.fromarray(shown)])
    model = load(folders("qwen2_vl"))
    content = transparent.read_bytes()
    url = "data:image/png;base64," + base64.b64encode(content).decode()
    ways = [str(transparent), Image.open(transparent), url, shown, torch.from_numpy(shown)]
    ways += [{"image": value} for value in (str(transparent), transparent, content, io.BytesIO(content), shown / 255)]
    ways += [{"image": transparent, "text": None}]
    for way in ways:
        np.testing.assert_allclose(model.encode([way]), right, atol=1e-6, err_msg=repr(way)[:80])
    parts = [{"path": str(transparent)}, {"url": url}, {"base64": url.partition(",")[2]}, {"image": content}]
    for part in parts:
        message = [{"role": "user", "content": [{"type": "image", **part}]}]
        np.testing.assert_allclose(model.encode([message]), right, atol=1e-6, err_msg=repr(part)[:80])
    np.testing.assert_allclose(model.encode(ways), np.repeat(right, len(ways), 0), atol=1e-5)


def test_none_is_an_absent_part_and_an_empty_text_a_text(folders):
    folder = folders("llava_next")
    model = load(folder)
    right = direct(folder, text=["a dog"])
    np.testing.assert_allclose(model.encode([{"text": "a dog", "image": None}]), right, atol=1e-6)
    vectors = model.encode(["a dog", "", "a cat"])
    np.testing.assert_allclose(vectors[:1], right, atol=1e-5)
    np.testing.assert_allclose(vectors[1:2], direct(folder, text=[""]), atol=1e-5)
    for name in ("query", "document", "bare"):
        assert np.isfinite(model.encode(["", "a"], prompt_name=name)).all()


def test_strings_that_look_like_addresses(folders, transparent):
    """They are refused unless they are said to be texts, or the folder's settings lack the entry "image"."""
    folder, address = folders("qwen2_vl"), "https://example.org/a.png"
    with pytest.raises(ValueError, match="example.org/a.png' is an address, and addresses are not fetched"):
        load(folder).encode([address])
    right = direct(folder, text=[address, str(transparent)])
    texts = [{"text": address}, {"text": str(transparent)}]
    np.testing.assert_allclose(load(folder).encode(texts), right, atol=1e-5)


def test_setting_that_takes_every_string_as_text(folders, transparent, tmp_path):
    """As README describes it."""
    folder = shutil.copytree(folders("qwen2_vl"), tmp_path / "strict")
    settings = json.loads((folder / "sentence_bert_config.json").read_text())
    del settings["modality_config"]["image"]
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    model = load(str(folder))
    texts = ["https://example.org/a.png", str(transparent), "data:image/png;base64,AAAA"]
    np.testing.assert_allclose(model.encode(texts), direct(folder, text=texts), atol=1e-5)
    right = direct(folder, images=[transparent])
    for picture in (Image.open(transparent), str(transparent)):
        np.testing.assert_allclose(model.encode([{"image": picture, "text": None}]), right, atol=1e-5)


def _gradients(model: SentenceTransformer, loss, batches: list) -> list[torch.Tensor]:
    model.zero_grad()
    loss([model.preprocess(batch) for batch in batches], None).backward()
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("family", list(BACKBONES))
def test_cached_loss_cuts_mixed_batches_by_row(folders, pictures, family):
    """Gradients of mini-batches of 2 are those of the whole batch, whatever rows have pictures, and how many views."""
    model = load(folders(family)).eval()
    both = {"text": "both", "image": pictures[0]}
    queries = ["a text", pictures[1], both, {"text": "no picture", "image": None}, pictures[2]]
    documents = [pictures[2], "one", "two", pictures[0], "three"]
    right = _gradients(model, MultipleNegativesRankingLoss(model), [queries, documents])
    cached = CachedMultipleNegativesRankingLoss(model, mini_batch_size=2)
    for expected, found in zip(right, _gradients(model, cached, [queries, documents]), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


def test_feature_extraction_pipeline_is_the_processors_vector(folders, transparent):
    folder = folders("llava_next")
    extract = pipeline("feature-extraction", model=folder, trust_remote_code=True)
    np.testing.assert_allclose(extract("a dog"), direct(folder, text=["a dog"]), atol=1e-6)
    right = direct(folder, text=["a dog", "a cat"], instruction="Find:")
    vectors = extract(["a dog", "a cat"], instruction="Find:", return_tensors=True)
    np.testing.assert_allclose(torch.cat(vectors), right, atol=1e-5)
    right = direct(folder, images=[transparent])
    np.testing.assert_allclose(extract(Image.open(transparent)), right, atol=1e-6)
    np.testing.assert_allclose(extract({"image": transparent, "text": None}), right, atol=1e-6)
    extract.model.config.to_json_string()  # the library writes classes into what it is told of pipelines
