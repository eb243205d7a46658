# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""UniMEProcessor: exact prompts, MMEB strings, placeholder counts, truncation, refusals."""

import json
import shutil

import pytest
import torch
from PIL import Image
from tiny_models import BACKBONES
from transformers.utils.chat_template_utils import render_jinja_template

from modeling_unime import UniMEModel, UniMEProcessor
from modeling_unime.families import build_prompts, choose_chat_format, get_family


@pytest.fixture(scope="module")
def llava(backbones):
    return UniMEProcessor.from_backbone(backbones["llava_next"])


@pytest.fixture(scope="module")
def qwen(backbones):
    return UniMEProcessor.from_backbone(backbones["qwen2_vl"])


@pytest.fixture(scope="module")
def onevision(backbones):
    return UniMEProcessor.from_backbone(backbones["llava_onevision"])


def decode(processor, **inputs) -> list[str]:
    """Prompts as the model sees them, with runs of placeholders as one '#' and no padding or start tokens."""
    rows = processor(**inputs)
    strings = []
    for ids, mask in zip(rows["input_ids"], rows["attention_mask"], strict=True):
        kept, previous = [], None
        for token in ids[mask.bool()].tolist():
            if token != processor.image_token_id or previous != token:
                kept.append(token)
            previous = token
        text = processor.tokenizer.decode(kept).replace(processor.image_token, "#")
        strings.append(text.replace(processor.tokenizer.bos_token, ""))  # Phi-3.5-V has one behind an image, too
    return strings


# The strings of the released checkpoints (the authors' code; for Llama-3 E5-V's), character by character: '#' is the image.
# What an image and a text together get is our choice, but for Llama-3, where it is E5-V's on MMEB.
LLAMA3 = "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n"
RELEASED = {
    ("phi3_v", None): (
        "<|user|>\nA dog.\nSummary above sentence in one word:<|end|>\n<|assistant|>\n",
        "<|user|>\n#\nSummary above image in one word:<|end|>\n<|assistant|>\n",
        "<|user|>\n#\nA dog.\nSummary above image and text in one word:<|end|>\n<|assistant|>\n",
    ),
    ("llava_next", None): (
        "[INST] A dog.\nSummary above sentence in one word: [/INST]",
        "[INST] #\nSummary above image in one word: [/INST]",
        "[INST] #\nA dog.\nSummary above image and text in one word: [/INST]",
    ),
    ("llava_next", "llama3"): (
        LLAMA3.replace("{}", "A dog.\nSummary above sentence in one word: "),
        LLAMA3.replace("{}", "#\nSummary above image in one word: "),
        LLAMA3.replace("{}", "#\nA dog.\nSummary above image and text in one word: "),
    ),
    ("llava_onevision", None): (
        "<|im_start|>user \nA dog.\nSummary above sentence in one word:\n<|im_end|><|im_start|>assistant\n",
        "<|im_start|>user #\nSummary above image in one word:\n<|im_end|><|im_start|>assistant\n",
        "<|im_start|>user #\nA dog.\nSummary above image and text in one word:\n<|im_end|><|im_start|>assistant\n",
    ),
}


@pytest.mark.parametrize(("family", "chat_format"), RELEASED)
def test_prompts_are_those_of_the_released_checkpoints(backbones, family, chat_format, pictures):
    processor = UniMEProcessor.from_backbone(backbones[family], chat_format=chat_format)
    image = pictures[2]
    prompts = decode(processor, text=["A dog.", None, "A dog."], images=[None, image, image])
    assert tuple(prompts) == RELEASED[family, chat_format]


def test_a_saved_folder_keeps_the_prompts_it_was_saved_with(backbones, tmp_path):
    """As folders have them that were saved when Llama-3's prompt lacked the space behind the colon."""
    before = {name: prompt.replace(": <|eot_id|>", ":<|eot_id|>") for name, prompt in build_prompts("llama3").items()}
    processor = UniMEProcessor.from_backbone(backbones["llava_next"], prompts=before)
    assert decode(processor, text=["a"]) == [LLAMA3.replace("{}", "a\nSummary above sentence in one word:")]
    processor.save_pretrained(tmp_path)
    UniMEModel.from_backbone(backbones["llava_next"]).save_pretrained(tmp_path)
    again = UniMEProcessor.from_backbone(tmp_path)
    assert (again.prompts, again.chat_template) == (before, processor.chat_template)


def test_qwen_prompts(qwen, pictures):
    assert decode(qwen, text=[None], images=[pictures[0]]) == [
        "<|im_start|>user\n<|vision_start|>#<|vision_end|>\nSummary above image in one word:<|im_end|>\n"
        "<|im_start|>assistant\n"
    ]


def test_a_tokenizer_of_another_checkpoint_is_refused(backbones, tmp_path):
    shutil.copytree(backbones["llava_next"], tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["image_token_index"] += 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="'<image>' is token 3 of the tokenizer, but the model's config says 4"):
        UniMEProcessor.from_backbone(tmp_path)


def test_phrases_with_braces_are_left_alone(llava):
    assert decode(llava, text=["{text} {image}"]) == [
        "[INST] {text} {image}\nSummary above sentence in one word: [/INST]"
    ]


def test_instruction_form(llava, pictures):
    prompts = decode(
        llava, text=["a cat", None, "red"], images=[None, pictures[0], pictures[1]], instruction="Represent it:"
    )
    assert prompts == ["Represent it: a cat\n", "#\nRepresent it:\n", "#\nRepresent it: red\n"]


def test_one_instruction_per_example(llava):
    assert decode(llava, text=["a", "b", "c"], instruction=["Find:", "", None]) == [
        "Find: a\n",
        "b",
        "[INST] c\nSummary above sentence in one word: [/INST]",
    ]


@pytest.mark.parametrize("instruction", [None, "", " "])
def test_raw_mmeb_string_is_taken_as_it_is(llava, qwen, pictures, instruction):
    raw = "<|image_1|>\nRepresent the given image for classification\n"
    assert decode(llava, text=[raw], images=[pictures[0]], instruction=instruction) == [
        "#\nRepresent the given image for classification\n"
    ]
    assert decode(qwen, text=[raw], images=[pictures[0]], instruction=instruction) == [
        "<|vision_start|>#<|vision_end|>\nRepresent the given image for classification\n"
    ]


def test_image_token_anywhere_in_the_string(llava, pictures):
    assert decode(llava, text=["Given <|image_1|> find it"], images=[pictures[0]]) == ["Given # find it"]


def test_stray_and_surplus_image_tokens_are_dropped(llava, pictures):
    stray = "<|image_1|>\nFind a Wikipedia image that answers this question: who?\n"
    assert decode(llava, text=[stray]) == ["Find a Wikipedia image that answers this question: who?\n"]
    twice = "<|image_1|>\nA <|image_1|> b <image>"
    assert decode(llava, text=[twice], images=[pictures[0]]) == ["#\nA b "]
    assert decode(llava, text=["<image> a dog"]) == ["[INST] a dog\nSummary above sentence in one word: [/INST]"]


def test_bare_target(llava, pictures):
    assert decode(llava, text=["Yes"], instruction="") == ["Yes"]
    assert decode(llava, text=[None], images=[pictures[0]], instruction="") == ["#\n"]


def test_placeholder_counts_of_golden_images(golden_dir):
    import numpy as np

    arrays = np.load(golden_dir / "llava_next_tiny" / "io.npz")
    geometry = {
        "image_size": 56,
        "patch_size": 14,
        "vision_model_type": "clip_vision_model",
        "vision_feature_select_strategy": "default",
        "image_grid_pinpoints": [[56, 112], [112, 56], [112, 112], [56, 168]],
    }
    features = {"image_sizes": torch.from_numpy(arrays["image.image_sizes"])}
    assert get_family("llava_next").count_image_tokens(features, geometry) == arrays["image.num_tokens"].tolist()
    arrays = np.load(golden_dir / "qwen2_vl_tiny" / "io.npz")
    features = {"image_grid_thw": torch.from_numpy(arrays["image.image_grid_thw"])}
    assert get_family("qwen2_vl").count_image_tokens(features, {"spatial_merge_size": 2}) == [6, 10]


@pytest.mark.parametrize("family", sorted(BACKBONES))
@torch.no_grad()
def test_placeholder_counts_fit_the_model(backbones, family):
    """The library raises when the number of placeholders is not the number of features."""
    processor = UniMEProcessor.from_backbone(backbones[family])
    model = UniMEModel.from_backbone(backbones[family])
    for size in ((7, 300), (300, 7), (28, 28), (29, 55), (111, 113), (500, 333)):
        if max(size) / min(size) > 40 and get_family(family).needs_token_types:
            continue  # the Qwen image processor refuses such shapes
        assert model(**processor(images=[Image.new("RGB", size)])).embeddings.isfinite().all()


def test_truncation_shortens_the_users_text_only(llava, pictures):
    text = "x" * 300
    whole = llava(text=[text], images=[pictures[0]])["input_ids"][0]
    images = int((whole == llava.image_token_id).sum())
    limit = images + 100
    row = llava(text=[text], images=[pictures[0]], max_length=limit)["input_ids"][0]
    assert len(row) == limit and int((row == llava.image_token_id).sum()) == images
    string = llava.tokenizer.decode(row)
    assert string.endswith("x\nSummary above image and text in one word: [/INST]")
    assert string.startswith("<s>[INST] <image>")


def test_truncation_is_said_once(llava, monkeypatch):
    from modeling_unime import prompts

    said = []
    monkeypatch.setattr(prompts.logger, "warning_once", said.append)
    llava(text=["y" * 200], max_length=80)
    assert len(said) == 1 and "max_length = 80" in said[0]
    llava(text=["y"], max_length=80)
    assert len(said) == 1


def test_truncation_of_raw_strings_keeps_the_image(llava, pictures):
    raw = "<|image_1|>\nRepresent the given image with the following question: " + "why " * 100
    row = llava(text=[raw], images=[pictures[2]], max_length=160)["input_ids"][0]
    whole = llava(text=[raw], images=[pictures[2]])["input_ids"][0]
    assert len(row) == 160
    assert int((row == llava.image_token_id).sum()) == int((whole == llava.image_token_id).sum())


def test_truncation_keeps_an_image_at_the_end(llava, pictures):
    raw = "why " * 100 + "<|image_1|>"
    whole = llava(text=[raw], images=[pictures[2]])["input_ids"][0]
    row = llava(text=[raw], images=[pictures[2]], max_length=160)["input_ids"][0]
    images = int((whole == llava.image_token_id).sum())
    assert len(row) == 160 and int((row == llava.image_token_id).sum()) == images
    assert row[-images:].eq(llava.image_token_id).all()


def test_what_cannot_fit_is_refused(llava, pictures):
    with pytest.raises(ValueError, match="row 1 needs .* max_length is 20"):
        llava(text=["a", "b"], images=[None, pictures[0]], max_length=20, instruction="")


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({}, "nothing to embed"),
        ({"text": []}, "the batch is empty"),
        ({"text": ["a", None]}, "row 1 of the batch has neither text nor image"),
        ({"text": ["a"], "images": [None, None]}, "one element per example"),
        ({"text": ["a", "b"], "instruction": ["x"]}, "one element per example"),
        ({"text": ["a"], "padding": "left"}, "padding is 'left'; use one of None, True, 'longest'"),
        ({"text": ["a"], "truncation": "end"}, "truncation is 'end'; use one of"),
        ({"text": ["a", "ab"], "padding": False}, "different numbers of tokens"),
    ],
)
def test_bad_batches_are_refused(llava, inputs, message):
    with pytest.raises(ValueError, match=message):
        llava(**inputs)


def test_image_resolution(backbones, pictures):
    processor = UniMEProcessor.from_backbone(backbones["llava_next"], image_resolution=56)
    sizes = processor(images=pictures)["image_sizes"]
    assert sizes.tolist() == [[56, 56]] * 3


def test_from_backbone_takes_a_unime_folder_too(llava, backbones, tmp_path):
    UniMEModel.from_backbone(backbones["llava_next"]).save_pretrained(tmp_path)
    llava.save_pretrained(tmp_path)
    processor = UniMEProcessor.from_backbone(tmp_path, image_resolution=56, max_length=99)
    assert (processor.image_resolution, processor.max_length, processor.prompts) == (56, 99, llava.prompts)
    with pytest.raises(ValueError, match="chat_format, image_options cannot be changed"):
        UniMEProcessor.from_backbone(tmp_path, chat_format="plain", image_options={"do_pad": False})


@pytest.mark.parametrize("name", ["llava", "qwen", "onevision"])
def test_chat_template_gives_the_processors_prompts(name, request, pictures):
    processor = request.getfixturevalue(name)
    text, image = {"type": "text", "text": "A dog."}, {"type": "image", "image": pictures[0]}
    one, two, empty = ({"type": "text", "text": words} for words in ("one", "two", ""))
    contents = ["A dog.", [text], [image], [image, text], [text, image], [image, image, text], [image, image]]
    contents += [[image, one, two], [one, image, two], [one, empty, two], [empty, one], [empty], "", [empty, image]]
    contents += [[{"type": "image", "image": None}, one], [{"type": "text", "text": None}, image], [{"type": "image"}]]
    users = [[{"role": "user", "content": content}] for content in contents]
    users.append([users[0][0], users[8][0]])
    systems = ["Find it:", [one], [one, two], [one, {"type": "text", "text": None}], "", " ", [empty, two]]
    systems = [[{"role": "system", "content": content}] for content in systems]
    systems.append(systems[0] + systems[1])
    conversations = users + [system + user for system in systems for user in users]
    conversations += [user + systems[0] for user in users]
    rendered, _ = render_jinja_template(conversations, chat_template=processor.chat_template)
    assert rendered == processor.apply_chat_template(conversations)


def test_parts_of_messages_are_joined(llava, pictures):
    parts = [{"type": "image", "image": pictures[0]}, {"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    user = {"role": "user", "content": parts}
    assert llava.apply_chat_template([user]) == (
        "[INST] <image>\none\ntwo\nSummary above image and text in one word: [/INST]"
    )
    system = {"role": "system", "content": [{"type": "text", "text": "Find"}, {"type": "text", "text": "it:"}]}
    assert llava.apply_chat_template([system, user]) == "<image>\nFind\nit: one\ntwo\n"


def test_foreign_chat_template_and_video_are_refused(llava):
    with pytest.raises(ValueError, match="builds its prompts itself"):
        llava.apply_chat_template([{"role": "user", "content": "a"}], chat_template="x")
    with pytest.raises(ValueError, match="not 'video'"):
        llava.apply_chat_template([{"role": "user", "content": [{"type": "video", "video": "v"}]}])


def test_chat_formats():
    assert choose_chat_format({"<|im_start|>": 1}, "qwen2") == "chatml"
    assert choose_chat_format({"<|start_header_id|>": 1}, "llama") == "llama3"
    assert choose_chat_format({}, "mistral") == "mistral"
    assert choose_chat_format({}, "llama") == "vicuna"
    assert choose_chat_format({}, "gpt2") == "plain"
    assert build_prompts("llama3")["text"].endswith("<|start_header_id|>assistant<|end_header_id|>\n\n \n")
    with pytest.raises(ValueError, match="unknown chat_format 'alpaca'"):
        build_prompts("alpaca")


def test_missing_image_token_is_refused(backbones, llava):
    from tiny_models import make_tokenizer

    with pytest.raises(ValueError, match="no '<image>' token"):
        UniMEProcessor(
            llava.image_processor,
            make_tokenizer([], bos=True),
            family="llava_next",
            prompts=llava.prompts,
            geometry=llava.geometry,
        )


@pytest.mark.parametrize("family", ["llava_next", "phi3_v", "qwen2_vl", "smolvlm"])
def test_several_images_in_an_example(backbones, pictures, family):
    """Each image has its own placeholders, rows with one, two and no images go together, and order matters."""
    model, processor = (cls.from_backbone(backbones[family]) for cls in (UniMEModel, UniMEProcessor))
    first, second = pictures[0], pictures[2]
    one = [int((processor(images=[p])["input_ids"] == processor.image_token_id).sum()) for p in (first, second)]
    texts = ["both", "a text", "one"]
    inputs = processor(text=texts, images=[[first, second], None, first])
    assert (inputs["input_ids"] == processor.image_token_id).sum(1).tolist() == [sum(one), 0, one[0]]
    with torch.no_grad():
        batch = model(**inputs).embeddings
        alone = model(**processor(text=["both"], images=[[first, second]])).embeddings
        swapped = model(**processor(text=["both"], images=[[second, first]])).embeddings
    torch.testing.assert_close(batch[:1], alone, atol=1e-5, rtol=0)
    assert (alone - swapped).abs().max() > 1e-4


def test_several_images_in_a_raw_text(llava, pictures):
    two = [[pictures[0], pictures[1]]]
    assert decode(llava, text=["<|image_1|>\nand <|image_2|> differ"], images=two) == ["#\nand # differ"]
    assert decode(llava, text=["<|image_1|> differs"], images=two) == ["#\n# differs"]
    assert decode(llava, text=["<|image_1|> and <|image_2|> differ"], images=[pictures[0]]) == ["# and differ"]


def test_image_tokens_in_an_instruction_are_removed(llava, qwen, pictures):
    """The MMEB form of the same instruction is the right value."""
    for processor, token in ((llava, "<image>"), (qwen, "<|image_pad|>"), (qwen, qwen.image_block)):
        for stray in (token, "<|image_1|>"):
            instruction = f"{stray}\nRepresent the given image:"
            right = decode(processor, text=["<|image_1|>\nRepresent the given image: red\n"], images=[pictures[0]])
            assert decode(processor, text=["red"], images=[pictures[0]], instruction=instruction) == right
            assert decode(processor, text=["a"], instruction=f"Find {stray} it:") == ["Find it: a\n"]


NESTED = {
    "<|image<|image_pad|>_pad|>": "",
    "<|im<|image_1|>age<|image<|image_pad|>_pad|>_pad|> a": "a",
    "<|image_<|image_1|>1|>x": "x",
    "a <|image_pad|>b<|image_1|>\nc": "a bc",
    "a < b > c |> d": "a < b > c |> d",
}


@pytest.mark.parametrize("text", NESTED)
def test_cleaning_leaves_no_token_behind(qwen, pictures, text):
    clean = NESTED[text]
    assert decode(qwen, text=[text], instruction="") == [clean or "\n"]
    assert decode(qwen, text=[text], instruction="Find:") == [f"Find: {clean}\n" if clean else "Find:\n"]
    assert decode(qwen, text=["x"], instruction=f"Find:{text}") == [f"Find:{clean} x\n"]
    for instruction in (None, "", "Find:"):
        ids = qwen(text=[text], images=[pictures[0]], instruction=instruction)["input_ids"]
        assert int((ids == qwen.image_token_id).sum()) == qwen.check_image_size(*pictures[0].size)


def test_cleaning_takes_linear_time(qwen):
    import time

    deep = "<|image" * 30_000 + "_pad|>" * 30_000
    start = time.perf_counter()
    assert decode(qwen, text=[deep + " a"]) == decode(qwen, text=["a"])
    assert time.perf_counter() - start < 3  # pass after pass: minutes


def test_an_empty_text_has_its_prompt(llava, qwen, pictures):
    right = "\nSummary above sentence in one word: [/INST]"
    assert decode(llava, text=["", "<image>"]) == ["[INST] " + right] * 2
    assert decode(llava, text=[""], images=[pictures[0]]) == decode(llava, images=[pictures[0]])
    for processor in (llava, qwen):
        assert decode(processor, text=["", "<|image_1|>"], instruction=["Find:", ""]) == ["Find:\n", "\n"]
        assert decode(processor, text=["<|image_1|>"]) == ["\n"]


def test_shorter_rows_are_padded_on_the_left(llava):
    # With room on the right the last place, which other programs pool, would be padding.
    mask = llava(text=["a", "a longer text"])["attention_mask"]
    assert mask[0, 0] == 0 and mask[:, -1].all()


def test_padding_and_truncation_have_their_usual_meaning(llava):
    texts = ["a", "b" * 30]
    plain = llava(text=texts)
    for options in ({"padding": True, "truncation": True}, {"padding": "longest", "truncation": "longest_first"}):
        assert torch.equal(llava(text=texts, **options)["input_ids"], plain["input_ids"])
    wide = llava(text=texts, padding="max_length", max_length=100)
    assert wide["input_ids"].shape == (2, 100) and torch.equal(
        wide["attention_mask"].sum(1), plain["attention_mask"].sum(1)
    )
    assert torch.equal(llava(text=texts, truncation=False, max_length=20)["input_ids"], plain["input_ids"])
    assert llava(text=["a"], padding=False)["attention_mask"].all()
    assert llava.apply_chat_template(
        [[{"role": "user", "content": "a"}]], tokenize=True, padding="max_length", max_length=90
    )["input_ids"].shape == (1, 90)


def test_long_texts_are_cut_before_they_are_tokenised(llava, monkeypatch):
    """The same ids, from no more characters than so many tokens can have."""
    import time

    words = "many words, of which few are read " * 5_000
    whole = llava(text=[words], truncation=False)["input_ids"][0].tolist()
    ids = llava(text=[words], max_length=200)["input_ids"][0].tolist()
    assert len(ids) == 200
    tail = next(length for length in range(200) if ids[-length - 1] != whole[-length - 1])
    assert ids == whole[: 200 - tail] + whole[-tail:]

    seen = []
    tokenize = llava._builder.tokenize
    monkeypatch.setattr(
        llava._builder, "tokenize", lambda rows, **options: (seen.extend(rows), tokenize(rows, **options))[1]
    )
    start = time.perf_counter()
    row = llava(text=["x" * 4_000_000], max_length=200)["input_ids"][0].tolist()
    assert time.perf_counter() - start < 2 and len(row) == 200 and max(map(len, seen)) < 20_000
