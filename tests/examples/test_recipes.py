# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Every recipe holds options that exist, with values of the right kind."""

import re
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from trainers.data.texts import TextArguments
from trainers.distillation_config import DistillationConfig
from trainers.hard_negative_config import HardNegativeConfig
from trainers.run import ModelArguments
from trainers.teachers.load import TeacherArguments
from trainers.train_stage2 import Stage2Arguments
from unime.launch import build_command
from unime.options import parse_dataclasses

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "recipes"
CLASSES = {
    "stage1": (ModelArguments, TextArguments, TeacherArguments, DistillationConfig),
    "stage2": (ModelArguments, Stage2Arguments, HardNegativeConfig),
}


OTHER_KINDS = ("backbone",)  # read by examples.tiny_backbone, and tested with it


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(RECIPES.glob("*/*.yaml")) if path.stem not in OTHER_KINDS],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_recipe_is_read(path, tmp_path):
    content = yaml.safe_load(path.read_text())
    stage = "stage1" if path.stem.startswith("stage1") else "stage2"
    required = ["--texts", "t.csv"] if stage == "stage1" else ["--data", "d.jsonl"]
    if "model" not in content:
        required += ["--model", "m"]
    # What this machine lacks is switched off; names and types are checked all the same.
    off = ["--deepspeed=", "--fsdp=", "--bf16=False", "--fp16=False", "--use_cpu=True", f"--output_dir={tmp_path}"]
    arguments = parse_dataclasses(CLASSES[stage], [str(path), *required, *off])
    values = {entry.name: getattr(group, entry.name) for group in arguments for entry in fields(group)}
    for name, value in content.items():
        if name not in ("deepspeed", "fsdp", "bf16", "fp16", "report_to"):
            assert values[name] == value, name
    if "deepspeed" in content:
        assert (RECIPES.parents[1] / content["deepspeed"]).is_file()


class Fact(NamedTuple):
    """What a source says about an option, and which source: the paper, or the authors' code."""

    value: object
    source: str


def facts(source: str, **values: object) -> dict[str, Fact]:
    return {option: Fact(value, source) for option, value in values.items()}


ZERO2 = "examples/recipes/deepspeed_zero2.json"
# UniME (arXiv 2504.17432): section 3.3 the rule, 3.4 QLoRA and ZeRO-2, 4.1 and Table 6 the rest; `batch` is the global one.
UNIME = facts("Paper", expected_world_size=8, deepspeed=ZERO2, quantization="4bit")
UNIME_STAGE1 = UNIME | facts(
    "Paper", teacher="nvidia/NV-Embed-v2", lora_rank=32, batch=768, learning_rate=5e-4, num_train_epochs=2, fp16=True
)
UNIME_STAGE1 |= facts("Official code", teacher_dtype="float16")  # NV-Embed-v2's, which wraps everything in autocast
UNIME_STAGE2 = UNIME | facts(
    "Paper",
    lora_rank=16,
    num_hard_negatives=8,
    false_negative_margin=0.1,
    short_rows="repeat",
    use_row_negatives=False,
    max_rows_per_source=50000,  # so many of each of the 20 sets of MMEB-train are the paper's 662k pairs
    batch=1024,
    max_steps=1000,
    image_resolution=336,
    bf16=True,
)
UNIME_STAGE2 |= facts("Official code", temperature=0.02)  # loss.py
E5V = facts(
    "Official code",
    loss_type="info_nce",
    temperature=0.05,
    quantization="4bit",
    lora_rank=64,
    lora_alpha=16,
    lora_dropout=0.05,
    expected_world_size=32,
    batch=768,
    learning_rate=4e-4,
    num_train_epochs=2,
    warmup_steps=100,
    fp16=True,
    deepspeed=ZERO2,
    seed=42,
)
VLM2VEC = facts("Paper", max_rows_per_source=50000) | facts(
    "Official code",
    expected_world_size=8,
    loss_type="info_nce",
    temperature=0.02,
    use_row_negatives=False,
    batch=1024,
    gradient_cache_chunk_size=4,
    learning_rate=2e-5,
    max_steps=2000,
    warmup_steps=200,
    lr_scheduler_type="linear",
    bf16=True,
    lora_type="dora",
    lora_init="gaussian",
    lora_rank=16,
    lora_alpha=64,
    lora_dropout=0.1,
)
VLM2VEC_HIGH = VLM2VEC | facts("Official code", image_resolution=1344, max_length=4096)
UNIME_V2 = facts(  # arXiv 2510.13515
    "Paper",
    expected_world_size=8,
    loss_type="soft_label",
    num_hard_negatives=8,
    lora_rank=16,
    batch=1024,
    learning_rate=1e-4,
    max_steps=2000,
    image_resolution=336,
    deepspeed=ZERO2,
)
UNIME_V2 |= facts("Official code", temperature=0.02, warmup_steps=200, lr_scheduler_type="linear")

SOURCES = {
    "llava-1.6-7b/stage1": UNIME_STAGE1,
    "llava-1.6-7b/stage1_bidirectional": UNIME_STAGE1,
    "llava-1.6-7b-whole/stage1": UNIME_STAGE1,
    "phi-3.5-v/stage1": UNIME_STAGE1,
    "qwen2-vl-2b/stage1": UNIME_STAGE1,
    "llava-1.6-7b/stage2": UNIME_STAGE2 | facts("Paper", learning_rate=2e-5),
    "llava-1.6-7b-whole/stage2": UNIME_STAGE2 | facts("Paper", learning_rate=2e-5),
    "phi-3.5-v/stage2": UNIME_STAGE2 | facts("Paper", learning_rate=1e-4),
    "qwen2-vl-2b/stage2": UNIME_STAGE2,  # the paper has two learning rates, and no Qwen2-VL
    "qwen2-vl-2b/stage2_v2": UNIME_V2,
    "llava-1.6-7b/e5v_stage1": E5V,
    "phi-3.5-v/e5v_stage1": E5V,
    "llava-1.6-7b/vlm2vec": VLM2VEC_HIGH,
    "qwen2-vl-2b/vlm2vec": VLM2VEC_HIGH,
    "phi-3.5-v/vlm2vec": VLM2VEC | facts("Official code", max_length=256),
    "clip-vit-l/stage2": {},  # nothing is given
}
MARK = re.compile(r"# (Paper|Official code|Ours)\b.*:$")


def marked_lines(path: Path) -> dict[str, tuple[str | None, str]]:
    """Option -> the mark it stands under, and its line."""
    mark, lines = None, {}
    for line in path.read_text().splitlines():
        if found := MARK.match(line):
            mark = found[1]
        elif line and not line.startswith("#"):
            lines[line.partition(":")[0]] = mark, line
    return lines


def test_every_recipe_for_published_models_has_its_sources():
    """The others, for a laptop CPU, are ours as a whole."""
    recipes = {f"{path.parent.name}/{path.stem}" for path in RECIPES.glob("*/*.yaml")}
    assert set(SOURCES) == {name for name in recipes if not name.startswith(("demo", "small-real", "tiny-cpu"))}


def mentions(comment: str, option: str, value: object) -> bool:
    """Whether a comment says a value: a word, the file of a path, a number however written, the name of a switch."""
    if isinstance(value, bool):
        return option in comment
    if isinstance(value, str):
        return Path(value).name in comment
    return value in [float(number) for number in re.findall(r"\d[\d.]*(?:e-\d+)?", comment)]


@pytest.mark.parametrize("name", SOURCES)
def test_marks_are_true(name):
    """A value is marked as a source's if that source gives it, else as ours; where a source says otherwise, a comment tells."""
    path, known = RECIPES / f"{name}.yaml", SOURCES[name]
    content, lines = yaml.safe_load(path.read_text()), marked_lines(path)
    assert content.keys() == lines.keys()
    content["batch"] = content["expected_world_size"] * content["per_device_train_batch_size"]
    lines["batch"] = lines.pop("per_device_train_batch_size")
    for option in lines.keys() - {"model"}:
        fact = known.get(option)
        source = fact.source if fact is not None and fact.value == content[option] else "Ours"
        assert lines[option][0] == source, f"{option}: {content[option]} is not marked as {source}"
    for option, fact in known.items():
        if content.get(option) != fact.value:
            place = lines[option][1] if option in lines else path.read_text()
            assert mentions(place.partition("#")[2], option, fact.value), f"{option}: {fact.value} is not mentioned"


def test_launcher_starts_as_many_processes_as_the_recipe_says():
    command = build_command(["train_stage1", str(RECIPES / "llava-1.6-7b/stage1.yaml"), "--texts", "t.csv"], gpus=2)
    assert "torch.distributed.run" in command and command[command.index("--nproc_per_node") + 1] == "8"
    assert command[-2:] == ["--expected_world_size", "8"]
    nodes = build_command(["train_stage2", str(RECIPES / "llava-1.6-7b/stage2.yaml"), "--nnodes", "2"], gpus=4)
    assert nodes[nodes.index("--nproc_per_node") + 1] == "4" and nodes[-1] == "8"
    nodes = build_command(["train_stage2", str(RECIPES / "llava-1.6-7b-whole/stage2.yaml"), "--nnodes", "2"], gpus=8)
    assert nodes[nodes.index("--nproc_per_node") + 1] == "8" and nodes[-1] == "16"


def test_launcher_starts_one_process_without_gpus():
    command = build_command(["train_stage1", str(RECIPES / "tiny-cpu/stage1.yaml")], gpus=0)
    assert command[1:3] == ["-m", "trainers.train_stage1"] and command[-2:] == ["--expected_world_size", "1"]
    assert build_command(["train_stage1", "--nproc_per_node", "2"], gpus=0)[-1] == "2"
    evaluate = build_command(["evaluate", "my/model", "--suite", "sts", "--nproc_per_node", "2"], gpus=0)
    assert evaluate[-5:] == ["my/model", "--suite", "sts", "--expected_world_size", "2"], "a model, no recipe"
    with pytest.raises(ValueError, match="does not divide by 3 nodes"):
        build_command(["train_stage1", str(RECIPES / "llava-1.6-7b/stage1.yaml"), "--nnodes", "3"], gpus=0)
