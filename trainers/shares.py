# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""How the distinct inputs of a global batch are divided among the ranks, and each rank's into chunks.

An input that occurs many times in a batch (a class name, "Yes") is embedded once by one rank, and its gradient is the
sum over its places. Inputs are dealt in turn from a list that is sorted by cost, so that all ranks have equally many and
nearly equal work.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch

from trainers.chunks import ChunkLimits, cut_chunks

T, P = TypeVar("T"), TypeVar("P")


class Share(NamedTuple):
    """Which part of a global batch this process embeds.

    Args:
        rank: from 0.
        world_size: number of ranks.
    """

    rank: int = 0
    world_size: int = 1

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """The inputs of this rank, in their order.

        Args:
            items: the distinct inputs of the global batch, sorted by cost; the same on every rank.
        """
        return items[self.rank :: self.world_size]

    def places(self, count: int) -> torch.Tensor:
        """Where each of `count` inputs stands when the ranks' shares are put one behind the other, (count,) int64."""
        gathered = torch.cat(
            [torch.arange(rank, count, self.world_size) for rank in range(self.world_size)]
        )  # (count,)
        return torch.argsort(gathered)


WHOLE_BATCH = Share()  # of a run of one process


def chunks_of_share(
    inputs: Sequence[T],
    share: Share,
    limits: ChunkLimits,
    *,
    prepare: Callable[[T], P],
    length: Callable[[P], int],
    process: Callable[[list[P]], dict],
    has_image: Callable[[P], bool] = lambda entry: False,
) -> dict:
    """This rank's part of a batch as [`EmbeddingTrainer`] takes it.

    Args:
        inputs: U distinct inputs of the global batch, sorted by cost; the same on every rank.
        share: this rank's.
        limits: how large a chunk may be.
        prepare: input -> what the next two take; only called for this rank's inputs.
        length: prepared input -> its tokens.
        process: prepared inputs of a chunk -> model inputs.
        has_image: prepared input -> whether it has an image (default: none has).

    Returns:
        `chunks`, model inputs; `own_places`, (n,) where each input of the share stands in them; `places`, (U,) where each
        input of the batch stands in the gathered shares.
    """
    own = [prepare(entry) for entry in share.of(inputs)]
    chunks = list(cut_chunks([length(entry) for entry in own], limits, [has_image(entry) for entry in own]))
    return {
        "chunks": [process([own[index] for index in chunk]) for chunk in chunks],
        "own_places": torch.argsort(torch.tensor([index for chunk in chunks for index in chunk])),
        "places": share.places(len(inputs)),
    }
