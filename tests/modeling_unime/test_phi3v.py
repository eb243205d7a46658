# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Phi-3.5-vision equals the published code, reads its names, and a row's embedding does not depend on its batch mates."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from modeling_unime import (
    Phi3VConfig,
    Phi3VImageProcessor,
    Phi3VModel,
    UniMEModel,
    UniMEProcessor,
    WeightsMismatchError,
)
from modeling_unime.image_processing_phi3v import count_tokens, padded_size


@pytest.fixture(scope="module")
def golden(golden_dir):
    return golden_dir / "phi3v_tiny", np.load(golden_dir / "phi3v_tiny" / "io.npz")


def golden_model(folder, tmp_path, **changes):
    """The golden checkpoint, with its vision tower's sizes put into the config, loaded by its published names."""
    config = json.loads((folder / "config.json").read_text())
    config |= {"vision_config": json.loads((folder / "vision_config.json").read_text()), **changes}
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return UniMEModel.from_backbone(tmp_path, dtype=torch.float32)


def golden_inputs(io, case):
    inputs = {name: torch.from_numpy(io[f"{case}.{name}"]) for name in ("input_ids", "attention_mask")}
    used = [index for index in io[f"{case}.image_index"][:, 0] if index >= 0]
    if used:
        pixels = torch.from_numpy(io["pixel_codes"]).float().div(32)
        pixels = pixels.repeat_interleave(16, dim=-1).repeat_interleave(16, dim=-2)
        inputs |= {"pixel_values": pixels[used], "image_sizes": torch.from_numpy(io["image_sizes"])[used]}
    return inputs


@pytest.mark.parametrize("case", ["text", "mixed_image"])
def test_golden_embeddings(golden, tmp_path, case):
    folder, io = golden
    model = golden_model(folder, tmp_path, rope_choice="batch")
    with torch.no_grad():
        embeddings = model(**golden_inputs(io, case)).embeddings.numpy()
    assert np.abs(embeddings - io[f"{case}.expected_norm"]).max() < 1e-5


def test_golden_image_tokens(golden, tmp_path):
    folder, io = golden
    inputs = golden_inputs(io, "mixed_image")
    with torch.no_grad():
        tokens = torch.cat(
            golden_model(folder, tmp_path).model.get_image_features(inputs["pixel_values"], inputs["image_sizes"])
        )
    assert len(tokens) == io["mixed_image.img_token_count"]
    assert np.abs(tokens[io["mixed_image.img_token_rows"]] - io["mixed_image.img_token_values"]).max() < 5e-6


def test_rows_choose_their_own_rope_factors(golden, tmp_path):
    folder, io = golden
    model = golden_model(folder, tmp_path)
    assert model.model.config.rope_choice == "row"
    with torch.no_grad():
        batch = model(**golden_inputs(io, "mixed_image")).embeddings
        mask = torch.from_numpy(io["mixed_image.attention_mask"])
        ids = torch.from_numpy(io["mixed_image.input_ids"])
        text_row = next(row for row in range(len(ids)) if (ids[row] >= 0).all())
        kept = mask[text_row].bool()
        alone = model(input_ids=ids[text_row][kept][None], attention_mask=mask[text_row][kept][None]).embeddings[0]
    assert torch.allclose(batch[text_row], alone, atol=1e-5)
    published = torch.from_numpy(io["mixed_image.expected_norm"])
    assert (batch[text_row] - published[text_row]).abs().max() > 1e-2, (
        "this row is short; the published code takes long"
    )


def test_golden_image_processor(golden_dir):
    folder = golden_dir / "phi3v_image_processor"
    expected = np.load(folder / "expected.npz")
    processor = Phi3VImageProcessor()
    for number in (0, 1):
        out = processor(Image.open(folder / f"img{number}.png"))
        pixels = out["pixel_values"].numpy()
        assert np.abs(pixels[0, :, :, ::16, ::16] - expected[f"img{number}.pixel_values_strided16"]).max() < 1e-5
        assert out["image_sizes"].tolist() == expected[f"img{number}.image_sizes"].tolist()
        assert out["num_img_tokens"] == [expected[f"img{number}.num_img_tokens"].item()]
        mean, std = (np.array(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
        crops = pixels[0, 1 : 1 + len(expected[f"img{number}.local_crops_uint8_strided8"])] * std + mean
        local = np.round(crops * 255).astype(np.uint8)
        digest = hashlib.sha256(np.ascontiguousarray(local)).hexdigest()
        assert digest == str(expected[f"img{number}.local_crops_uint8_sha256"])
    for width, height, num_crops, out_height, out_width, tokens, _ in expected["grid"].tolist():
        if tokens < 0:
            with pytest.raises(ValueError, match="too long and thin"):
                padded_size(width, height, num_crops)
            continue
        canvas = padded_size(width, height, num_crops)
        assert (*canvas, count_tokens(*canvas)) == (out_height, out_width, tokens)


def test_published_defaults():
    config = Phi3VConfig()
    vision, text = config.vision_config, config.text_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.image_size, vision.patch_size) == (1024, 24, 336, 14)
    assert (text.hidden_size, text.num_hidden_layers, text.vocab_size) == (3072, 32, 32064)
    assert Phi3VConfig(**config.to_dict()).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"embd_layer": {"hd_transform_order": "glb_sub"}}, "hd_transform_order is 'glb_sub'"),
        ({"rope_scaling": {"type": "yarn"}}, "type 'yarn'"),
        ({"img_processor": {"type_feature": "cls_patch"}}, "type_feature"),
        ({"rope_choice": "token"}, "rope_choice"),
    ],
)
def test_other_variants_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Phi3VConfig(**change)


def test_a_missing_weight_is_named_in_published_checkpoints(golden, tmp_path):
    folder, _ = golden
    golden_model(folder, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.vision_embed_tokens.wte.weight"] = weights["model.embed_tokens.weight"].clone()  # an alias: dropped
    del weights["model.vision_embed_tokens.sub_GN"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsMismatchError, match="1 missing: .*row_separator"):
        UniMEModel.from_backbone(tmp_path)


ONE_CROP = {"num_crops": 1}


def test_four_crops_unless_told_otherwise(backbones, pictures):
    folder = backbones["phi3_v"]
    assert json.loads((folder / "preprocessor_config.json").read_text())["num_crops"] == 1
    counts = []
    for options in (None, ONE_CROP):
        processor = UniMEProcessor.from_backbone(folder, image_options=options)
        ids = processor(images=pictures[2:])["input_ids"]
        counts.append(int((ids == processor.image_token_id).sum()))
    assert counts == [757, 313]


def test_a_start_token_follows_the_image(backbones, pictures):
    processor = UniMEProcessor.from_backbone(backbones["phi3_v"], image_options=ONE_CROP)
    ids = processor(images=pictures[2:])["input_ids"][0].tolist()
    image = processor.image_token_id
    assert ids.count(image) == 313  # one view and one crop
    assert ids[0] == ids[ids.index(image) + 313] == processor.tokenizer.bos_token_id
    text = processor.tokenizer.decode([token for token in ids if token != image], skip_special_tokens=False)
    assert text == "<s><|user|>\n<s>\nSummary above image in one word:<|end|>\n<|assistant|>\n"


def test_a_long_text_is_cut_but_not_the_image(backbones, pictures):
    processor = UniMEProcessor.from_backbone(backbones["phi3_v"], max_length=420, image_options=ONE_CROP)
    inputs = processor(text=["word " * 100], images=pictures[2:])
    assert inputs["input_ids"].shape[1] == 420
    assert (inputs["input_ids"] == processor.image_token_id).sum() == 313
    assert processor.tokenizer.decode(inputs["input_ids"][0, -16:]).endswith("<|assistant|>\n")


def test_images_and_tokens_that_disagree_are_told(backbones, pictures):
    model = UniMEModel.from_backbone(backbones["phi3_v"])
    processor = UniMEProcessor.from_backbone(backbones["phi3_v"], image_options=ONE_CROP)
    inputs = processor(images=pictures[2:])
    position = inputs["input_ids"][0].tolist().index(processor.image_token_id)
    ids = torch.cat((inputs["input_ids"][:, :position], inputs["input_ids"][:, position + 1 :]), dim=1)
    with pytest.raises(ValueError, match="312 image tokens, but the images take 313"):
        model(**{**inputs, "input_ids": ids, "attention_mask": None})
    with pytest.raises(ValueError, match="no pixel_values"):
        Phi3VModel.forward(model.model, input_ids=inputs["input_ids"])


def test_projection_runs_once_for_all_images(backbones, pictures):
    """Ranks that split its weights gather them whenever it runs: equally often, however many images each has."""
    model = UniMEModel.from_backbone(backbones["phi3_v"])
    calls = []
    model.model.image_projection.linear_1.register_forward_hook(lambda *_: calls.append(1))
    inputs = UniMEProcessor.from_backbone(backbones["phi3_v"])(text=[None, None], images=pictures[:2])
    together = model(**inputs).embeddings
    assert len(calls) == 1
    for index in range(2):
        alone = UniMEProcessor.from_backbone(backbones["phi3_v"])(text=[None], images=[pictures[index]])
        torch.testing.assert_close(model(**alone).embeddings[0], together[index], atol=1e-5, rtol=0)
