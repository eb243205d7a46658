# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Memory and time of the hard-negative loss, forward and backward, by batch size; and of the same loss written plainly.

    python -m benchmarks.loss_memory --output benchmarks/results/loss_memory.json

Queries and candidates are random rows in bfloat16, as many candidates as queries. What is measured is all that comes on
top of these inputs, their gradients included. The plain way casts both to float32, makes the whole matrix of similarities,
and leaves its gradient to autograd. Every size and way runs in a process of its own; the two are compared first.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.measure import peak_extra_bytes, settings_of
from evaluation.encoder import pick_device
from evaluation.report import environment, to_json
from trainers.losses import HardNegativeInfoNCELoss
from unime.files import write_atomically
from unime.options import parse_dataclasses


@dataclass
class LossMemoryArguments:
    """Sizes of the batches."""

    output: str = field(metadata={"help": "JSON file to write."})
    sizes: list[int] = field(
        default_factory=lambda: [4096, 8192, 16384, 32768], metadata={"help": "Batch sizes N, queries and candidates."}
    )
    plain_sizes: list[int] = field(
        default_factory=lambda: [4096, 8192],
        metadata={"help": "Batch sizes of the plain way, which holds N x N float32 matrices."},
    )
    width: int = field(default=4096, metadata={"help": "Dimensions of an embedding."})
    num_hard_negatives: int = field(default=8, metadata={"help": "k."})
    block_size: int = field(default=1024, metadata={"help": "block_size of the loss."})
    device: str = field(default="auto", metadata={"help": "cpu, cuda, ...; auto takes a GPU if there is one."})
    seed: int = field(default=0, metadata={"help": "Of the embeddings."})
    memory_of: str | None = field(
        default=None, metadata={"help": "Only measure one way (blocked or plain), at sizes[0]; used internally."}
    )


def plain_loss(queries: torch.Tensor, candidates: torch.Tensor, k: int) -> torch.Tensor:
    """The loss of the paper (Eq. 4) with its defaults, on the whole matrix; every row is taken to have k negatives left."""
    queries, candidates = F.normalize(queries.float(), dim=1), F.normalize(candidates.float(), dim=1)
    similarities = queries @ candidates.T  # (N, N)
    positive = similarities.diagonal().unsqueeze(1)  # (N, 1)
    own = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    negatives = similarities.masked_fill(own | (similarities > positive + 0.1), -torch.inf).topk(k, dim=1).values
    logits = torch.cat([positive, negatives], dim=1) / 0.02  # (N, 1 + k)
    return F.cross_entropy(logits, torch.zeros(len(queries), dtype=torch.long, device=queries.device))


def make_inputs(arguments: LossMemoryArguments, size: int, device: torch.device) -> list[torch.Tensor]:
    """Queries and candidates in bfloat16; a query is nearer to its own candidate than to others."""
    generator = torch.Generator(device).manual_seed(arguments.seed)
    queries, candidates = (torch.empty(size, arguments.width, dtype=torch.bfloat16, device=device) for _ in range(2))
    for start in range(0, size, 1024):  # in blocks, so that the inputs leave no memory behind that is reused unseen
        shape = candidates[start : start + 1024].shape
        candidates[start : start + 1024] = torch.randn(shape, generator=generator, device=device)
        noise = torch.randn(shape, generator=generator, device=device)
        queries[start : start + 1024] = 0.2 * candidates[start : start + 1024] + noise
    return [queries.requires_grad_(), candidates.requires_grad_()]


def compute(arguments: LossMemoryArguments, way: str, inputs: list[torch.Tensor]) -> torch.Tensor:
    """Loss of one way, after its backward pass."""
    if way == "plain":
        loss = plain_loss(*inputs, arguments.num_hard_negatives)
    else:
        loss = HardNegativeInfoNCELoss(
            num_hard_negatives=arguments.num_hard_negatives, block_size=arguments.block_size
        )(*inputs)
    loss.backward()
    return loss.detach()


def largest_difference(arguments: LossMemoryArguments, size: int, device: torch.device) -> dict[str, float]:
    """How far the two ways are apart at a small size, relative to the largest value."""
    results = []
    for way in ("blocked", "plain"):
        inputs = make_inputs(arguments, size, device)
        results.append([compute(arguments, way, inputs), *(tensor.grad.float() for tensor in inputs)])
    names = ("loss", "query_gradient", "candidate_gradient")
    return {
        name: ((first - second).abs().max() / second.abs().max()).item()
        for name, first, second in zip(names, *results, strict=True)
    }


def measure_one(arguments: LossMemoryArguments) -> dict[str, float]:
    """Seconds, seconds of all cores together, and peak bytes of one way at one size."""
    device = pick_device(arguments.device)
    compute(arguments, arguments.memory_of, make_inputs(arguments, 64, device))  # threads and kernels are loaded
    inputs = make_inputs(arguments, arguments.sizes[0], device)
    start, start_of_cores = time.perf_counter(), time.process_time()
    peak = peak_extra_bytes(lambda: compute(arguments, arguments.memory_of, inputs), device)
    return {
        "seconds": time.perf_counter() - start,
        "core_seconds": time.process_time() - start_of_cores,
        "bytes": peak,
    }


def measure_in_own_process(arguments: LossMemoryArguments, way: str, size: int) -> dict[str, float]:
    """`measure_one` where nothing else has run."""
    options = asdict(replace(arguments, sizes=size, memory_of=way))
    del options["plain_sizes"]
    command = [
        sys.executable,
        "-m",
        "benchmarks.loss_memory",
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    result = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    return {"size": size, **json.loads(result.stdout.splitlines()[-1])}


def linear_fit(points: list[dict[str, float]]) -> dict[str, float]:
    """Bytes as intercept + slope x N, and the share of the variance that this explains."""
    sizes, values = (np.array([point[name] for point in points], dtype=float) for name in ("size", "bytes"))
    slope, intercept = np.polyfit(sizes, values, 1)
    rest = values - (intercept + slope * sizes)
    return {
        "bytes_per_row": float(slope),
        "intercept_bytes": float(intercept),
        "r_squared": float(1 - rest.var() / values.var()),
    }


def run(arguments: LossMemoryArguments) -> dict:
    """Everything measured, ready for JSON; the file is written after every size."""
    device = pick_device(arguments.device)
    result = {
        "settings": settings_of(arguments),
        **environment(device),
        "gradients_bytes_per_row": 2 * 2 * arguments.width,
        "relative_difference_from_plain": largest_difference(arguments, min(512, *arguments.sizes), device),
        "blocked": [],
        "plain": [],
        "linear_fit": None,
    }
    for way, sizes in (("blocked", arguments.sizes), ("plain", arguments.plain_sizes)):
        for size in sizes:
            point = measure_in_own_process(arguments, way, size)
            print(f"{way} N={size}: {point['bytes'] / 1e9:.3f} GB, {point['seconds']:.1f} s", flush=True)
            result[way].append(point)
            if len(result["blocked"]) > 1:
                result["linear_fit"] = linear_fit(result["blocked"])
            write_atomically(Path(arguments.output), to_json(result))
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; the last line printed is the file written."""
    (arguments,) = parse_dataclasses(
        (LossMemoryArguments,),
        argv,
        prog="python -m benchmarks.loss_memory",
        description=__doc__.partition("\n")[0],
    )
    if arguments.memory_of:
        print(json.dumps(measure_one(arguments)))
        return
    run(arguments)
    print(arguments.output)


if __name__ == "__main__":
    main()
