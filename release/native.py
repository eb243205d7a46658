# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A UniME model as a folder of its backbone's own architecture, which needs no remote code.

The weights have the backbone's published names, without an LM head. The processor is the library's, with our prompts as
its chat template; pooling and normalisation are modules of sentence-transformers. `unime.json` keeps what only our own
processor knows, so that `unime convert` can read the folder back.
"""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, PreTrainedConfig

from modeling_unime import UniMEModel, UniMEProcessor
from modeling_unime.chat_template import render_chat_template
from modeling_unime.families import get_family
from modeling_unime.modeling_unime import DROPPED_WEIGHTS
from modeling_unime.saved_folder import digest_weights, give_weights_the_usual_mode, write_digests
from unime.hub_folder import SHARD_SIZE
from unime.model_files import read_json_object, read_model_type, read_weights

SETTINGS_FILE, TEMPLATE_FILE, POOLING_FILE = "unime.json", "chat_template.jinja", "1_Pooling/config.json"
# The names that vLLM 0.33 knows, too: a Pooling module makes it serve embeddings without being told.
MODULES = (
    ("", "sentence_transformers.base.modules.transformer.Transformer"),
    ("1_Pooling", "sentence_transformers.sentence_transformer.modules.pooling.Pooling"),
    ("2_Normalize", "sentence_transformers.base.modules.normalize.Normalize"),
)
_FORWARD = {"method": "forward", "method_output_name": "last_hidden_state"}
SENTENCE_TRANSFORMER = {
    "transformer_task": "feature-extraction",
    "modality_config": {name: _FORWARD for name in ("text", "image", "image+text")}
    | {"message": {**_FORWARD, "format": "structured"}},
    "module_output_name": "token_embeddings",
    "processing_kwargs": {"chat_template": {"add_generation_prompt": False}},
}


@dataclass(frozen=True)
class NativeForm:
    """What the library's processor of a family needs beside image processor and tokenizer; or why it cannot be."""

    processor: str = ""
    video_processor: str = ""  # which the processor wants, although we embed no videos; it needs torchvision
    settings: Callable[[dict], dict] = dict  # of the processor, from our geometry
    image_block: str | None = None  # of the chat template, where the processor adds the marks around it by itself
    tokens: dict[str, str] = field(default_factory=dict)  # names by which the processor asks the tokenizer for tokens
    unused_token: str = ""  # stands for what the tokenizer lacks of these
    packages: tuple[str, ...] = ()  # that the processor imports besides
    # side -> what of the image processor is other, so that it makes every image that square, as our `image_resolution`
    # does; None where its class keeps the aspect ratio.
    squared: Callable[[int], dict] | None = None
    refused: str = ""

    @property
    def needed_packages(self) -> tuple[str, ...]:
        """What must be installed besides transformers to load the folder's processor."""
        return (("torchvision",) if self.video_processor else ()) + self.packages


def _llava(geometry: dict) -> dict:
    return {
        "patch_size": geometry["patch_size"],
        "vision_feature_select_strategy": geometry["vision_feature_select_strategy"],
        "num_additional_image_tokens": int(geometry["vision_model_type"] == "clip_vision_model"),
    }


def _llava_onevision(geometry: dict) -> dict:
    return {
        "num_image_tokens": (geometry["image_size"] // geometry["patch_size"]) ** 2,
        "vision_feature_select_strategy": geometry["vision_feature_select_strategy"],
        "vision_aspect_ratio": geometry["max_views"],
    }


def _smolvlm(geometry: dict) -> dict:
    side = geometry["image_size"] // geometry["patch_size"] // geometry["scale_factor"]
    return {"image_seq_len": side * side}


NATIVE_FORMS = {
    "glm4v": NativeForm("Glm4vProcessor", "Glm4vVideoProcessor"),
    "internvl": NativeForm(
        "InternVLProcessor",
        "InternVLVideoProcessor",
        settings=lambda geometry: {"image_seq_length": geometry["image_seq_length"]},
        image_block="<IMG_CONTEXT>",
        tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        unused_token="<img>",
        squared=lambda side: {"max_patches": 1},
    ),
    "llava": NativeForm(
        "LlavaProcessor", settings=_llava, squared=lambda side: {"size": {"height": side, "width": side}}
    ),
    "llava_next": NativeForm("LlavaNextProcessor", settings=_llava),
    "llava_onevision": NativeForm(
        "LlavaOnevisionProcessor", "LlavaOnevisionVideoProcessor", settings=_llava_onevision
    ),
    "phi3_v": NativeForm(refused="transformers has no class of its architecture"),
    "qwen2_5_vl": NativeForm("Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor"),
    "qwen2_vl": NativeForm("Qwen2VLProcessor", "Qwen2VLVideoProcessor"),
    "qwen3_vl": NativeForm("Qwen3VLProcessor", "Qwen3VLVideoProcessor"),
    "smolvlm": NativeForm(
        "SmolVLMProcessor",
        "SmolVLMVideoProcessor",
        settings=_smolvlm,
        image_block="<image>",
        packages=("num2words",),
        squared=lambda side: {"do_resize": False},
    ),
}


def is_native(folder: str | Path) -> bool:
    """Whether `unime export --format native` wrote a folder."""
    return Path(folder, SETTINGS_FILE).is_file()


def check_expressible(model: UniMEModel, processor: UniMEProcessor) -> NativeForm:
    """The family's form; a ValueError says why the library's own classes would compute something else."""
    form = NATIVE_FORMS.get(model.config.family, NativeForm(refused="release/native.py has no entry for it"))
    reason = form.refused
    if model.config.attention != "causal":
        reason = f"its attention is {model.config.attention}, and the library's class always masks what comes later"
    if any(type(module).__module__.startswith("transformers_modules.") for module in model.modules()):
        reason = "a part of it brings its own code"
    if not reason and _square_options(form, processor) is None:
        reason = (
            f"its processor makes every image a square of {processor.image_resolution} pixels (image_resolution), which "
            "the library's cannot: it keeps the aspect ratio, or resizes the square once more"
        )
    if reason:
        raise ValueError(
            f"a {model.config.family} model cannot be exported in its native form, for {reason}; use --format unime"
        )
    return form


def _square_options(form: NativeForm, processor: UniMEProcessor) -> dict | None:
    """What of the image processor must be other to do what `image_resolution` does; None: nothing does."""
    side = processor.image_resolution
    if side is None or form.squared is None:
        return {} if side is None else None
    saved = processor.image_processor.to_dict()
    # It must end with that size, for an image that is resized twice is another one, and make one view of it.
    sizes = {*(saved["size"].values() if saved["do_resize"] else ()), *(saved.get("max_image_size") or {}).values()}
    views = saved.get("min_patches", 1) > 1 or saved.get("do_image_splitting")
    return form.squared(side) | {"resample": Image.Resampling.BICUBIC} if sizes == {side} and not views else None


def _write_json(file: Path, content: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def native_template(family: str, prompts: dict[str, str]) -> str:
    """Our prompts as the chat template of the library's processor."""
    return render_chat_template(prompts, NATIVE_FORMS[family].image_block or get_family(family).image_block)


def _save_weights(model: UniMEModel, output: Path) -> None:
    """Config and weights under the names and with the architecture of the class that backbones are published with."""
    config: PreTrainedConfig = copy.deepcopy(model.config.backbone)
    if model.config.matryoshka_dimensions:
        config.matryoshka_dimensions = model.config.matryoshka_dimensions  # where vLLM looks
    with torch.device("meta"):  # a head is made, but has no values and is not written
        whole = AutoModelForImageTextToText.from_config(config, dtype=model.dtype)
    whole.model = model.model
    kept = {
        name: tensor
        for name, tensor in whole.state_dict().items()
        if not any(re.search(pattern, name) for pattern in DROPPED_WEIGHTS)
    }
    whole.save_pretrained(output, state_dict=kept, max_shard_size=SHARD_SIZE)
    (output / "generation_config.json").unlink(missing_ok=True)
    give_weights_the_usual_mode(output)
    write_digests(output, digest_weights(dict(read_weights(output))))


def _save_processor(processor: UniMEProcessor, form: NativeForm, output: Path) -> None:
    """The library's files of tokenizer and processor, whose classes need not be importable here."""
    tokenizer = processor.tokenizer
    if processor.max_length:
        tokenizer.model_max_length = processor.max_length
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(output)
    file = output / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings.pop("auto_map", None)
    vocabulary = tokenizer.get_vocab()
    # A token that the tokenizer lacks would be added to it, beyond the model's; one that no prompt holds stands for it.
    named = {name: token if token in vocabulary else form.unused_token for name, token in form.tokens.items()}
    _write_json(file, settings | named | {"processor_class": form.processor})
    image_processor = processor.image_processor.to_dict()
    image_processor.pop("auto_map", None)
    square = _square_options(form, processor)
    content = {
        "processor_class": form.processor,
        "image_processor": image_processor | square,
        **form.settings(processor.geometry),
    }
    if form.video_processor:
        content["video_processor"] = {"video_processor_type": form.video_processor}
    _write_json(output / "processor_config.json", content)
    template = native_template(processor.family, processor.prompts)
    (output / TEMPLATE_FILE).write_text(template, encoding="utf-8")
    settings = {name: getattr(processor, name) for name in ("prompts", "max_length", "image_resolution")}
    _write_json(output / SETTINGS_FILE, settings | {"image_options": {name: image_processor[name] for name in square}})


def save_native(model: UniMEModel, processor: UniMEProcessor, output: Path) -> None:
    """Write the whole folder but for the card and what sentence-transformers' users have set."""
    form = check_expressible(model, processor)
    _save_weights(model, output)
    _save_processor(processor, form, output)
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": kind} for number, (path, kind) in enumerate(MODULES)
    ]
    _write_json(output / "modules.json", modules)
    _write_json(output / "sentence_bert_config.json", SENTENCE_TRANSFORMER)
    pooling = {"word_embedding_dimension": model.config.hidden_size, "pooling_mode_lasttoken": True}
    _write_json(output / POOLING_FILE, pooling)
    _write_json(output / "2_Normalize/config.json", {})


def native_faults(folder: str | Path) -> dict[str, str]:
    """What of a native folder is not as it was exported, by the name of a check; "" where all is well."""
    folder = Path(folder)

    def read(name: str) -> dict | list:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    types = [(module["path"], module["type"].rpartition(".")[2]) for module in read("modules.json")]
    expected = [(path, kind.rpartition(".")[2]) for path, kind in MODULES]
    stored = read(POOLING_FILE)
    pooling = {name for name, value in stored.items() if value and name.startswith("pooling_mode")}
    last = pooling == {"pooling_mode_lasttoken"} or stored.get("pooling_mode") == "lasttoken"
    template = native_template(read("config.json")["model_type"], read(SETTINGS_FILE)["prompts"])
    same = (folder / TEMPLATE_FILE).read_text(encoding="utf-8") == template
    side = read("tokenizer_config.json").get("padding_side")
    output = read("sentence_bert_config.json")
    checks = (
        ("modules", types == expected, f"modules.json must list {', '.join(kind for _, kind in expected)}"),
        ("pooling", last, f"{POOLING_FILE} does not take the last token, whose state the model was trained for"),
        ("chat template", same, f"{TEMPLATE_FILE} does not render the prompts of {SETTINGS_FILE}; export again"),
        ("hidden states", output == SENTENCE_TRANSFORMER, "sentence_bert_config.json was changed; export again"),
        ("padding side", side == "left", f"tokenizer_config.json pads on the {side}, but must on the left"),
    )
    return {name: "" if sound else note for name, sound, note in checks}


def read_native_processor(folder: str | Path) -> UniMEProcessor:
    """Our own processor, as it was before the export."""
    folder = Path(folder)
    settings, stored = (read_json_object(folder / name) for name in (SETTINGS_FILE, "processor_config.json"))
    family = read_model_type(folder)
    kept = {name: stored["image_processor"][name] for name in get_family(family).image_options}  # go before the file
    return UniMEProcessor.from_backbone(
        str(folder), **settings | {"image_options": kept | settings.get("image_options", {})}
    )
