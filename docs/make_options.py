# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Writes options.md, one table of options per command, from the commands' own parsers: `make docs`."""

import argparse
import importlib
import sys
from dataclasses import fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from transformers import TrainingArguments  # noqa: E402

from unime.cli import COMMANDS  # noqa: E402
from unime.options import CommandParser  # noqa: E402

TARGET = ROOT / "docs" / "options.md"
HEAD = """# Options of the commands

<!-- Written by docs/make_options.py (`make docs`); do not edit. -->

Every option may stand on the command line (`--option value`, which wins) or, for the commands that take one, in a YAML file
or recipe (`option: value`). `--help` after a command says the same.
"""
INHERITED = (
    "\nBesides, {count} options of `transformers.TrainingArguments` as they are there; those that would have no effect here are "
    "refused.\n"
)


def parser_of(name: str) -> CommandParser:
    """The parser of a sub-command, as it is when it prints its help."""
    found = []
    original = CommandParser.print_help
    CommandParser.print_help = lambda parser, file=None: found.append(parser)
    try:
        importlib.import_module(COMMANDS[name][0]).main(["--help"], prog=f"unime {name}")
    except SystemExit:
        return found[0]
    finally:
        CommandParser.print_help = original
    raise RuntimeError(f"unime {name} has no help")


def cell(text: str) -> str:
    """Text that may stand in a cell of a table."""
    return " ".join(text.replace("%%", "%").replace("|", "\\|").split())


def describe_values(action: argparse.Action) -> str:
    """What an option takes."""
    if action.choices:
        return cell(", ".join(f"`{choice}`" for choice in action.choices))
    name = getattr(action.type, "__name__", "str")
    words = {"string_to_bool": "true or false", "str": "text", "int": "number", "float": "number"}
    return words.get(name, "text") + (", several" if action.nargs in ("+", "*") else "")


def describe_default(action: argparse.Action) -> str:
    """An option's default; the help says it where none is shown."""
    if action.required or action.dest == "output_dir":
        return "required"
    if action.default in (None, [], "", argparse.SUPPRESS):
        return ""
    words = action.default if isinstance(action.default, list) else [action.default]
    return f"`{cell(' '.join(map(str, words)))}`"


def table(name: str) -> str:
    """The section of one command."""
    theirs = {entry.name: entry.metadata.get("help") for entry in fields(TrainingArguments)}
    parser = parser_of(name)
    lines, inherited = [], 0
    for action in parser._actions:  # argparse has no public list of a parser's options
        option = action.option_strings[0] if action.option_strings else action.dest
        if option in ("-h", "--help") or option.startswith("--no_"):
            continue
        if theirs.get(action.dest, action) == action.help and action.dest != "output_dir":
            inherited += 1
            continue
        lines.append(
            f"| `{option}` | {describe_values(action)} | {describe_default(action)} | {cell(action.help or '')} |"
        )
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    rows = "\n".join(lines)
    note = INHERITED.format(count=inherited) if inherited else ""
    return f"\n## unime {name}\n\n```text\n{usage}\n```\n\n| option | takes | default | what it is |\n| --- | --- | --- | --- |\n{rows}\n{note}"


def page() -> str:
    """The whole document."""
    return HEAD + "".join(map(table, COMMANDS))


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    print(TARGET)
