# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which rows make up each global batch: the batch of all ranks together.

Every rank draws the same global batches and embeds its share of their distinct inputs (see `trainers.chunks`), so the
rows of a batch depend on the seed and the epoch alone: not on the number of ranks or of DataLoader workers, and a resumed
run goes on where it stopped.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class GlobalBatchSampler(Sampler[list[int]]):
    """Shuffled global batches of one size; the rows that do not fill the last one are left out of the epoch.

    With `source_block_size` a batch is made of blocks of this many rows of one source each (`sources`, (rows,)), so that a
    query's negatives come more often from its own task: 0 mixes all rows (VLM2Vec), the batch size gives batches of one
    source, and something between interleaves them (VLM2Vec-V2, arXiv 2507.04590, uses 64 per device). Rows of a source that
    do not fill its last block are left out of the epoch, others in each epoch.
    """

    def __init__(
        self,
        rows: int,
        batch_size: int,
        seed: int,
        sources: Sequence[int] | None = None,
        source_block_size: int = 0,
        drop_last: bool = True,
    ):
        if batch_size < 1 or (source_block_size and batch_size % source_block_size):
            raise ValueError(
                f"source_block_size {source_block_size} does not divide the global batch of {batch_size} rows"
            )
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.source_block_size = source_block_size if sources is not None else 0
        self.sources = None if sources is None else np.asarray(sources)
        self.drop_last = drop_last
        self.epoch = 0
        if len(self) == 0:
            raise ValueError(
                f"the data gives no batch: a batch takes {batch_size} rows"
                + (f" in blocks of {source_block_size} of one source" if self.source_block_size else "")
                + f", and there are {rows}. Give more data or lower per_device_train_batch_size"
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, before it begins."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.used_rows // self.batch_size if self.drop_last else -(-self.used_rows // self.batch_size)

    @property
    def used_rows(self) -> int:
        """Rows that stand in blocks; the last, smaller batch of them is left out too."""
        if not self.source_block_size:
            return self.rows
        counts = np.unique(self.sources, return_counts=True)[1]
        return int((counts // self.source_block_size).sum()) * self.source_block_size

    def _order(self, generator: np.random.Generator) -> np.ndarray:
        """Row numbers of the epoch, shuffled, blocks of one source together."""
        shuffled = generator.permutation(self.rows)
        if not self.source_block_size:
            return shuffled
        size, blocks = self.source_block_size, []
        sources = self.sources[shuffled]
        for source in np.unique(sources):
            own = shuffled[sources == source]
            blocks.append(own[: len(own) // size * size].reshape(-1, size))
        return generator.permutation(np.concatenate(blocks)).reshape(-1)

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order(np.random.default_rng((self.seed, self.epoch)))
        for batch in range(len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()
