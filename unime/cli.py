# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The console script `unime`: every command of the project under one name."""

import difflib
import importlib
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

COMMANDS = {
    "train-stage1": ("trainers.train_stage1", "distil a text-embedding teacher into the LLM"),
    "train-stage2": ("trainers.train_stage2", "contrastive instruction tuning on MMEB-form rows"),
    "encode-teacher": ("trainers.encode_texts", "compute the teacher's vectors of texts before stage 1"),
    "mine-negatives": ("trainers.mine_negatives", "find hard negatives for the rows of stage 2"),
    "launch": ("unime.launch", "start one of the commands above, or evaluate, in one process or many"),
    "evaluate": ("evaluation.run", "MMEB, SugarCrepe and STS scores of a model"),
    "convert": ("release.convert", "make a UniME folder of a published checkpoint or LoRA adapter"),
    "check": ("release.check", "whether a saved model computes the same on every way it is used"),
    "export": ("release.export", "make a Hub folder, with model card, of a trained model"),
    "push": ("release.push", "upload an exported folder, or an adapter, to the Hub"),
    "table": ("evaluation.table", "one Markdown table from several results"),
    "index": ("search.make_index", "index a folder of pictures, texts and PDF files for search"),
    "search": ("search.query", "search an index by text, picture or both"),
    "serve-page": ("search.page", "a page to search an index with, in the browser"),
    "recipe": ("unime.recipe", "list the recipes, or print one"),
}
USAGE = "\n".join(
    ["usage: unime COMMAND [options]", "       unime --version", "", "commands (each has --help):"]
    + [f"  {name:14} {text}" for name, (_, text) in COMMANDS.items()]
)


def versions() -> str:
    """What to say in a report of a fault: the versions of this package, Python and the libraries that matter most."""
    found = []
    for name in ("unime", "torch", "transformers"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return f"{found[0]} (Python {platform.python_version()}, {', '.join(found[1:])})"


def main(argv: Sequence[str] | None = None) -> None:
    """Run a sub-command with the arguments that follow it."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv and argv[0] in ("-h", "--help", "--version"):
        print(versions() if argv[0] == "--version" else USAGE)
        return
    name = argv[0].replace("_", "-") if argv else ""  # train_stage1 is the module's name
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        fault = f"unknown command {argv[0]!r}{hint}" if argv else "no command is given"
        print(f"{USAGE}\n\nerror: {fault}", file=sys.stderr)
        raise SystemExit(2)
    try:
        # Only here, since they take seconds, in which Ctrl-C may be pressed, too.
        from unime.options import run_command

        command = importlib.import_module(COMMANDS[name][0]).main
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    run_command(command, argv[1:], prog=f"unime {name}")


if __name__ == "__main__":
    main()
