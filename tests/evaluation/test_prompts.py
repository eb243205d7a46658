# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The prompts of other embedders, character by character, in the tokens that a model gets."""

import typing

import numpy as np
import pytest
from PIL import Image

from evaluation.arguments import EncoderArguments
from evaluation.encoders import encoder_identity, make_encoder
from evaluation.prompts import OWN, PROMPTS, baseline_processor
from modeling_unime import UniMEModel, UniMEProcessor
from unime.data.bad_rows import DataError
from unime.data.example import Example

HEAD = "<|start_header_id|>user<|end_header_id|>\n\n"
TAIL = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n"
E5V = {
    "text": HEAD + "a dog\nSummary above sentence in one word: " + TAIL,
    "image": HEAD + "<image>\nSummary above image in one word: " + TAIL,
    "image_text": HEAD + "<image>\nFind it: a dog\nSummary above image and text in one word: " + TAIL,
    "mmeb_text": HEAD + "Find it.\nSummary above sentence in one word: " + TAIL,
}
VLM2VEC = {
    "text": "a dog",
    "image": "<image> Find an image caption describing the given image.",
    "image_text": "<image>\nFind it: a dog\n",
    "mmeb_text": "Find it.\n",
}


def read(processor, text, picture, instruction):
    """The prompt in a row's tokens, the placeholders of a picture as one."""
    inputs = processor(text=[text], images=[picture], instruction=instruction)
    tokenizer = getattr(processor, "processor", processor).tokenizer
    decoded = tokenizer.decode(inputs["input_ids"][0], skip_special_tokens=False).removeprefix("<s>")
    first, *rest = decoded.split("<image>")
    return first + "<image>" * bool(rest) + "".join(rest)


@pytest.mark.parametrize(("name", "expected"), [("e5v", E5V), ("vlm2vec", VLM2VEC)])
def test_strings(name, expected, backbones):
    processor = baseline_processor(str(backbones["llava_next"]), name)
    picture = Image.new("RGB", (28, 28))
    found = {
        "text": read(processor, "a dog", None, None),
        "image": read(processor, None, picture, None),
        "image_text": read(processor, "<|image_1|>\nFind it: a dog\n", picture, ""),
        "mmeb_text": read(processor, "<|image_1|>\nFind it.\n", None, [""]),
    }
    assert found == expected


def test_option(backbones, tmp_path):
    assert typing.get_args(typing.get_type_hints(EncoderArguments)["prompts"]) == (OWN, *PROMPTS)
    model = str(backbones["llava_next"])
    arguments = {name: EncoderArguments(model, device="cpu", prompts=name) for name in (OWN, *PROMPTS)}
    assert len({str(encoder_identity(given)) for given in arguments.values()}) == 3
    vectors = {name: make_encoder(given).encode([Example("a dog")])[0] for name, given in arguments.items()}
    assert np.abs(vectors["e5v"] - vectors[OWN]).max() > 1e-3 < np.abs(vectors["vlm2vec"] - vectors[OWN]).max()
    UniMEModel.from_backbone(model).save_pretrained(tmp_path)
    UniMEProcessor.from_backbone(model).save_pretrained(tmp_path)
    for early in (encoder_identity, make_encoder):  # the first is asked before any data is read
        with pytest.raises(
            DataError, match="--prompts e5v is for a multimodal LLM .* keeps the prompts it was trained"
        ):
            early(EncoderArguments(str(tmp_path), device="cpu", prompts="e5v"))
