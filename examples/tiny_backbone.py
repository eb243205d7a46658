# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Build and pre-train a tiny multimodal LLM, offline, on a CPU: something to try UniME on without a download.

    python -m examples.tiny_backbone RECIPE.yaml --texts captions.jsonl.gz::captions --pairs train_*.jsonl --output DIR

The model has the shape of LLaVA-NeXT and a tokenizer of its own; the pre-training teaches it to answer questions about
pictures and to continue sentences. The folder it writes is an ordinary checkpoint for transformers.
"""

import json
import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import torch

from evaluation.report import environment, to_json
from examples.tiny.architecture import Architecture, build_image_processor, build_model
from examples.tiny.conversations import Collator, Conversation, read_conversations, read_texts
from examples.tiny.pretraining import Schedule, evaluate, pretrain
from examples.tiny.tokenizer import train_tokenizer
from examples.tiny.vision import VisionSchedule, pretrain_vision, read_patches
from modeling_unime.families import SUMMARY_TURNS
from modeling_unime.saved_folder import give_weights_the_usual_mode
from unime.options import parse_dataclasses

METRICS_FILE = "pretrain_metrics.json"  # written with the rest; also says what the folder was made from
HELD_OUT = 100  # pictures kept from training, to see what was learnt


@dataclass
class BackboneArguments:
    """What the tiny model is made from, and how large it is."""

    texts: list[str] = field(
        metadata={"help": "JSON Lines (also .gz) with texts; every string is taken, or FILE::column1,column2 only."}
    )
    output: str = field(metadata={"help": "Folder to make."})
    pairs: list[str] = field(
        default_factory=list,
        metadata={
            "help": "JSON Lines with columns image, prompt, answer, or MMEB training rows (those with a picture as query "
            "and a text as positive are used)."
        },
    )
    kinds: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Use only pairs of these kinds (column kind, or the file's name for MMEB rows). Default: all."
        },
    )
    patches: str | None = field(
        default=None,
        metadata={
            "help": "JSON Lines with columns image, patches (what each patch shows, in reading order): the vision tower "
            "learns from it first. Default: it learns with the rest."
        },
    )
    max_texts: int | None = field(default=None, metadata={"help": "Use at most so many texts. Default: all."})
    vocab_size: int = field(default=2048, metadata={"help": "Tokens of the vocabulary."})
    lowercase: bool = field(
        default=False, metadata={"help": "Take upper for lower case, so that a small vocabulary holds more words."}
    )
    hidden_size: int = field(default=256, metadata={"help": "Width of the LLM."})
    num_layers: int = field(default=4, metadata={"help": "Layers of the LLM."})
    num_heads: int = field(
        default=4, metadata={"help": "Query heads of the LLM; it has half as many key-value heads."}
    )
    intermediate_size: int = field(default=688, metadata={"help": "Width inside the LLM's feed-forward layers."})
    image_size: int = field(default=96, metadata={"help": "Pixels a side that the vision tower sees."})
    patch_size: int = field(default=32, metadata={"help": "Pixels a side of a patch; smaller costs more tokens."})
    vision_hidden_size: int = field(default=192, metadata={"help": "Width of the vision tower."})
    vision_layers: int = field(
        default=4, metadata={"help": "Layers of the vision tower; LLaVA uses the last but one."}
    )
    vision_steps: int = field(default=350, metadata={"help": "Optimiser steps of the tower's own training (patches)."})
    steps: int = field(default=500, metadata={"help": "Optimiser steps of the pre-training."})
    max_minutes: float = field(default=0.0, metadata={"help": "Stop after so many minutes all the same; 0: no limit."})
    batch_size: int = field(default=32, metadata={"help": "Pictures of a step."})
    turns_per_image: int = field(default=6, metadata={"help": "Questions answered about each picture of a step."})
    text_share: float = field(default=0.15, metadata={"help": "Share of the steps that read sentences."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of the pre-training."})
    seed: int = field(default=0, metadata={"help": "Seed of weights and order."})


def select(kind: type, arguments: BackboneArguments):
    """A dataclass filled with the options that have the names of its fields."""
    given = {entry.name: getattr(arguments, entry.name) for entry in fields(kind) if hasattr(arguments, entry.name)}
    return kind(**given)


def pixel_statistics(conversations: list[Conversation], count: int = 300) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each colour channel, 0 to 1, over the first `count` pictures.

    A tower that starts from random weights learns from centred pixels many times faster; CLIP's statistics, made for
    photos, would leave drawings on a light ground far off centre.
    """
    chosen = conversations[:count]
    pixels = np.stack([np.asarray(item.store.open(item.image).resize((32, 32))) for item in chosen]) / 255.0
    return pixels.mean((0, 1, 2)).tolist(), pixels.std((0, 1, 2)).tolist()


def build(arguments: BackboneArguments) -> Path:
    """Make the folder, or do nothing when it is there with the same settings.

    Returns:
        The folder.

    Raises:
        ValueError: when a file has no usable rows; names it.
        FileExistsError: when the folder holds something else.
    """
    output = Path(arguments.output)
    settings = json.loads(json.dumps(asdict(arguments)))
    if output.exists():
        metrics = output / METRICS_FILE
        stored = json.loads(metrics.read_text(encoding="utf-8")) if metrics.is_file() else {}
        if stored.get("settings") == settings:
            return output
        raise FileExistsError(f"{output} exists and was made with other settings; choose another output or remove it")

    texts = list(dict.fromkeys(text for source in arguments.texts for text in read_texts(source)))[
        : arguments.max_texts
    ]
    conversations = [item for path in arguments.pairs for item in read_conversations(path)]
    if arguments.kinds:
        for item in conversations:
            item.turns = [turn for turn in item.turns if turn.kind in arguments.kinds]
        conversations = [item for item in conversations if item.turns]
    random.Random(arguments.seed).shuffle(conversations)
    held_out, conversations = conversations[:HELD_OUT], conversations[HELD_OUT:] or conversations
    spoken = [words for item in conversations for turn in item.turns for words in (turn.prompt, turn.answer)]
    # The prompts of UniME must be short in tokens, though the texts hardly hold them.
    prompts = [turn.replace("{image}", "").replace("{text}", "") for turn in SUMMARY_TURNS.values()] * 1000
    tokenizer = train_tokenizer(texts + spoken + prompts, arguments.vocab_size, arguments.lowercase)
    architecture = select(Architecture, arguments)
    model, image_processor = build_model(architecture, tokenizer, arguments.seed), build_image_processor(architecture)
    if conversations:
        image_processor.image_mean, image_processor.image_std = pixel_statistics(conversations)
    collator = Collator(tokenizer, image_processor, model.config)
    vision = {}
    if arguments.patches:
        rows = read_patches(arguments.patches)
        random.Random(arguments.seed).shuffle(rows)
        schedule = select(VisionSchedule, arguments)
        vision = pretrain_vision(model, image_processor, rows[HELD_OUT:] or rows, rows[:HELD_OUT], schedule)
    history = pretrain(model, tokenizer, collator, conversations, texts, select(Schedule, arguments))
    metrics = {
        "settings": settings,
        "vision_tower": vision,
        "answers_about_held_out_pictures": evaluate(model, collator, held_out) if held_out else {},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **environment(torch.device("cpu")),
        "history": history,
    }
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.eval().save_pretrained(partial)
    give_weights_the_usual_mode(partial)
    tokenizer.save_pretrained(partial)
    image_processor.save_pretrained(partial)
    (partial / METRICS_FILE).write_text(to_json(metrics), encoding="utf-8")
    partial.rename(output)
    return output


def main(argv: Sequence[str] | None = None) -> None:
    """Build; the last line printed is the folder."""
    (arguments,) = parse_dataclasses(
        (BackboneArguments,), argv, prog="python -m examples.tiny_backbone", description=__doc__.partition("\n")[0]
    )
    print(build(arguments))


if __name__ == "__main__":
    main()
