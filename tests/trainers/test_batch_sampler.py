# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Global batches: by seed and epoch alone, mixed or in blocks of one source."""

import numpy as np
import pytest

from trainers.batch_sampler import GlobalBatchSampler

SOURCES = np.repeat([0, 1, 2], [50, 23, 7])


def test_an_epoch_holds_every_row_once_but_for_the_last_batch():
    sampler = GlobalBatchSampler(80, 12, seed=3)
    batches = list(sampler)
    rows = [row for batch in batches for row in batch]
    assert len(sampler) == len(batches) == 6 and {len(batch) for batch in batches} == {12}
    assert len(set(rows)) == len(rows) == 72


def test_order_follows_from_seed_and_epoch():
    def order(seed, epoch):
        sampler = GlobalBatchSampler(80, 16, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(3, 1) == order(3, 1)
    assert order(3, 1) != order(3, 2) and order(3, 1) != order(4, 1)


@pytest.mark.parametrize("block", [4, 8, 16])
def test_blocks_are_of_one_source(block):
    sampler = GlobalBatchSampler(80, 16, seed=0, sources=SOURCES, source_block_size=block)
    seen = set()
    for batch in sampler:
        for start in range(0, 16, block):
            assert len(set(SOURCES[batch[start : start + block]])) == 1
        seen.update(batch)
    assert len(seen) == 16 * len(sampler)
    assert len(sampler) == (50 // block + 23 // block + 7 // block) * block // 16
    mixed = GlobalBatchSampler(80, 16, seed=0, sources=SOURCES)
    assert any(len(set(SOURCES[batch[:block]])) > 1 for batch in mixed)


def test_every_row_of_a_source_has_its_turn():
    """What is left over by blocks is not always the same."""
    sampler = GlobalBatchSampler(80, 16, seed=0, sources=SOURCES, source_block_size=16)
    seen = set()
    for epoch in range(30):
        sampler.set_epoch(epoch)
        seen.update(row for batch in sampler for row in batch)
    assert set(range(73)) <= seen, "rows of the sources that have a block"
    assert not seen & set(range(73, 80)), "seven rows make no block of 16"


@pytest.mark.parametrize(
    "options, message",
    [((10, 16, 0), "takes 16 rows, and there are 10"), ((80, 16, 0, SOURCES, 5), "5 does not divide")],
)
def test_impossible_batches_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GlobalBatchSampler(*options)


def test_blocks_of_the_sources_are_mixed():
    """An epoch does not go from one source to the next: its first half has seen both about equally."""
    sources = np.array([0] * 400 + [1] * 400)
    sampler = GlobalBatchSampler(800, 16, seed=0, sources=sources, source_block_size=8)
    batches = [sources[batch] for batch in sampler]
    assert 120 < np.concatenate(batches[: len(batches) // 2]).sum() < 280, "of 400 rows"
    assert any(0 < batch.sum() < 16 for batch in batches), "a batch of two blocks"
