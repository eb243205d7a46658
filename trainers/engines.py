# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""How a run is spread over processes, and which of its options go together.

The table in docs/scale.md is made of this file (`python -m trainers.engines`), the check at the start of every run asks
it, and the tests run every combination that it allows on two CPU processes. So what the table says is what happens.
"""

import importlib.util
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from transformers import TrainingArguments

PRECISIONS = ("float32", "bf16", "fp16")
TESTED_PRECISIONS = ("float32", "bf16")  # fp16 does not exist on the CPUs that the tests run on
QUANTIZATIONS = ("none", "4bit")


@dataclass(frozen=True)
class Engine:
    """One way to spread a run over processes.

    Attributes:
        title: name in the table.
        options: what a recipe says to get it.
        split: what each process holds only a part of.
    """

    title: str
    options: str
    split: str


ENGINES: dict[str, Engine] = {
    "ddp": Engine("DDP", "nothing", "nothing"),
    "zero2": Engine(
        "DeepSpeed ZeRO-2", "`deepspeed: examples/recipes/deepspeed_zero2.json`", "gradients, optimizer state"
    ),
    "zero3": Engine(
        "DeepSpeed ZeRO-3", "`deepspeed: examples/recipes/deepspeed_zero3.json`", "weights, gradients, optimizer state"
    ),
    "fsdp2": Engine("FSDP2", "`fsdp: true`", "weights, gradients, optimizer state"),
}


@dataclass(frozen=True)
class Setup:
    """The options of a run that must go together.

    Attributes:
        engine: key of `ENGINES`.
        lora: whether LoRA is trained, not the LLM itself.
        gradient_cache: whether chunks are embedded twice.
        precision: one of `PRECISIONS`: of the computation, beside weights in their own type.
        quantization: one of `QUANTIZATIONS`.
    """

    engine: str
    lora: bool
    gradient_cache: bool
    precision: str
    quantization: str = "none"


@dataclass(frozen=True)
class Refusal:
    """A combination that cannot work, and what to do instead.

    Attributes:
        applies: whether it is that of a setup.
        why: what is wrong.
        mend: which option to change, and to what.
    """

    applies: Callable[[Setup], bool]
    why: str
    mend: str


SPLITS_WEIGHTS = ("zero3", "fsdp2")
# On any machine.
REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        lambda setup: setup.quantization == "4bit" and not setup.lora,
        "weights in 4 bits cannot be trained themselves",
        "set lora_rank above 0, or quantization: none",
    ),
    Refusal(
        lambda setup: setup.quantization == "4bit" and setup.engine in SPLITS_WEIGHTS,
        "weights in 4 bits cannot be split over processes",
        "use DDP or ZeRO-2, or quantization: none",
    ),
    Refusal(
        lambda setup: setup.precision == "fp16" and setup.engine == "fsdp2",
        "fp16 needs its gradients scaled, which is not done for those that FSDP2 splits",
        "use bf16: true, or DeepSpeed ZeRO-3",
    ),
)
# On a machine without CUDA.
REFUSALS_ON_CPU: tuple[Refusal, ...] = (
    Refusal(lambda setup: setup.precision == "fp16", "fp16 needs a GPU", "use bf16: true, or neither"),
    Refusal(lambda setup: setup.quantization == "4bit", "weights in 4 bits need a GPU", "use quantization: none"),
)


def engine_of(config: TrainingArguments) -> str:
    """Key of the engine that the training options ask for.

    Raises:
        ValueError: for a stage of ZeRO or a version of FSDP that is not supported.
    """
    if config.fsdp:
        version = config.fsdp_plugin_args["fsdp_version"]
        if version != 2:
            raise ValueError(f"fsdp_config asks for version {version}; only version 2, the default, is supported")
        return "fsdp2"
    if config.deepspeed_plugin is None:
        return "ddp"
    stage = config.deepspeed_plugin.zero_stage
    if stage not in (2, 3):
        raise ValueError(
            f"{config.deepspeed} asks for ZeRO stage {stage}; use stage 2 or 3 "
            "(examples/recipes/deepspeed_zero2.json, deepspeed_zero3.json), or no deepspeed for DDP"
        )
    return f"zero{stage}"


def setup_of(config: TrainingArguments, lora_rank: int, quantization: str = "none") -> Setup:
    """The combination that options ask for."""
    return Setup(
        engine=engine_of(config),
        lora=lora_rank > 0,
        gradient_cache=config.uses_gradient_cache,
        precision="fp16" if config.fp16 else "bf16" if config.bf16 else "float32",
        quantization=quantization,
    )


def find_refusal(setup: Setup, on_gpu: bool) -> Refusal | None:
    """Why a combination cannot work, None when it can."""
    refusals = REFUSALS if on_gpu else REFUSALS + REFUSALS_ON_CPU
    return next((refusal for refusal in refusals if refusal.applies(setup)), None)


def check_setup(setup: Setup, on_gpu: bool) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        ValueError: says why, and which option to change.
        ImportError: a library is missing; says which extra brings it.
    """
    refusal = find_refusal(setup, on_gpu)
    if refusal is not None:
        raise ValueError(f"{refusal.why}: {refusal.mend} (docs/scale.md shows what goes together)")
    if setup.quantization == "4bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError('quantization: 4bit needs bitsandbytes: pip install -c constraints.txt -e ".[quant]"')


def is_tested(setup: Setup) -> bool:
    """Whether the tests run a combination, for both stages, and compare it with one process."""
    return (
        setup.precision in TESTED_PRECISIONS
        and setup.quantization == "none"
        and find_refusal(setup, on_gpu=True) is None
    )


def make_table() -> str:
    """The support table, in Markdown."""
    numbers = {refusal: index for index, refusal in enumerate(REFUSALS, start=1)}

    def cell(setup: Setup) -> str:
        refusal = find_refusal(setup, on_gpu=True)
        if refusal is not None:
            return f"no ({numbers[refusal]})"
        return "tested" if is_tested(setup) else "GPU only"

    columns = [*PRECISIONS, "4 bits"]
    lines = [
        "| method | a recipe says | split over processes |",
        "| --- | --- | --- |",
        *(f"| {engine.title} | {engine.options} | {engine.split} |" for engine in ENGINES.values()),
        "",
        f"| method | trained | gradient cache | {' | '.join(columns)} |",
        f"| --- | --- | --- | {' | '.join('---' for _ in columns)} |",
    ]
    for name, lora, cache in itertools.product(ENGINES, (False, True), (False, True)):
        setups = [Setup(name, lora, cache, precision) for precision in PRECISIONS]
        setups.append(Setup(name, lora, cache, "bf16", "4bit"))
        words = [ENGINES[name].title, "LoRA" if lora else "the LLM", "on" if cache else "off", *map(cell, setups)]
        lines.append(f"| {' | '.join(words)} |")
    lines += ["", *(f"{number}. {refusal.why}: {refusal.mend}." for refusal, number in numbers.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    print(make_table())
