# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Start a command in one process or many, by what the machine and the recipe say.

    python -m trainers.launch COMMAND RECIPE.yaml [--nproc_per_node N] [--nnodes M ...] [--option value ...]

COMMAND is train_stage1, train_stage2 or encode_teacher.

Processes on this node: `--nproc_per_node`, else the recipe's `expected_world_size` divided by the nodes, else one per
GPU, else one. The command is told the number and refuses to run with another.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

COMMANDS = ("train_stage1", "train_stage2", "encode_teacher", "mine_negatives")


def build_command(argv: Sequence[str], gpus: int) -> list[str]:
    """The command line to run.

    Args:
        argv: what followed `trainers.launch`.
        gpus: GPUs of this machine.

    Returns:
        `python -m trainers....` for one process, torchrun for several.

    Raises:
        ValueError: when the recipe's world size does not divide by the nodes.
    """
    parser = argparse.ArgumentParser(prog="python -m trainers.launch", description=__doc__, allow_abbrev=False)
    parser.add_argument("command", choices=COMMANDS, help="what to run")
    parser.add_argument("--nproc_per_node", type=int, help="processes on this node")
    parser.add_argument("--nnodes", type=int, default=1, help="machines that take part (default 1)")
    parser.add_argument("--node_rank", type=int, default=0, help="number of this machine, from 0 (default 0)")
    parser.add_argument("--master_addr", default="127.0.0.1", help="address of machine 0 (default 127.0.0.1)")
    parser.add_argument("--master_port", type=int, default=29500, help="a free port of machine 0 (default 29500)")
    options, rest = parser.parse_known_args(argv)
    expected = 0
    if rest and not rest[0].startswith("-"):
        recipe = yaml.safe_load(Path(rest[0]).read_text(encoding="utf-8")) or {}
        expected = int(recipe.get("expected_world_size") or 0)
    if options.nproc_per_node is None and expected % options.nnodes:
        raise ValueError(f"expected_world_size {expected} of {rest[0]} does not divide by {options.nnodes} nodes")
    processes = options.nproc_per_node or expected // options.nnodes or max(gpus, 1)
    rest += ["--expected_world_size", str(processes * options.nnodes)]
    module = f"trainers.{options.command}"
    if processes * options.nnodes == 1:
        return [sys.executable, "-m", module, *rest]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    launcher += ["--nnodes", str(options.nnodes), "--node_rank", str(options.node_rank)]
    launcher += ["--master_addr", options.master_addr, "--master_port", str(options.master_port)]
    return [*launcher, "-m", module, *rest]


def without_token(command: Sequence[str]) -> list[str]:
    """The command line as it may be shown."""
    shown, hidden = [], False
    for word in command:
        name, _, value = word.partition("=")
        is_token = name in ("--hub_token", "--hub-token")
        shown.append("***" if hidden else f"{name}=***" if is_token and value else word)
        hidden = is_token and not value
    return shown


def main(argv: Sequence[str] | None = None) -> None:
    """Replace this process by the command."""
    command = build_command(sys.argv[1:] if argv is None else argv, torch.cuda.device_count())
    print(" ".join(without_token(command)), file=sys.stderr)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
