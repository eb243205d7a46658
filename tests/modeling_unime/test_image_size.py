# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Whether an image of some size can be processed, and its tokens, by arithmetic and as the processor really does it."""

import pytest
from PIL import Image
from tiny_models import BACKBONES

from modeling_unime import UniMEProcessor

SIZES = [(30, 30), (640, 480), (7, 300), (300, 7), (401, 2), (2, 401), (1, 5000), (3, 70), (1, 1)]


@pytest.mark.parametrize("family", list(BACKBONES))
def test_tokens_and_refusals_are_those_of_the_image_processor(backbones, family):
    processor = UniMEProcessor.from_backbone(backbones[family])
    for width, height in SIZES:
        try:
            ids = processor(images=[Image.new("RGB", (width, height))])["input_ids"]
        except ValueError:
            with pytest.raises(ValueError, match=f"an image of {width} x {height} pixels cannot be processed"):
                processor.check_image_size(width, height)
        else:
            assert processor.check_image_size(width, height) == int((ids == processor.image_token_id).sum())


def test_known_values(backbones):
    qwen = UniMEProcessor.from_backbone(backbones["qwen2_vl"])
    assert qwen.check_image_size(56, 84) == 6  # 2 x 3 tokens of 28 pixels
    with pytest.raises(ValueError, match="401 x 2 pixels cannot be processed: absolute aspect ratio must be smaller"):
        qwen.check_image_size(401, 2)
    square = UniMEProcessor.from_backbone(backbones["qwen2_vl"], image_resolution=56)
    assert square.check_image_size(401, 2) == 4


@pytest.mark.parametrize("instruction", [None, "", "Find it:"])
@pytest.mark.parametrize("family", ["llava_next", "qwen2_vl", "phi3_v"])
def test_the_row_needs_room(backbones, family, instruction):
    processor = UniMEProcessor.from_backbone(backbones[family])
    picture = Image.new("RGB", (56, 84))
    whole = processor(images=[picture], instruction=instruction)["input_ids"].shape[1]
    tokens = processor.check_image_size(56, 84)
    assert processor.check_image_size(56, 84, max_length=whole, instruction=instruction) == tokens
    with pytest.raises(ValueError, match=f"takes {tokens} tokens .* max_length is {whole - 1}"):
        processor.check_image_size(56, 84, max_length=whole - 1, instruction=instruction)
    with pytest.raises(ValueError, match="row 0 needs"):
        processor(images=[picture], instruction=instruction, max_length=whole - 1)
