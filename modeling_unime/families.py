# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What differs between backbone families, as data.

A *family* is one `model_type` of transformers. Everything that the processor, the model and the trainers must know
about a family stands in its entry of `FAMILIES`; no other file asks which family it has. To add one, add an entry (and
a test, see CONTRIBUTING.md).

Prompt texts are those the released checkpoints are evaluated with (UniME, arXiv 2504.17432, section 3.1.2 and the
authors' code; paper-level spellings differ in small ways). Prompts that no paper gives are marked "our choice".
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from transformers.image_processing_utils import select_best_resolution

# Slots of a prompt template. They are replaced literally, never by str.format, because user text may hold braces.
IMAGE_SLOT = "{image}"
TEXT_SLOT = "{text}"


@dataclass(frozen=True)
class ChatFormat:
    """How one family of LLMs wraps a user turn."""

    turn: str  # with `{}` where the user's turn goes
    marker: str | None = None  # a token that only tokenizers of this format have
    text_model_types: tuple[str, ...] = ()  # of the LLMs that use the format when no marker decides
    turns: dict[str, str] = field(default_factory=dict)  # by modality, where they are not those of SUMMARY_TURNS


# Order matters: the first whose marker is in the vocabulary wins, then the first that names the LLM's model_type.
CHAT_FORMATS: dict[str, ChatFormat] = {
    "llama3": ChatFormat(
        # E5-V's template, which UniME's code falls back to: there is a space before the end of the turn, and one behind.
        "<|start_header_id|>user<|end_header_id|>\n\n{} <|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n",
        marker="<|start_header_id|>",
    ),
    "smolvlm": ChatFormat(  # our choice: its own turn
        "<|im_start|>User:{}<end_of_utterance>\nAssistant:", marker="<end_of_utterance>"
    ),
    "glm": ChatFormat("[gMASK]<sop><|user|>\n{}<|assistant|>\n", marker="[gMASK]"),  # our choice: its own turn
    "chatml": ChatFormat(  # our choice for Qwen models: their own chat turn
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", marker="<|im_start|>"
    ),
    "phi3": ChatFormat("<|user|>\n{}<|end|>\n<|assistant|>\n", marker="<|user|>"),
    "mistral": ChatFormat("[INST] {} [/INST]", text_model_types=("mistral",)),
    "vicuna": ChatFormat("USER: {} ASSISTANT:", text_model_types=("llama",)),  # our choice: LLaVA-Vicuna's own turn
    "onevision": ChatFormat(
        # The template of the published LLaVA-OneVision: images first, then a newline and the text; UniME's text ends
        # with a newline for this backbone. For image and text there is no released prompt: our choice.
        "<|im_start|>user {}<|im_end|><|im_start|>assistant\n",
        turns={
            "text": f"\n{TEXT_SLOT}\nSummary above sentence in one word:\n",
            "image": f"{IMAGE_SLOT}\nSummary above image in one word:\n",
            "image_text": f"{IMAGE_SLOT}\n{TEXT_SLOT}\nSummary above image and text in one word:\n",
        },
    ),
    "plain": ChatFormat("{}"),
}

# The three forms of an input without an instruction. The third is not in the paper, which adds the two embeddings
# of an image-text pair; the wording is the one E5-V is evaluated with on MMEB.
SUMMARY_TURNS: dict[str, str] = {
    "text": f"{TEXT_SLOT}\nSummary above sentence in one word:",
    "image": f"{IMAGE_SLOT}\nSummary above image in one word:",
    "image_text": f"{IMAGE_SLOT}\n{TEXT_SLOT}\nSummary above image and text in one word:",
}


def build_prompts(chat_format: str) -> dict[str, str]:
    """The prompt templates of a chat format, by modality ("text", "image", "image_text")."""
    if chat_format not in CHAT_FORMATS:
        raise ValueError(f"unknown chat_format {chat_format!r}; known are {', '.join(CHAT_FORMATS)}")
    chat = CHAT_FORMATS[chat_format]
    return {modality: chat.turn.replace("{}", body) for modality, body in (SUMMARY_TURNS | chat.turns).items()}


def choose_chat_format(vocabulary: dict[str, int], text_model_type: str) -> str:
    """Name of the chat format that fits a tokenizer's vocabulary and an LLM's `model_type`."""
    marked = [name for name, chat in CHAT_FORMATS.items() if chat.marker in vocabulary]
    named = [name for name, chat in CHAT_FORMATS.items() if text_model_type in chat.text_model_types]
    return [*marked, *named, "plain"][0]


# --------------------------------------------------------------------------- number of placeholder tokens per image


def _count_llava(features: dict, geometry: dict) -> list[int]:
    """Placeholders of LLaVA-1.5: one per patch of the one view, and the class token where that is kept."""
    side = geometry["image_size"] // geometry["patch_size"]
    class_token = geometry["vision_model_type"] == "clip_vision_model"
    dropped = geometry["vision_feature_select_strategy"] == "default"
    return [side * side + class_token - dropped] * len(features["pixel_values"])


def _count_llava_next(features: dict, geometry: dict) -> list[int]:
    """Placeholders of LLaVA-NeXT and -OneVision: base view + tiles without their padding + one newline per row."""
    tile = geometry["image_size"]
    side = tile // geometry["patch_size"]  # patches along one side of a tile
    class_token = geometry["vision_model_type"] == "clip_vision_model"
    base = side * side + class_token - (geometry["vision_feature_select_strategy"] == "default")
    max_views = int(geometry["max_views"].removeprefix("anyres_max_")) if "max_views" in geometry else None
    counts = []
    for height, width in features["image_sizes"].tolist():
        best_height, best_width = select_best_resolution((height, width), geometry["image_grid_pinpoints"])
        rows, columns = best_height // tile * side, best_width // tile * side
        # The picture fills the canvas in one direction; patches that hold only padding are cut in the other.
        if width / height > columns / rows:
            filled = int(round(height * (columns / width), 7))
            rows -= (rows - filled) // 2 * 2
        else:
            filled = int(round(width * (rows / height), 7))
            columns -= (columns - filled) // 2 * 2
        if max_views is not None:  # LLaVA-OneVision shrinks what is larger than so many views
            ratio = math.sqrt(rows * columns / (max_views * side * side))
            if ratio > 1.1:
                rows, columns = int(rows // ratio), int(columns // ratio)
        counts.append(base + rows * columns + rows)
    return counts


def _count_qwen2_vl(features: dict, geometry: dict) -> list[int]:
    """Placeholders of Qwen2-VL: one per `spatial_merge_size` x `spatial_merge_size` patches."""
    merged = geometry["spatial_merge_size"] ** 2
    return [math.prod(grid) // merged for grid in features["image_grid_thw"].tolist()]


def _count_internvl(features: dict, geometry: dict) -> list[int]:
    """Placeholders of InternVL: so many for each view of the image."""
    return [int(views) * geometry["image_seq_length"] for views in features["num_patches"]]


def _count_smolvlm(features: dict, geometry: dict) -> list[int]:
    """Placeholders of SmolVLM for an image that is not split: its patches, merged by `scale_factor` each way."""
    side = geometry["image_size"] // geometry["patch_size"] // geometry["scale_factor"]
    return [side * side] * len(features["pixel_values"])


def _count_phi3_v(features: dict, geometry: dict) -> list[int]:
    """Placeholders of Phi-3.5-vision, as its image processor has counted them."""
    return list(features["num_img_tokens"])


# ----------------------------------- outputs of image processors whose first axis is not the image, brought to that form


def _smolvlm_by_image(features: dict) -> dict:
    """SmolVLM's processor puts all images into one row, (1, images, 3, H, W); here each is a row of its own."""
    # The mask of a picture that fills its square, as those do that are not split, says nothing.
    mask = features.pop("pixel_attention_mask")
    features["pixel_values"] = features["pixel_values"].transpose(0, 1).contiguous()
    return features if mask.all() else features | {"pixel_attention_mask": mask.transpose(0, 1).contiguous()}


def _internvl_by_image(features: dict) -> dict:
    """InternVL's views stand one after the other; other libraries cut batches by numbers in the form of Qwen-VL's."""
    features["image_grid_thw"] = torch.tensor([[int(views), 1, 1] for views in features["num_patches"]])
    return features


# ------------------------------------------ what these counts read, from the size of one image instead of its pixels


def _measure_size(image_processor, height: int, width: int) -> dict:
    """One view whatever the size (LLaVA-1.5, SmolVLM), or the size itself (LLaVA-NeXT and -OneVision)."""
    return {"pixel_values": torch.empty(1, 1), "image_sizes": torch.tensor([[height, width]])}


def _measure_grid(image_processor, height: int, width: int) -> dict:
    """Patches as the Qwen-VL image processors cut them; they refuse images that are too long and thin."""
    patches = image_processor.get_number_of_image_patches(height, width, {})
    return {"image_grid_thw": torch.tensor([[1, 1, patches]])}


def _measure_views(image_processor, height: int, width: int) -> dict:
    """Views of InternVL."""
    return {"num_patches": [image_processor.get_number_of_image_patches(height, width, {})]}


def _measure_crops(image_processor, height: int, width: int) -> dict:
    """Tokens of Phi-3.5-vision; refuses an image whose short side would vanish."""
    return {"num_img_tokens": [image_processor.count_image_tokens(height, width)]}


# ------------------------------------------------------------------------------------------------- the adapter table


@dataclass(frozen=True)
class Family:
    """One row of the adapter table; all but the first four fields say how a family differs from most."""

    image_token: str  # the placeholder; `image_token_id` of the backbone's config is its id
    image_block: str  # text that stands for one image in a prompt; holds `image_token` once
    geometry: dict[str, str]  # name -> dotted path in the backbone's config, of what `count_image_tokens` needs
    count_image_tokens: Callable[[dict, dict], list[int]]  # (image processor output, geometry) -> for each image
    # (image processor, height, width) -> what `count_image_tokens` reads; ValueError where the image processor has one
    measure_image: Callable[[object, int, int], dict] = _measure_size
    language_model: str = "language_model"  # path of the LLM in the backbone; LoRA and stage 1 touch nothing else
    by_image: Callable[[dict], dict] | None = None  # brings image processor output to a form sliced by image
    not_for_model: tuple[str, ...] = ()  # outputs of the image processor that are meant for the processor only
    not_for_backbone: tuple[str, ...] = ()  # outputs of the processor that the backbone does not take
    # Whether the texts before and behind an image are tokenised by themselves, each with a start token, as published.
    split_at_image: bool = False
    image_options: dict[str, object] = field(default_factory=dict)  # other than the image processor's or checkpoint's
    needs_token_types: bool = False  # whether the backbone wants `mm_token_type_ids` (1 on image placeholders)
    # Whether LLM and vision tower must have weights of one type: the backbone brings features to the tower's type.
    one_dtype: bool = False
    # Renaming of stored weights to those of UniMEModel, where transformers does not do it by itself.
    key_mapping: dict[str, str] | None = None
    chat_format: str | None = None  # where tokenizer and LLM do not tell it


# Published Qwen-VL names put the LLM at `model.` and the tower at `visual.`; later ones both below `model.`. Without this
# mapping the LLM would stay random with no more than a printed report.
_QWEN_KEY_MAPPING = {
    r"^(?:model\.)?visual\.": "model.visual.",
    r"^model\.(?:language_model\.|(?!visual\.))": "model.language_model.",
}

_PHI3_V_KEY_MAPPING = {
    r"^model\.vision_embed_tokens\.img_processor\.vision_model\.": "model.vision_tower.",
    r"^model\.vision_embed_tokens\.img_projection\.0\.": "model.image_projection.linear_1.",
    r"^model\.vision_embed_tokens\.img_projection\.2\.": "model.image_projection.linear_2.",
    r"^model\.vision_embed_tokens\.glb_GN$": "model.image_projection.view_separator",
    r"^model\.vision_embed_tokens\.sub_GN$": "model.image_projection.row_separator",
    r"^model\.(?=embed_tokens\.|layers\.|norm\.)": "model.language_model.",
}

_LLAVA_GEOMETRY = {
    "image_size": "vision_config.image_size",
    "patch_size": "vision_config.patch_size",
    "vision_model_type": "vision_config.model_type",
    "vision_feature_select_strategy": "vision_feature_select_strategy",
}
_QWEN = {
    "geometry": {"spatial_merge_size": "vision_config.spatial_merge_size"},
    "count_image_tokens": _count_qwen2_vl,
    "measure_image": _measure_grid,
    "needs_token_types": True,
    "key_mapping": _QWEN_KEY_MAPPING,
}
_QWEN_TOKENS = {"image_token": "<|image_pad|>", "image_block": "<|vision_start|><|image_pad|><|vision_end|>"}

FAMILIES: dict[str, Family] = {
    "glm4v": Family(image_token="<|image|>", image_block="<|begin_of_image|><|image|><|end_of_image|>", **_QWEN),
    "internvl": Family(
        image_token="<IMG_CONTEXT>",
        image_block="<img><IMG_CONTEXT></img>",
        geometry={"image_seq_length": "image_seq_length"},
        count_image_tokens=_count_internvl,
        measure_image=_measure_views,
        by_image=_internvl_by_image,
        not_for_backbone=("image_grid_thw",),
        not_for_model=("num_patches",),
        image_options={"crop_to_patches": True},  # as the library's InternVLProcessor sets it
    ),
    "llava": Family(
        image_token="<image>",
        image_block="<image>",
        geometry=_LLAVA_GEOMETRY,
        count_image_tokens=_count_llava,
    ),
    "llava_next": Family(
        image_token="<image>",
        image_block="<image>",
        geometry={**_LLAVA_GEOMETRY, "image_grid_pinpoints": "image_grid_pinpoints"},
        count_image_tokens=_count_llava_next,
    ),
    "llava_onevision": Family(
        image_token="<image>",
        image_block="<image>",
        geometry={
            **_LLAVA_GEOMETRY,
            "image_grid_pinpoints": "image_grid_pinpoints",
            "max_views": "vision_aspect_ratio",
        },
        count_image_tokens=_count_llava_next,
        not_for_model=("batch_num_images",),  # one number for each image, 1, which is what the model assumes
        chat_format="onevision",
    ),
    "phi3_v": Family(
        image_token="<|image|>",
        image_block="<|image|>",
        geometry={},
        count_image_tokens=_count_phi3_v,
        measure_image=_measure_crops,
        not_for_model=("num_img_tokens",),
        split_at_image=True,
        image_options={"num_crops": 4},  # as UniME and VLM2Vec on MMEB; the published file says 16
        key_mapping=_PHI3_V_KEY_MAPPING,
    ),
    "qwen2_vl": Family(**_QWEN_TOKENS, **_QWEN),
    "qwen2_5_vl": Family(**_QWEN_TOKENS, **_QWEN),
    "qwen3_vl": Family(**_QWEN_TOKENS, **_QWEN),
    "smolvlm": Family(
        image_token="<image>",
        image_block="<fake_token_around_image><global-img><image><fake_token_around_image>",
        geometry={
            "image_size": "vision_config.image_size",
            "patch_size": "vision_config.patch_size",
            "scale_factor": "scale_factor",
        },
        count_image_tokens=_count_smolvlm,
        by_image=_smolvlm_by_image,
        language_model="text_model",
        one_dtype=True,
        image_options={"do_image_splitting": False},  # one view of 64 tokens, instead of up to 17 of them
    ),
}


def get_family(model_type: str) -> Family:
    """The adapter of a backbone's `model_type`."""
    if model_type not in FAMILIES:
        raise ValueError(
            f"backbone family {model_type!r} is not supported; supported are {', '.join(sorted(FAMILIES))}. "
            "A new family is one entry in modeling_unime/families.py."
        )
    return FAMILIES[model_type]


def read_geometry(family: Family, backbone_config) -> dict:
    """Values of `family.geometry` read from the backbone's config; plain numbers, strings and lists."""
    return {name: operator.attrgetter(path)(backbone_config) for name, path in family.geometry.items()}
