# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Start a command in one process or many, by what the machine and the recipe say.

    python -m unime.launch COMMAND RECIPE.yaml [--nproc_per_node N] [--nnodes M ...] [--option value ...]

Processes on this node: `--nproc_per_node`, else the recipe's `expected_world_size` divided by the nodes, else one per
GPU, else one. The command is told the number and refuses to run with another.
"""

import os
import shlex
import sys
from collections.abc import Sequence

import torch

from unime.cli import COMMANDS as MODULES
from unime.options import CommandParser, check_at_least, read_yaml, run_command
from unime.shipped_files import find_recipe

# And which of a model's recipes each takes.
COMMANDS = {
    "train-stage1": "stage1",
    "train-stage2": "stage2",
    "encode-teacher": "stage1",
    "mine-negatives": "",
    "evaluate": "",
}
TORCHRUN = "torch.distributed.run"
OPTIONS = {
    "nproc_per_node": "processes on this node (default: expected_world_size divided by the nodes, else one per GPU, else one)",
    "expected_world_size": "processes on all nodes (default: the recipe's)",
    "nnodes": "machines that take part (default 1)",
    "node_rank": "number of this machine, from 0 (default 0)",
    "master_port": "a free port of machine 0 (default 29500)",
}


def build_command(argv: Sequence[str], gpus: int, prog: str = "python -m unime.launch") -> list[str]:
    """The command line to run on a machine with so many GPUs: `python -m trainers...`, or torchrun for several processes."""
    parser = CommandParser(
        prog=prog,
        description="Start a command in one process or many, by what the machine and the recipe say.",
        usage="%(prog)s COMMAND [RECIPE.yaml] [--nproc_per_node N] [--nnodes M ...] [--option value ...]",
        epilog="All other options are the command's; it is told the number of processes and refuses any other.",
    )
    parser.add_argument(
        "command", choices=list(COMMANDS), type=lambda name: name.replace("_", "-"), help="what to run"
    )
    for name, text in OPTIONS.items():
        parser.add_argument(f"--{name}", type=int, help=text)
    parser.add_argument("--master_addr", default="127.0.0.1", help="address of machine 0 (default 127.0.0.1)")
    parser.set_defaults(nnodes=1, node_rank=0, master_port=29500)
    options, rest = parser.parse_known_args(argv)
    check_at_least(options, nproc_per_node=1, nnodes=1, expected_world_size=0)
    expected = options.expected_world_size or 0
    first = rest[0] if rest else "-"
    is_model = options.command == "evaluate" and not first.endswith((".yaml", ".yml"))
    if options.expected_world_size is None and not first.startswith("-") and not is_model:
        expected = int(read_yaml(find_recipe(rest[0], COMMANDS[options.command])).get("expected_world_size") or 0)
    if options.nproc_per_node is None and expected % options.nnodes:
        raise ValueError(f"expected_world_size {expected} does not divide by {options.nnodes} nodes")
    processes = options.nproc_per_node or expected // options.nnodes or max(gpus, 1)
    command = ["-m", MODULES[options.command][0], *rest]
    command += ["--expected_world_size", str(processes * options.nnodes)]
    if processes * options.nnodes == 1:
        return [sys.executable, *command]
    launcher = [sys.executable, "-m", TORCHRUN, "--nproc_per_node", str(processes)]
    for name in ("nnodes", "node_rank", "master_addr", "master_port"):
        launcher += [f"--{name}", str(getattr(options, name))]
    return launcher + command


def without_token(command: Sequence[str]) -> list[str]:
    """The command line as it may be shown."""
    shown, hidden = [], False
    for word in command:
        name, _, value = word.partition("=")
        is_token = name in ("--hub_token", "--hub-token")
        shown.append("***" if hidden else f"{name}=***" if is_token and value else word)
        hidden = is_token and not value
    return shown


def run_together(arguments: Sequence[str]) -> None:
    """Start several processes and wait for them; the first that fails gives the exit code, and has said why."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(arguments)
    except ChildFailedError as error:  # torchrun would add a trace of itself
        code = error.get_first_failure()[1].exitcode
    except SignalException as error:
        code = -error.sigval
        print("interrupted", file=sys.stderr)
    else:
        return
    raise SystemExit(code if code > 0 else 128 - code)  # as a shell numbers a process that a signal ended


def main(argv: Sequence[str] | None = None, prog: str = "python -m unime.launch") -> None:
    """Replace this process by the command, or start several and wait for them."""
    command = build_command(sys.argv[1:] if argv is None else argv, torch.cuda.device_count(), prog)
    print(shlex.join(without_token(command)), file=sys.stderr)
    if TORCHRUN in command:
        run_together(command[command.index(TORCHRUN) + 1 :])
    else:
        sys.stderr.flush()
        os.execvp(command[0], command)


if __name__ == "__main__":
    run_command(main)
