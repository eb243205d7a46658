# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What differs between backbone families, as data.

A *family* is one `model_type` of transformers. Everything that the processor, the model and the trainers must know
about a family stands in its entry of `FAMILIES`; no other file asks which family it has. To add one, add an entry (and
a test, see CONTRIBUTING.md).

Prompt texts are those the released checkpoints are evaluated with (UniME, arXiv 2504.17432, section 3.1.2 and the
authors' code; paper-level spellings differ in small ways). Prompts that no paper gives are marked "our choice".
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from transformers.image_processing_utils import select_best_resolution

# Slots of a prompt template. They are replaced literally, never by str.format, because user text may hold braces.
IMAGE_SLOT = "{image}"
TEXT_SLOT = "{text}"


@dataclass(frozen=True)
class ChatFormat:
    """How one family of LLMs wraps a user turn.

    Attributes:
        turn: the wrapping, with `{}` where the user's turn goes.
        marker: a token that only tokenizers of this format have, or None when nothing in the vocabulary tells.
        text_model_types: `model_type` of the LLMs that use the format when no marker decides.
    """

    turn: str
    marker: str | None = None
    text_model_types: tuple[str, ...] = ()


# Order matters: the first whose marker is in the vocabulary wins, then the first that names the LLM's model_type.
CHAT_FORMATS: dict[str, ChatFormat] = {
    "llama3": ChatFormat(
        # E5-V's template, which UniME's code falls back to; it does end with a space and a newline.
        "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n",
        marker="<|start_header_id|>",
    ),
    "chatml": ChatFormat(  # our choice for Qwen models: their own chat turn
        "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", marker="<|im_start|>"
    ),
    "mistral": ChatFormat("[INST] {} [/INST]", text_model_types=("mistral",)),
    "vicuna": ChatFormat("USER: {} ASSISTANT:", text_model_types=("llama",)),  # our choice: LLaVA-Vicuna's own turn
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
    """The prompt templates of a chat format, by modality ("text", "image", "image_text").

    Raises:
        ValueError: for an unknown chat format.
    """
    if chat_format not in CHAT_FORMATS:
        raise ValueError(f"unknown chat_format {chat_format!r}; known are {', '.join(CHAT_FORMATS)}")
    turn = CHAT_FORMATS[chat_format].turn
    return {modality: turn.replace("{}", body) for modality, body in SUMMARY_TURNS.items()}


def choose_chat_format(vocabulary: dict[str, int], text_model_type: str) -> str:
    """Name of the chat format that fits a tokenizer's vocabulary and an LLM's `model_type`."""
    for name, chat in CHAT_FORMATS.items():
        if chat.marker is not None and chat.marker in vocabulary:
            return name
    for name, chat in CHAT_FORMATS.items():
        if text_model_type in chat.text_model_types:
            return name
    return "plain"


# --------------------------------------------------------------------------- number of placeholder tokens per image


def _count_llava_next(features: dict, geometry: dict) -> list[int]:
    """Placeholders of LLaVA-NeXT: base view + tiles without their padding + one newline per row of tiles."""
    tile = geometry["image_size"]
    side = tile // geometry["patch_size"]  # patches along one side of a tile
    base = side * side + (0 if geometry["vision_feature_select_strategy"] == "default" else 1)
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
        counts.append(base + rows * columns + rows)
    return counts


def _count_qwen2_vl(features: dict, geometry: dict) -> list[int]:
    """Placeholders of Qwen2-VL: one per `spatial_merge_size` x `spatial_merge_size` patches."""
    merged = geometry["spatial_merge_size"] ** 2
    return [math.prod(grid) // merged for grid in features["image_grid_thw"].tolist()]


# ------------------------------------------------------------------------------------------------- the adapter table


@dataclass(frozen=True)
class Family:
    """One row of the adapter table.

    Attributes:
        image_token: the placeholder token; config attribute `image_token_id` of the backbone holds its id.
        image_block: text that stands for one image in a prompt; holds `image_token` once.
        geometry: name -> dotted path in the backbone's config, of what `count_image_tokens` needs.
        count_image_tokens: (image processor output, geometry) -> placeholders for each image.
        language_model: path of the LLM inside the backbone; LoRA and stage 1 touch nothing else.
        needs_token_types: whether the backbone wants `mm_token_type_ids` (1 on image placeholders).
        key_mapping: renaming of weights that transformers does not do by itself (regular expression -> text).
    """

    image_token: str
    image_block: str
    geometry: dict[str, str]
    count_image_tokens: Callable[[dict, dict], list[int]]
    language_model: str = "language_model"
    needs_token_types: bool = False
    key_mapping: dict[str, str] | None = None


# Published Qwen-VL names put the LLM at `model.` and the tower at `visual.`. Without this mapping the LLM would stay
# random with no more than a printed report.
_QWEN_KEY_MAPPING = {
    r"^model\.(?!language_model\.|visual\.)": "model.language_model.",
    r"^visual\.": "model.visual.",
}

FAMILIES: dict[str, Family] = {
    "llava_next": Family(
        image_token="<image>",
        image_block="<image>",
        geometry={
            "image_size": "vision_config.image_size",
            "patch_size": "vision_config.patch_size",
            "vision_feature_select_strategy": "vision_feature_select_strategy",
            "image_grid_pinpoints": "image_grid_pinpoints",
        },
        count_image_tokens=_count_llava_next,
    ),
    "qwen2_vl": Family(
        image_token="<|image_pad|>",
        image_block="<|vision_start|><|image_pad|><|vision_end|>",
        geometry={"spatial_merge_size": "vision_config.spatial_merge_size"},
        count_image_tokens=_count_qwen2_vl,
        needs_token_types=True,
        key_mapping=_QWEN_KEY_MAPPING,
    ),
}


def get_family(model_type: str) -> Family:
    """The adapter of a backbone's `model_type`.

    Raises:
        ValueError: for a family that is not in the table; the message lists those that are.
    """
    if model_type not in FAMILIES:
        raise ValueError(
            f"backbone family {model_type!r} is not supported; supported are {', '.join(sorted(FAMILIES))}. "
            "A new family is one entry in modeling_unime/families.py."
        )
    return FAMILIES[model_type]


def read_geometry(family: Family, backbone_config) -> dict:
    """Values of `family.geometry` read from the backbone's config; plain numbers, strings and lists."""
    values = {}
    for name, path in family.geometry.items():
        value = backbone_config
        for part in path.split("."):
            value = getattr(value, part)
        values[name] = value
    return values
