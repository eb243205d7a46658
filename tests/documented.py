# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The commands and the code that the documents show, read out of them for the tests."""

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
SCRIPTS = {  # of examples -> what they start
    "train_stage1.sh": "trainers.train_stage1",
    "train_stage2.sh": "trainers.train_stage2",
    "mine_negatives.sh": "trainers.mine_negatives",
    "evaluate.sh": "evaluation.run",
}
RECIPES = {"train_stage1": "tiny-cpu/stage1", "train_stage2": "tiny-cpu/stage2", "encode_texts": "tiny-cpu/stage1"}
LAUNCHER = (
    "--nproc_per_node",
    "--nnodes",
    "--node_rank",
    "--master_addr",
    "--master_port",
)  # options with a value each
REST = {"train_stage1": ["--model", "m", "--texts", "t", "--output_dir", "o"]}  # what "..." stands for


def blocks(document: Path, language: str) -> list[str]:
    """The blocks of a document in a language."""
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL)


def commands(document: Path) -> list[list[str]]:
    """Commands of the bash blocks as words; continuation lines joined, comments dropped."""
    lines = [line for block in blocks(document, "bash") for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def mentioned_commands(document: Path) -> list[list[str]]:
    """Commands in running text as words; they need not be complete."""
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [words.replace("\n", " ") for words in re.findall(r"`([^`]+)`", text)]
    return [shlex.split(words) for words in found if re.match(r"(unime|python3? -m|examples/\w+\.sh) ", words)]


def python_command(words: list[str]) -> tuple[str, list[str]] | None:
    """The module that a command starts, and the arguments it gives; None for a program that is not ours."""
    name = words[0].removeprefix("examples/")
    if name in SCRIPTS:
        module, argv = SCRIPTS[name], words[1:]
    elif name == "unime":
        from unime.cli import COMMANDS

        module, argv = COMMANDS[words[1]][0], words[2:]
        if module == "unime.launch":
            module, argv = COMMANDS[argv[0].replace("_", "-")][0], argv[1:]
    elif name in ("python", "python3") and words[1:2] == ["-m"] and words[2] != "venv":
        module, argv = words[2], words[3:]
    else:
        return None
    for option in LAUNCHER:
        while option in argv:
            del argv[argv.index(option) : argv.index(option) + 2]
    stem = module.rpartition(".")[2]
    stands_for = {"RECIPE.yaml": [f"examples/recipes/{RECIPES.get(stem)}.yaml"], "...": REST.get(stem, [])}
    return module, [entry for word in argv for entry in stands_for.get(word, [word])]


class Parsed(Exception):
    """A command line was accepted."""

    def __init__(self, options: argparse.Namespace):
        self.options = options


def parse(module: str, argv: list[str]) -> argparse.Namespace:
    """What the command's own parser makes of its arguments; it ends there.

    Raises:
        SystemExit: the parser refuses them.
    """
    original = argparse.ArgumentParser.parse_args

    def parse_args(self, args=None, namespace=None):
        raise Parsed(original(self, args, namespace))

    main = importlib.import_module(module).main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        patch.chdir(ROOT)  # where recipes are named from
        with pytest.raises(Parsed) as parsed:
            main(argv)
    return parsed.value.options
