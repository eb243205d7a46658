# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The console script `unime`: every command of the project under one name."""

import importlib
import sys

COMMANDS = {
    "train-stage1": ("trainers.train_stage1", "distil a text-embedding teacher into the LLM"),
    "train-stage2": ("trainers.train_stage2", "contrastive instruction tuning on MMEB-form rows"),
    "encode-teacher": ("trainers.encode_teacher", "compute the teacher's vectors of texts before stage 1"),
    "mine-negatives": ("trainers.mine_negatives", "find hard negatives for the rows of stage 2"),
    "launch": (
        "trainers.launch",
        "start a training command, encode_teacher or mine_negatives, in one process or many",
    ),
    "evaluate": ("evaluation.run", "MMEB, SugarCrepe and STS scores of a model"),
    "convert": ("trainers.convert", "make a UniME folder of a published checkpoint or LoRA adapter"),
    "check": ("evaluation.check", "whether a saved model computes the same on every way it is used"),
    "export": ("trainers.export", "make a Hub folder, with model card, of a trained model"),
    "table": ("evaluation.table", "one Markdown table from several results"),
}


def main(argv: list[str] | None = None) -> None:
    """Run a sub-command with the arguments that follow it."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] not in COMMANDS:
        print("usage: unime COMMAND [options]\n\ncommands (each has --help):")
        for name, (_, text) in COMMANDS.items():
            print(f"  {name:14} {text}")
        raise SystemExit(0 if argv and argv[0] in ("-h", "--help") else 2)
    module, _ = COMMANDS[argv[0]]
    importlib.import_module(module).main(argv[1:])
