# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Time, memory and arithmetic of alternatives, taken in turns so that a noisy machine treats all alike."""

from __future__ import annotations

import ctypes
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from evaluation.report import to_json
from unime.files import write_atomically

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _status_bytes(name: str) -> int:
    return 1024 * int(re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1])


def peak_extra_bytes(action: Callable[[], object], device: torch.device) -> int:
    """Memory that an action takes at its peak, above what was held before.

    On a GPU that is the allocator's account; on a CPU the growth of the resident set (Linux only), after the allocator was
    asked to give back what it kept from before. Some of that may remain: start each alternative in a process of its own.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        action()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR_REFS.write_text("5", encoding="utf-8")  # the peak starts anew
    before = _status_bytes("VmRSS")
    action()
    return max(_status_bytes("VmHWM") - before, 0)


def peak_extra_bytes_in_own_process(module: str, arguments: object, way: str) -> int:
    """Memory of one way, measured where no other way has run.

    Args:
        module: A benchmark, for example "benchmarks.embedding_forward"; with `--memory_of` it prints the bytes last.
        arguments: Its options, a dataclass.
        way: Value of `memory_of`.
    """
    command = [sys.executable, "-m", module, f"--memory_of={way}"]
    for name, value in asdict(arguments).items():
        if name != "memory_of" and value is not None:
            command += [f"--{name}", *map(str, value)] if isinstance(value, list) else [f"--{name}={value}"]
    result = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    return int(result.stdout.split()[-1])


def flops(action: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products of an action."""
    with FlopCounterMode(display=False) as counter:
        action()
    return counter.get_total_flops()


def interleaved_seconds(
    actions: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each action in each of `rounds`, all actions once per round, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, action in actions.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            action()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(first: list[float], second: list[float]) -> float:
    """Median over the rounds of first / second, taken within a round."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def step_seconds(
    steps: dict[str, Callable[[Any], object]], batches: Sequence[Any], device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each way's step on each batch but the first, which warms up; all ways take the same batches, in turns."""
    turns = {way: iter(batches) for way in steps}
    actions = {way: lambda way=way: steps[way](next(turns[way])) for way in steps}
    return interleaved_seconds(actions, len(batches) - 1, device)


def comparison(seconds: dict[str, list[float]], memory: dict[str, int]) -> dict:
    """What a result file says of several ways.

    Args:
        seconds: Of each way in each round; the first way is ours.
        memory: Peak bytes of each way.
    """
    ours, *others = seconds
    return {
        "median_seconds": {way: statistics.median(values) for way, values in seconds.items()},
        "seconds": seconds,
        "peak_extra_mib": {way: value / 2**20 for way, value in memory.items()},
        "over_ours": {
            way: {
                "seconds": median_ratio(seconds[way], seconds[ours]),
                "memory": memory[way] / max(memory[ours], 1),
            }
            for way in others
        },
    }


def settings_of(arguments: object) -> dict:
    """The options of a benchmark, a dataclass, for the record: of places on this machine only the last part."""

    def without_place(value: Any) -> Any:
        if isinstance(value, list):
            return [without_place(entry) for entry in value]
        return Path(value).name if isinstance(value, str) else value

    options = asdict(arguments)
    return {name: without_place(value) for name, value in options.items() if name not in ("output", "memory_of")}


def show_and_write(result: dict, shown: Sequence[str], output: str) -> None:
    """Print some entries of a result, write all of it, and print the file's path last."""
    print(json.dumps({name: result[name] for name in shown}, indent=2))
    print(write_atomically(Path(output), to_json(result)))
