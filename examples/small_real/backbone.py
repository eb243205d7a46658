# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Put a small real multimodal LLM together from packages of the registry, offline, on a CPU.

    python -m examples.small_real.backbone --pairs data/*/train_i2t_*.jsonl --output outputs/backbone

SmolLM2-135M reads, EfficientNet-Lite0 sees, and a projector between them is trained for a minute or two on captioned
pictures. The folder is a checkpoint of transformers' LLaVA whose tower brings its own code.
"""

import json
import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from transformers import AutoModel, CLIPImageProcessorPil, LlavaConfig, LlavaForConditionalGeneration
from transformers.dynamic_module_utils import custom_object_save

from evaluation.report import environment, to_json
from examples.small_real.alignment import AlignmentSchedule, align, tower_features
from examples.small_real.parts import IMAGE, load_llm, load_tower
from examples.tiny.conversations import read_conversations
from unime.hub_folder import forget_origin
from unime.options import parse_dataclasses, run_command

RECORD = "backbone.json"  # what the folder was made from
MAX_LENGTH = 2048


@dataclass
class SmallRealArguments:
    """What the backbone is made from."""

    output: str = field(metadata={"help": "Folder to make."})
    pairs: list[str] = field(
        default_factory=list,
        metadata={
            "help": "JSON Lines with captioned pictures to align the projector on: MMEB training rows with a picture as "
            "query and a text as positive, or columns image, prompt, answer. Default: none, the projector stays random, "
            "which is enough for stage 1."
        },
    )
    num_layers: int = field(default=8, metadata={"help": "Layers of the LLM that are kept, of 30."})
    max_pictures: int = field(
        default=1000, metadata={"help": "Pictures to align on, drawn from all; the tower takes some 0.03 s for each."}
    )
    alignment_steps: int = field(default=200, metadata={"help": "Optimizer steps of the alignment."})
    seed: int = field(default=0, metadata={"help": "Seed of the projector and of the alignment."})


def build_model(num_layers: int, seed: int) -> tuple[LlavaForConditionalGeneration, object]:
    """The LLaVA-shaped model, its projector random, and the tokenizer."""
    llm, tokenizer = load_llm(num_layers)
    tower = load_tower()
    tokenizer.model_max_length = MAX_LENGTH
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=llm.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(tower.config.image_size // tower.config.patch_size) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    AutoModel.register(type(tower.config), type(tower), exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(llm.model.state_dict())
    model.model.vision_tower.load_state_dict(tower.state_dict())
    return model.eval(), tokenizer


def build_image_processor(model: LlavaForConditionalGeneration) -> CLIPImageProcessorPil:
    """The tower's pixels: the whole picture as a square, (value - 127) / 128."""
    side = {"height": model.config.vision_config.image_size, "width": model.config.vision_config.image_size}
    return CLIPImageProcessorPil(
        size=side, do_center_crop=False, image_mean=[127 / 255] * 3, image_std=[128 / 255] * 3
    )


def build(arguments: SmallRealArguments) -> Path:
    """Make the folder, or do nothing when it is there with the same settings.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds something else.
        FileNotFoundError: A package with a part is not installed.
        ValueError: A file has no usable rows.
    """
    output, settings = Path(arguments.output), asdict(arguments)
    if output.exists():
        record = output / RECORD
        stored = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        if stored.get("settings") == settings:
            return output
        raise FileExistsError(f"{output} exists and was made with other settings; choose another output or remove it")
    conversations = [item for path in arguments.pairs for item in read_conversations(path)]
    chosen = random.Random(arguments.seed).sample(conversations, min(arguments.max_pictures, len(conversations)))
    model, tokenizer = build_model(arguments.num_layers, arguments.seed)
    image_processor = build_image_processor(model)
    report: dict[str, float] = {}
    if chosen and arguments.alignment_steps:
        pictures = (item.store.open(item.image) for item in chosen)
        report = align(
            model.model.multi_modal_projector,
            tower_features(model.model.vision_tower, image_processor, pictures),
            [list(dict.fromkeys(turn.answer for turn in item.turns)) for item in chosen],
            model.get_input_embeddings(),
            tokenizer,
            AlignmentSchedule(alignment_steps=arguments.alignment_steps, seed=arguments.seed),
        )
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tower = model.model.vision_tower
    for part in (tower.config, tower):  # its file goes beside the weights, and its config says so
        custom_object_save(part, partial, config=tower.config)
    forget_origin(model.config)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    image_processor.save_pretrained(partial)
    content = {"settings": settings, "alignment": report, **environment(model.device)}
    (partial / RECORD).write_text(to_json(content), encoding="utf-8")
    os.replace(partial, output)
    return output


def main(argv: Sequence[str] | None = None) -> None:
    """Build the backbone; the last line printed is its folder."""
    (arguments,) = parse_dataclasses(
        (SmallRealArguments,),
        argv,
        prog="python -m examples.small_real.backbone",
        description=__doc__.partition("\n")[0],
    )
    print(build(arguments))


if __name__ == "__main__":
    run_command(main)
