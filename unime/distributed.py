# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Gathering from all ranks, with gradient, long waits, and the check that as many ranks run as were asked for."""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from unime.options import CommandError

T = TypeVar("T")
LONGEST_WAIT = timedelta(days=30)


def world_size() -> int:
    """Number of processes of this run; 1 when torch.distributed is not in use."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def join_processes() -> None:
    """Join the processes that torchrun started, where no trainer does it; only small objects travel, through gloo."""
    if dist.is_available() and dist.is_torchelastic_launched() and not dist.is_initialized():
        dist.init_process_group("gloo", timeout=LONGEST_WAIT)


def own_device(device: str) -> str:
    """The `device` option for this process: of several on a machine with GPUs, each takes its own where it is "auto"."""
    if device == "auto" and world_size() > 1 and torch.cuda.is_available():
        return f"cuda:{dist.get_node_local_rank()}"
    return device


def largest(numbers: Sequence[int], device: torch.device) -> list[int]:
    """The largest of the ranks' numbers, one by one."""
    if world_size() == 1:
        return list(numbers)
    values = torch.tensor(numbers, device=device)
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values.tolist()


def gather_rows(local: torch.Tensor) -> torch.Tensor:
    """Rows (n, ...) of all ranks, in rank order, where n may differ; the local rows keep their graph.

    The rows of other ranks are constants here, so the gradient of a loss on the result is this rank's part only;
    DistributedDataParallel averages over ranks, hence the trainers multiply the loss by the world size. (The published
    UniME loss leaves the local rows out of the gathered list and so carries no gradient at all.)
    """
    size = world_size()
    if size == 1:
        return local
    counts = [torch.zeros(1, dtype=torch.long, device=local.device) for _ in range(size)]
    dist.all_gather(counts, torch.tensor([len(local)], device=local.device))
    padded = local.detach().new_zeros((int(max(counts)), *local.shape[1:]))
    padded[: len(local)] = local.detach()
    gathered = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(gathered, padded)
    rows = [part[: int(count)] for part, count in zip(gathered, counts, strict=True)]
    rows[dist.get_rank()] = local
    return torch.cat(rows)


class LongWaitGroup:
    """All ranks of this run, as a group for work that takes some of them hours longer than others.

    In the group of the training a wait of more than `ddp_timeout` ends the run, and with NCCL it keeps the GPUs busy.
    This one waits on the CPU, through gloo. A rank that dies still ends the others. Alone, nothing is set up.
    """

    def __enter__(self) -> "LongWaitGroup":
        self.size, self.rank = world_size(), rank()
        self._group = dist.new_group(backend="gloo", timeout=LONGEST_WAIT) if self.size > 1 else None
        return self

    def __exit__(self, *error) -> None:
        if self._group is not None:
            dist.destroy_process_group(self._group)

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self._group is not None:
            dist.barrier(group=self._group)

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order, on every rank."""
        values = [value] * self.size
        if self._group is not None:
            dist.all_gather_object(values, value, group=self._group)
        return values

    def broadcast_from_main(self, decide: Callable[[], T]) -> T:
        """What `decide` returns on rank 0, on every rank; its error ends the others, too, and only rank 0 says which."""
        if self._group is None:
            return decide()
        decision: list = [None, True]  # and whether it failed
        try:
            if self.rank == 0:
                decision = [decide(), False]
        finally:
            dist.broadcast_object_list(decision, src=0, group=self._group)
        if decision[1]:
            raise SystemExit(2)
        return decision[0]


def check_world_size(expected: int) -> None:
    """Refuse another number of processes than asked for (0: any): the batch would not be the recipe's."""
    # For MULTI_CPU without an MPI host file it names a meeting point for the processes that it was to start, and starts one.
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ
    if by_accelerate and "WORLD_SIZE" not in os.environ and world_size() == 1 and expected != 1:
        raise CommandError(
            "accelerate launch was asked for several processes and started one, as it does for MULTI_CPU without MPI: start "
            "the command with `python -m unime.launch COMMAND --nproc_per_node N` or torchrun, or set "
            "expected_world_size to 1."
        )
    if expected and expected != world_size():
        raise CommandError(
            f"expected_world_size is {expected}, but {world_size()} process(es) run. Start the script with "
            f"`torchrun --nproc_per_node {expected}` or correct expected_world_size."
        )
