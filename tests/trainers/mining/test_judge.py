# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The judge's score is the share of Yes against No after the prompt, whatever stands beside a pair in its batch."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_unime import UniMEModel, WeightsMismatchError
from trainers.mining.judge import Judge, JudgePrompt
from unime.data.example import Example
from unime.data.images import ImageStore
from unime.shards import MiningError

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
    return Judge(JudgePrompt(folder, **options), torch.float32, torch.device("cpu"), batch_size=3)


def sides(judge: Judge, pairs=PAIRS) -> list:
    return [(judge.prompt.side(query), judge.prompt.side(candidate)) for query, candidate in pairs]


@pytest.mark.parametrize("family", FAMILIES)
def test_score_is_the_share_of_yes(family, backbones):
    judge = make_judge(backbones[family])
    with torch.no_grad():
        judge.model.get_output_embeddings().weight.mul_(8)  # scores that differ
    scores = judge.scores(sides(judge))
    assert np.ptp(scores) > 1e-4
    yes, no = (judge.prompt.processor.tokenizer.convert_tokens_to_ids(letter) for letter in "YN")
    for pair, score in zip(sides(judge), scores, strict=True):  # by hand: all logits of an unpadded row
        with torch.no_grad():
            logits = judge.model(**judge.prompt.inputs([pair])).logits[0, -1]
        assert score == pytest.approx(float(logits[[yes, no]].softmax(0)[0]), abs=4e-6)


def test_images_stand_where_the_prompt_names_them(backbones):
    judge = make_judge(backbones["qwen2_vl"])
    prompt = judge.prompt
    text = prompt.text(*sides(judge)[2])
    assert text.startswith("<|im_start|>user\nI will provide you with a query") and text.endswith("assistant\n")
    assert text.count("<|image_1|>") == 2
    query, candidate = text.index("Query:<|image_1|>\nA similar one"), text.index(", Candidates:<|image_1|>\n.")
    assert query < candidate
    swapped = [(b, a) for a, b in sides(judge)[2:3]]
    assert judge.scores(swapped) != pytest.approx(judge.scores(sides(judge)[2:3]), abs=1e-6)
    assert prompt.text(*sides(judge)[3]).count("<|image_1|>") == 0, (
        "a token without an image would take another's place"
    )
    stray = prompt.side(content("<|image_pad|> and <|vision_start|><|image_pad|><|vision_end|>", "0.png"))
    assert stray.text == "<|image_1|>\n and "


def test_long_texts_are_cut_on_their_own_side(backbones):
    prompt = JudgePrompt(backbones["llava_next"], max_text_tokens=9)
    assert prompt.side(content("0123456789 more")).text == "012345678"
    assert prompt.side(content("<|image_1|>\n0123456789", "0.png")).text == "<|image_1|>\n012345678"
    long = content("x" * 3000)
    with pytest.raises(
        MiningError, match=r"reads 2048 tokens, but the question on the query text 'xx.*has 3\d\d\d; lower"
    ):
        unlimited = JudgePrompt(backbones["llava_next"], max_text_tokens=10_000)
        unlimited.inputs([(unlimited.side(long), unlimited.side(content("y")))])


def test_what_cannot_judge_is_refused_early(backbones, tmp_path):
    UniMEModel.from_backbone(str(backbones["llava_next"])).save_pretrained(tmp_path)
    with pytest.raises(MiningError, match="no chat model of type 'unime'; a UniME folder has lost its head"):
        JudgePrompt(tmp_path)
    with pytest.raises(MiningError, match="no chat model of type 'phi3_v'"):
        JudgePrompt(backbones["phi3_v"])
    with pytest.raises(ValueError, match="unknown chat_format 'telex'"):
        JudgePrompt(backbones["llava_next"], chat_format="telex")


def test_judge_with_random_parts_is_refused(backbones, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in backbones["qwen2_vl"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert not json.loads((tmp_path / "config.json").read_text()).get("tie_word_embeddings")
    with pytest.raises(WeightsMismatchError, match="missing: lm_head.weight"):
        make_judge(tmp_path)


def test_nan_is_named(backbones):
    judge = make_judge(backbones["llava_next"])
    with torch.no_grad():
        judge.model.get_output_embeddings().weight.fill_(torch.nan)
    with pytest.raises(MiningError, match="score of query text .* is NaN"):
        judge.scores(sides(judge))
