# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The tower's own training: it learns what patches show, feeds the LLM's features, and refuses labels that do not fit."""

import json

import pytest
import torch
from PIL import Image

from examples.tiny.architecture import Architecture, build_image_processor, build_model
from examples.tiny.tokenizer import train_tokenizer
from examples.tiny.vision import VisionSchedule, pretrain_vision, read_patches, view_of

COLORS = {"red": (220, 40, 40), "green": (40, 170, 80), "blue": (50, 90, 220), "": (250, 250, 245)}


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """Pictures of 3 x 3 colored squares and their labels."""
    folder = tmp_path_factory.mktemp("patches")
    generator = torch.Generator().manual_seed(0)
    rows = []
    for number in range(48):
        names = [list(COLORS)[index] for index in torch.randint(len(COLORS), (9,), generator=generator).tolist()]
        picture = Image.new("RGB", (3, 3))
        picture.putdata([COLORS[name] for name in names])
        picture.resize((96, 96), Image.Resampling.NEAREST).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "patches": names})
    path = folder / "patches.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def tiny_model(patch_size=32):
    tokenizer = train_tokenizer(["a red star"] * 10, vocab_size=300)
    architecture = Architecture(
        hidden_size=64, num_layers=2, vision_hidden_size=64, vision_layers=2, patch_size=patch_size
    )
    return build_model(architecture, tokenizer), build_image_processor(architecture)


def test_tower_learns_to_name_patches_and_only_the_tower_changes(labeled):
    model, image_processor = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = read_patches(str(labeled))
    report = pretrain_vision(model, image_processor, rows[8:], rows[:8], VisionSchedule(60, 8))
    assert report["exact"] > 0.95 and report["pictures"] == 40
    changed = {name for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed and all("vision_tower" in name or "multi_modal_projector" in name for name in changed)


def test_the_features_are_those_that_the_llm_gets(labeled):
    model, image_processor = tiny_model()
    picture = [row.store.open(row.image) for row in read_patches(str(labeled))[:2]]
    batch = image_processor(images=picture, return_tensors="pt")
    with torch.no_grad():
        features = model.model.get_image_features(batch["pixel_values"], batch["image_sizes"]).pooler_output
        mine = view_of(model, batch["pixel_values"][:, 0])
    for whole, view in zip(features, mine, strict=True):
        assert torch.allclose(whole[:9], view, atol=1e-5)  # LLaVA-Next puts the whole view before the tiles


def test_labels_that_do_not_fit_are_named(labeled, tmp_path):
    model, image_processor = tiny_model(patch_size=48)
    with pytest.raises(ValueError, match="9 labels a picture, but the tower sees 4 patches; set patch_size"):
        pretrain_vision(model, image_processor, read_patches(str(labeled)), [], VisionSchedule(1))
    bad = tmp_path / "bad.jsonl"
    for second, message in (
        ({"image": "1.png"}, "row 2: expected the columns"),
        ({"image": "1.png", "patches": ["a"]}, "row 2: 1 patches, but 2"),
    ):
        bad.write_text("\n".join(json.dumps(row) for row in ({"image": "0.png", "patches": ["a", "b"]}, second)))
        with pytest.raises(ValueError, match=message):
            read_patches(str(bad), str(labeled.parent))
