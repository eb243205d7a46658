# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""CLIP and SigLIP as baselines: the same vectors as their own, sums of both towers, folders that transformers loads."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_models import make_clip, make_siglip
from torch.nn import functional as F
from transformers import AutoModel, AutoProcessor, CLIPModel, CLIPProcessor, SiglipModel

from evaluation import dual_encoder
from evaluation.dual_encoder import DualEncoderModel, DualEncoderProcessor, is_dual_encoder
from evaluation.encoder import Encoder
from evaluation.plain_text import plain_text
from evaluation.run import main
from modeling_unime.modeling_unime import WeightsMismatchError
from unime.data.example import Example


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clip"))


def features(folder, text=None, image=None):
    """Unit vector of CLIP's own model and processor."""
    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    with torch.no_grad():
        if text is not None:
            output = model.get_text_features(**processor(text=[text], return_tensors="pt", truncation=True))
        else:
            output = model.get_image_features(**processor(images=[image], return_tensors="pt"))
    return F.normalize(output.pooler_output, dim=1)[0]


@pytest.mark.parametrize(
    ("text", "instruction", "expected"),
    [
        ("<|image_1|>\nFind it.\n", "", "Find it."),
        ("a dog", "Find:", "Find: a dog"),
        ("<|image_1|>", None, ""),
        (None, " ", ""),
    ],
)
def test_plain_text(text, instruction, expected):
    assert plain_text(text, instruction) == expected


def test_every_kind_of_example(folder, pictures):
    wide, tall, _ = pictures
    model, processor = DualEncoderModel.load(folder).eval(), DualEncoderProcessor.load(folder)
    inputs = processor(
        ["<|image_1|>\nName it.\n", None, "a dog", "<|image_1|>", "a much longer text than the others"],
        [wide, tall, None, wide, None],
        instruction=["", None, "Find:", "", None],
    )
    assert inputs["text_rows"].tolist() == [0, 2, 4] and inputs["image_rows"].tolist() == [0, 1, 3]
    embeddings = model(**inputs).embeddings
    assert embeddings.dtype == torch.float32
    expected = [
        F.normalize(features(folder, text="Name it.") + features(folder, image=wide), dim=0),
        features(folder, image=tall),
        features(folder, text="Find: a dog"),
        features(folder, image=wide),
        features(folder, text="a much longer text than the others"),
    ]
    torch.testing.assert_close(embeddings, torch.stack(expected), atol=1e-6, rtol=0)
    one_by_one = [
        model(**processor([text], [image], instruction=[before])).embeddings[0]
        for text, image, before in (("<|image_1|>\nName it.\n", wide, ""), ("a dog", None, "Find:"))
    ]
    torch.testing.assert_close(torch.stack(one_by_one), embeddings[[0, 2]], atol=1e-6, rtol=0)


def test_long_texts_lose_their_end_with_a_word(folder, monkeypatch):
    said = []
    monkeypatch.setattr(dual_encoder.logger, "warning_once", said.append)
    processor = DualEncoderProcessor.load(folder)
    short = processor(["x" * 75], [None])
    assert short["input_ids"].shape == (1, 77) and not said
    long = processor(["x" * 75 + "yz"], [None])
    assert torch.equal(long["input_ids"], short["input_ids"]) and "more than 77 tokens" in said[0]
    assert processor(["x" * 75], [None], max_length=10)["input_ids"].shape == (1, 10)
    assert processor(["x" * 90], [None], max_length=1000)["input_ids"].shape == (1, 77)
    assert processor.count_image_tokens(640, 480) == 17  # 4 x 4 patches and the class


def test_empty_examples_are_named(folder):
    processor = DualEncoderProcessor.load(folder)
    with pytest.raises(ValueError, match="row 1 of the batch has neither text nor image"):
        processor(["a", None], [None, None])
    with pytest.raises(ValueError, match="zip"):
        processor(["a"], [None, None])


def test_empty_texts_and_pictures_by_path(folder, tmp_path):
    processor = DualEncoderProcessor.load(folder)
    assert processor(["", "<|image_1|>"], [None, None])["attention_mask"].tolist() == [[1, 1]] * 2  # start and end
    picture = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    picture.save(tmp_path / "c.png")
    white = processor([None], [Image.new("RGB", (40, 30), "white")])["pixel_values"]
    assert torch.equal(processor([""], [str(tmp_path / "c.png")])["pixel_values"], white)


def test_saved_folder_is_plain_clip(folder, tmp_path):
    model, processor = DualEncoderModel.load(folder), DualEncoderProcessor.load(folder)
    with torch.no_grad():
        model.text_projection.weight.mul_(2)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["CLIPModel"]
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is CLIPModel and type(AutoProcessor.from_pretrained(tmp_path)) is CLIPProcessor
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert set(load_file(tmp_path / "model.safetensors")) == set(load_file(folder / "model.safetensors"))


def test_missing_weights_are_named(folder, tmp_path):
    DualEncoderModel.load(folder).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["text_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsMismatchError, match=r"weights are missing: text_projection\.weight"):
        DualEncoderModel.load(tmp_path)


def test_absent_tower_gets_zero_gradients_in_training(folder, pictures):
    """Without them a rank whose chunk holds no image would keep the others waiting."""
    model, processor = DualEncoderModel.load(folder).train(), DualEncoderProcessor.load(folder)
    for inputs, used, unused in (
        (processor(["a", "b"], [None, None]), "text_model", "vision_model"),
        (processor([None], pictures[:1]), "vision_model", "text_model"),
    ):
        model.zero_grad()
        model(**inputs).embeddings[:, 0].sum().backward()
        for name, parameter in model.named_parameters():
            if name.startswith(unused):
                assert not parameter.grad.any(), name
            if name.startswith(used) and name.endswith("mlp.fc1.weight"):
                assert parameter.grad.any(), name


def test_evaluation_takes_a_clip_folder(folder, tmp_path, pictures):
    (tmp_path / "set").mkdir()
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / "set" / f"{number}.png")
    rows = [
        {
            "qry_text": "<|image_1|>\nName it.\n",
            "qry_img_path": f"{number}.png",
            "tgt_text": ["a dog", "a cat", "<|image_1|>"],
            "tgt_img_path": ["", "", f"{(number + 1) % 3}.png"],
        }
        for number in range(3)
    ]
    (tmp_path / "set" / "eval_a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert is_dual_encoder(folder)
    arguments = ["--model", str(folder), "--data", str(tmp_path / "set"), "--output", str(tmp_path / "out")]
    main([*arguments, "--device", "cpu"])
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["data_sets"][0]["name"] == "set/a"
    encoder = Encoder.from_pretrained(folder, device="cpu")
    vectors = encoder.encode([Example("a dog"), Example(image=str(tmp_path / "set/0.png"), instruction="")])
    with Image.open(tmp_path / "set" / "0.png") as image:
        expected = [features(folder, text="a dog"), features(folder, image=image.convert("RGB"))]
    np.testing.assert_allclose(vectors, torch.stack(expected).numpy(), atol=1e-6)


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    return make_siglip(tmp_path_factory.mktemp("siglip"))


def test_siglip_reads_lower_case_padded_to_its_length(siglip, pictures, tmp_path):
    model, processor = DualEncoderModel.load(siglip).eval(), DualEncoderProcessor.load(siglip)
    plain, own = SiglipModel.from_pretrained(siglip).eval(), AutoProcessor.from_pretrained(siglip)
    inputs = processor(["<|image_1|>\nA Dog", None, "A Dog"], [pictures[0], pictures[1], None], instruction="")
    assert inputs["input_ids"].shape == (2, 64) and "attention_mask" not in inputs
    with torch.no_grad():
        embeddings = model(**inputs).embeddings
        words = own.tokenizer(["a dog"], padding="max_length", max_length=64, return_tensors="pt")["input_ids"]
        text = F.normalize(plain.get_text_features(words).pooler_output, dim=1)[0]
        seen = own.image_processor(images=pictures[:2], return_tensors="pt")
        images = F.normalize(plain.get_image_features(**seen).pooler_output, dim=1)
    expected = torch.stack([F.normalize(text + images[0], dim=0), images[1], text])
    torch.testing.assert_close(embeddings, expected, atol=1e-6, rtol=0)
    assert processor.count_cut(["x" * 63, "X" * 64, "y" * 99]) == 2, "the end token counts"
    assert processor(["x" * 99], [None], max_length=9)["input_ids"].shape == (1, 64)
    assert processor.count_image_tokens(640, 480) == 16
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is SiglipModel
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize("maker, tokens", [(make_clip, 77), (make_siglip, 64)])
def test_cut_inputs_are_counted_in_the_result(maker, tokens, tmp_path):
    place = maker(tmp_path / "model")
    rows = [
        {"qry_text": text, "qry_img_path": "", "tgt_text": ["a", "b", "c" * 99], "tgt_img_path": [""] * 3}
        for text in ("short", "x" * 80, "<|image_1|>" * 9)
    ]
    (tmp_path / "eval_a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    main(["--model", str(place), "--data", str(tmp_path / "eval_a.jsonl"), "--output", str(tmp_path / "out")])
    (result,) = json.loads((tmp_path / "out" / "results.json").read_text())["data_sets"]
    assert result["cut"] == {"inputs": 2, "tokens": tokens}
    assert f"2 of 6 inputs lost what is beyond {tokens} tokens" in (tmp_path / "out" / "results.md").read_text()
