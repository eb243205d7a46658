# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""How the distinct inputs of a global batch are dealt to the ranks, and each rank's cut into chunks.

An input that occurs many times in a batch (a class name, "Yes") is embedded once by one rank, and its gradient is the
sum over its places. Inputs are dealt in turn from a list that is sorted by cost, so that all ranks have equally many and
nearly equal work. Those of a chunk are padded, and embedded, together.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch

T = TypeVar("T")


class ChunkLimits(NamedTuple):
    """How many inputs and tokens, those of padding included, a chunk may hold; one input may always have more tokens."""

    inputs: int | None = None
    tokens: int | None = None

    def allow(self, inputs: int, longest: int) -> bool:
        """Whether this many inputs, padded to the longest one's tokens, make a chunk."""
        return (self.inputs is None or inputs <= self.inputs) and (
            self.tokens is None or inputs * longest <= self.tokens
        )


ANY_SIZE = ChunkLimits()


def cut_chunks(
    lengths: Sequence[int], limits: ChunkLimits, has_image: Sequence[bool] | None = None
) -> list[list[int]]:
    """Numbers of the inputs of each chunk, which have equally many tokens or nearly so.

    Those without images come first, the shortest first; a chunk holds only such or only other inputs.
    """
    has_image = [False] * len(lengths) if has_image is None else has_image
    chunks: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (has_image[index], lengths[index], index)):
        same_kind = chunks and has_image[index] == has_image[chunks[-1][0]]
        if same_kind and limits.allow(len(chunks[-1]) + 1, lengths[index]):
            chunks[-1].append(index)
        else:
            chunks.append([index])
    return chunks


class RankSlice(NamedTuple):
    """Which of the distinct inputs of a global batch this process embeds (default: all)."""

    rank: int = 0
    world_size: int = 1

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's items, out of those of the global batch."""
        return items[self.rank :: self.world_size]

    def orders(self, chunks: Sequence[Sequence[int]], count: int) -> dict[str, torch.Tensor]:
        """How embeddings come back into the order of the batch's `count` distinct inputs.

        `local_order`, (n,): where each input of this rank stands in its chunks. `global_order`, (count,): where each input
        of the batch stands when the ranks' inputs are put one behind the other.
        """
        in_chunks = torch.tensor([index for chunk in chunks for index in chunk])  # (n,)
        gathered = torch.cat(
            [torch.arange(rank, count, self.world_size) for rank in range(self.world_size)]
        )  # (count,)
        return {"local_order": torch.argsort(in_chunks), "global_order": torch.argsort(gathered)}


WHOLE_BATCH = RankSlice()  # of a run of one process
