# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the step benchmarks share: the random model that they train, of LLaVA-NeXT's shape, and their measurements."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import LlavaNextForConditionalGeneration

from benchmarks.measure import (
    comparison,
    peak_extra_bytes,
    peak_extra_bytes_in_own_process,
    settings_of,
    show_and_write,
    step_seconds,
)
from evaluation.report import environment
from examples.tiny.architecture import Architecture, build_image_processor, build_model
from examples.tiny.tokenizer import train_tokenizer
from modeling_unime import UniMEModel, UniMEProcessor

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


# Of a folder with the model, the data and the options: what trains on one batch.
Maker = Callable[[Path, Any, "StepModelArguments"], Callable[[list], None]]
# Of the options and a folder: the data, batches without end, and the number of parameters of the model put there.
Prepare = Callable[["StepModelArguments", Path], tuple[Any, Iterator[list], int]]


@dataclass
class StepModelArguments:
    """Sizes of the model, and how often what is measured."""

    vocab_size: int = field(default=32000, metadata={"help": "Tokens of the vocabulary."})
    hidden_size: int = field(default=512, metadata={"help": "Width of the LLM."})
    num_layers: int = field(default=6, metadata={"help": "Layers of the LLM."})
    image_size: int = field(default=56, metadata={"help": "Pixels a side that the vision tower sees."})
    patch_size: int = field(default=14, metadata={"help": "Pixels a side of a patch."})
    vision_hidden_size: int = field(default=256, metadata={"help": "Width of the vision tower."})
    vision_layers: int = field(default=4, metadata={"help": "Layers of the vision tower."})
    seed: int = field(default=0, metadata={"help": "Of weights and order of the data."})
    batch_size: int = field(default=256, metadata={"help": "Rows of a step."})
    rounds: int = field(
        default=5, metadata={"help": "Timed rounds, each with a batch of its own, after one to warm up."}
    )
    memory_of: str | None = field(
        default=None, metadata={"help": "Only print the peak memory of one way; used internally."}
    )


def adamw(parameters: Iterable[torch.nn.Parameter]) -> torch.optim.AdamW:
    """The optimizer of all ways, fused as transformers' Trainer has it by default.

    Its learning rate is 0: a step costs the same, and all rounds measure the same model.
    """
    return torch.optim.AdamW([parameter for parameter in parameters if parameter.requires_grad], lr=0.0, fused=True)


def save_step_model(folder: Path, arguments: StepModelArguments, texts: Sequence[str]) -> int:
    """Write a backbone with random weights whose tokenizer has learnt from `texts`.

    Args:
        folder: Where to.
        arguments: Sizes.
        texts: What the tokenizer learns from; it gets fewer tokens than `vocab_size` if they are few.

    Returns:
        Number of parameters, LM head included.
    """
    tokenizer = train_tokenizer(texts, arguments.vocab_size)
    architecture = Architecture(
        hidden_size=arguments.hidden_size,
        num_layers=arguments.num_layers,
        num_heads=max(2, arguments.hidden_size // 64),
        intermediate_size=2 * arguments.hidden_size + arguments.hidden_size // 2,
        image_size=arguments.image_size,
        patch_size=arguments.patch_size,
        vision_hidden_size=arguments.vision_hidden_size,
        vision_layers=arguments.vision_layers,
    )
    model = build_model(architecture, tokenizer, arguments.seed)
    model.resize_token_embeddings(arguments.vocab_size, mean_resizing=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    build_image_processor(architecture).save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def load_causal_lm(folder: Path) -> LlavaNextForConditionalGeneration:
    """The model of `folder` with its LM head; only the LLM is trained, as in all ways."""
    model = LlavaNextForConditionalGeneration.from_pretrained(folder).train()
    model.requires_grad_(False)
    model.model.language_model.requires_grad_(True)
    return model


def load_sentence_transformer(folder: Path) -> SentenceTransformer:
    """The model of `folder` through the other library; only the LLM is trained, as in all ways."""
    from sentence_transformers import SentenceTransformer

    saved = folder / "unime"
    if not saved.exists():
        UniMEModel.from_backbone(str(folder)).save_pretrained(saved)
        UniMEProcessor.from_backbone(str(folder)).save_pretrained(saved)
    model = SentenceTransformer(str(saved), trust_remote_code=True, device="cpu").train()
    unime = model[0].model
    unime.requires_grad_(False)
    unime.language_model.requires_grad_(True)
    return model


def measure_memory(arguments: StepModelArguments, way: str, makers: dict[str, Maker], prepare: Prepare) -> int:
    """Peak memory of the second step of one way; the first makes what is kept (gradients, optimizer state)."""
    with tempfile.TemporaryDirectory() as folder:
        data, batches, _ = prepare(arguments, Path(folder))
        step = makers[way](Path(folder), data, arguments)
        first, second = next(batches), next(batches)
        step(first[: arguments.batch_size // 4])
        return peak_extra_bytes(lambda: step(second), torch.device("cpu"))


def run_benchmark(
    module: str,
    arguments: StepModelArguments,
    makers: dict[str, Maker],
    prepare: Prepare,
    describe: Callable[[list], dict] = lambda batch: {},
) -> None:
    """Measure all ways, ours first, and write the result; with `memory_of`, print one way's memory only.

    `describe` adds what is to be said of the last batch.
    """
    if arguments.memory_of:
        print(measure_memory(arguments, arguments.memory_of, makers, prepare))
        return
    with tempfile.TemporaryDirectory() as folder:
        data, batches, parameters = prepare(arguments, Path(folder))
        steps = {way: maker(Path(folder), data, arguments) for way, maker in makers.items()}
        rounds = [next(batches) for _ in range(arguments.rounds + 1)]
        seconds = step_seconds(steps, rounds, torch.device("cpu"))
    memory = {way: peak_extra_bytes_in_own_process(module, arguments, way) for way in makers}
    result = {
        "settings": settings_of(arguments),
        **environment(torch.device("cpu")),
        "parameters": parameters,
        **describe(rounds[-1]),
        **comparison(seconds, memory),
    }
    show_and_write(result, ("parameters", "median_seconds", "peak_extra_mib", "over_ours"), arguments.output)
