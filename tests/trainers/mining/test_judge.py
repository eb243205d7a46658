# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The judge's score is the share of Yes against No after the prompt, whatever stands beside a pair in its batch."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_unime import UniMEModel, WeightsMismatchError
from trainers.mining.judge import Judge, JudgeOptions
from unime.data.example import Example
from unime.data.images import ImageStore

FAMILIES = ("llava_next", "qwen2_5_vl", "smolvlm")  # with and without token types; all images in one row of pixels


@pytest.fixture(scope="module", autouse=True)
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for seed, size in enumerate([(40, 60), (70, 30), (50, 50)]):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{seed}.png")
    for pair in PAIRS:
        pair[:] = [example.placed(ImageStore(root)) for example in pair]


def content(text=None, image=None) -> Example:
    return Example(text=text, image=image, instruction="")


PAIRS = [
    [content("<|image_1|>\nWhat is it?\n", "0.png"), content("a {dog}")],
    [content("Find a cat"), content("<|image_1|>\nRepresent the given image\n", "1.png")],
    [content("<|image_1|>\nA similar one\n", "1.png"), content("<|image_1|>\n", "2.png")],
    [content("a text, a little longer than the others are"), content("another text <|image_1|> with a stray token")],
]


def make_judge(folder, **options) -> Judge:
    return Judge(JudgeOptions(judge=str(folder), judge_batch_size=3, **options), "cpu", "float32")


@pytest.mark.parametrize("family", FAMILIES)
def test_score_is_the_share_of_yes(family, backbones):
    judge = make_judge(backbones[family])
    with torch.no_grad():
        judge.model.get_output_embeddings().weight.mul_(8)  # scores that differ
    scores = judge.scores(PAIRS)
    assert np.ptp(scores) > 1e-4
    yes, no = (judge.processor.tokenizer.convert_tokens_to_ids(letter) for letter in "YN")
    for pair, score in zip(PAIRS, scores, strict=True):  # by hand: all logits of an unpadded row
        with torch.no_grad():
            logits = judge.model(**judge.inputs([pair])).logits[0, -1]
        assert score == pytest.approx(float(logits[[yes, no]].softmax(0)[0]), abs=4e-6)


def test_images_stand_where_the_prompt_names_them(backbones):
    judge = make_judge(backbones["qwen2_vl"])
    text = judge.prompt(*PAIRS[2])
    assert text.startswith("<|im_start|>user\nI will provide you with a query") and text.endswith("assistant\n")
    assert text.count("<|image_1|>") == 2
    query, candidate = text.index("Query:<|image_1|>\nA similar one"), text.index(", Candidates:<|image_1|>\n.")
    assert query < candidate
    assert judge.scores([PAIRS[2][::-1]]) != pytest.approx(judge.scores(PAIRS[2:3]), abs=1e-6)
    assert judge.prompt(*PAIRS[3]).count("<|image_1|>") == 0, "a token without an image would take another's place"
    stray = content("<|image_pad|> and <|vision_start|><|image_pad|><|vision_end|>", "0.png")
    assert judge.text(stray) == "<|image_1|>\n and "


def test_long_texts_are_cut_on_their_own_side(backbones):
    judge = make_judge(backbones["llava_next"], judge_max_text_tokens=9)
    assert judge.text(content("0123456789 more")) == "012345678"
    assert judge.text(content("<|image_1|>\n0123456789", "0.png")) == "<|image_1|>\n012345678"
    unlimited = make_judge(backbones["llava_next"], judge_max_text_tokens=10_000)
    words = r"reads 2048 tokens, but the question on the query text 'xx.*has 3\d\d\d; lower"
    with pytest.raises(ValueError, match=words):
        unlimited.inputs([(content("x" * 3000), content("y"))])


def test_what_cannot_judge_is_refused_early(backbones, tmp_path):
    UniMEModel.from_backbone(str(backbones["llava_next"])).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no chat model of type 'unime'; a UniME folder has lost its head"):
        make_judge(tmp_path)
    with pytest.raises(ValueError, match="judge .*: transformers has no chat model of type 'phi3_v'"):
        make_judge(backbones["phi3_v"])


def test_judge_with_random_parts_is_refused(backbones, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in backbones["qwen2_vl"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert not json.loads((tmp_path / "config.json").read_text()).get("tie_word_embeddings")
    with pytest.raises(WeightsMismatchError, match="missing: lm_head.weight"):
        make_judge(tmp_path).scores(PAIRS)


def test_nan_is_named(backbones):
    judge = make_judge(backbones["llava_next"])
    with torch.no_grad():
        judge.model.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(ValueError, match="score of query text .* is NaN"):
        judge.scores(PAIRS)
