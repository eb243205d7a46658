# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the README shows is true: its commands exist with the options they are given, its Python runs."""

import importlib
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def shell_commands() -> list[list[str]]:
    """Commands of the bash blocks, continuation lines joined, comments dropped."""
    commands = []
    for language, block in BLOCKS:
        if language == "bash":
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    commands.append(words)
    return commands


@pytest.mark.parametrize("words", shell_commands(), ids=" ".join)
def test_command_exists(words):
    name = words[0]
    if name == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    elif name.startswith("examples/"):
        assert (ROOT / name).stat().st_mode & 0o111, f"{name} cannot be executed"
    elif name == "unime":
        from trainers.cli import COMMANDS

        assert words[1] in COMMANDS
    elif "-m" in words and words[words.index("-m") + 1] not in ("venv",):
        assert importlib.util.find_spec(words[words.index("-m") + 1])
    recipes = [word for word in words if word.endswith(".yaml")]
    assert all((ROOT / recipe).is_file() for recipe in recipes)
    options = {word.removeprefix("--") for word in words if word.startswith("--")}
    assert options <= known_options(name, words), f"unknown options {options - known_options(name, words)}"


def known_options(name: str, words: list[str]) -> set[str]:
    """Options of the command that a line of the README starts."""
    from evaluation.arguments import EvaluationArguments
    from evaluation.check import CheckArguments
    from examples.tiny_backbone import BackboneArguments
    from trainers.convert import ConvertArguments
    from trainers.distillation_config import DistillationConfig
    from trainers.hard_negative_config import HardNegativeConfig
    from trainers.mining.arguments import JudgeArguments, MiningArguments
    from trainers.run import ModelArguments
    from trainers.teacher_arguments import TeacherArguments
    from trainers.train_stage1 import Stage1Arguments
    from trainers.train_stage2 import Stage2Arguments

    classes = {
        "examples/train_stage1.sh": (ModelArguments, Stage1Arguments, TeacherArguments, DistillationConfig),
        "examples/train_stage2.sh": (ModelArguments, Stage2Arguments, HardNegativeConfig),
        "examples/evaluate.sh": (EvaluationArguments,),
        "unime convert": (ConvertArguments,),
        "unime check": (CheckArguments,),
        "unime mine-negatives": (MiningArguments, JudgeArguments),
    }.get(
        " ".join(words[:2]) if name == "unime" else name,
        (BackboneArguments,) if "examples.tiny_backbone" in words else (),
    )
    return {entry.name for group in classes for entry in fields(group)}


def test_modules_with_help_exist():
    for module in re.findall(r"python -m ([\w.]+) --help", README):
        assert hasattr(importlib.import_module(module), "main"), module


def test_python_of_the_losses_runs():
    block = next(code for language, code in BLOCKS if language == "python" and "trainers.losses" in code)
    names: dict = {}
    exec(block, names)
    assert names["loss"].statistics


def test_tables_are_generated():
    """Every table of figures stands between markers that evaluation.table fills."""
    for marker in ("demo", "real"):
        begin, end = README.index(f"<!-- {marker}:begin -->"), README.index(f"<!-- {marker}:end -->")
        assert begin < end
