# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""How the distinct inputs of a global batch are divided among the ranks.

An input that occurs many times in a batch (a class name, "Yes") is embedded once by one rank, and its gradient is the
sum over its places. Inputs are dealt in turn from a list that is sorted by cost, so that all ranks have equally many and
nearly equal work, and inputs of like length are padded together.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def share_of(items: Sequence[T], rank: int, world_size: int) -> Sequence[T]:
    """The inputs that one rank embeds, in their order.

    Args:
        items: the distinct inputs of the global batch, sorted by cost; the same on every rank.
        rank: from 0.
        world_size: number of ranks.

    Raises:
        ValueError: some rank would have nothing to embed.
    """
    if len(items) < world_size:
        raise ValueError(
            f"a batch of {len(items)} distinct inputs cannot be shared by {world_size} processes; "
            "raise per_device_train_batch_size"
        )
    return items[rank::world_size]


def places_after_gathering(count: int, world_size: int) -> torch.Tensor:
    """Where each of the `count` inputs stands when the ranks' shares are put one behind the other, (count,) int64."""
    gathered = torch.cat([torch.arange(rank, count, world_size) for rank in range(world_size)])  # (count,)
    return torch.argsort(gathered)
