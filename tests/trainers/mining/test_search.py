# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Blocked search finds what a full sort finds: with ties, limits and exclusions, in any blocks."""

import pytest
import torch

import trainers.mining.search
from trainers.mining.search import Neighbours, search

N, M, D = 37, 331, 8
NO_LIMIT, NOTHING = torch.full((N,), torch.inf), torch.zeros((0, 2), dtype=torch.int64)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)


def vectors_with_ties() -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors whose products are exact in float32, and of which many are equal."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (N + M, D), generator=generator) * 2.0 - 1
    signs[:, 4:] = 0  # four entries of 1/2: cosines are multiples of 1/4
    return (signs * 0.5)[:N], (signs * 0.5)[N:]


def random_vectors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return unit(torch.randn(N, D, generator=generator)), unit(torch.randn(M, D, generator=generator))


def some_pairs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    pairs = torch.stack(
        [torch.randint(0, N, (300,), generator=generator), torch.randint(0, M, (300,), generator=generator)]
    )
    return pairs.T.unique(dim=0)[torch.randperm(len(pairs.T.unique(dim=0)), generator=generator)]


def sorted_whole(queries, candidates, k, limits, excluded) -> Neighbours:
    """The same by one product and a full, stable sort."""
    scores = queries @ candidates.T
    scores[excluded[:, 0], excluded[:, 1]] = -torch.inf
    above = scores > limits[:, None]
    scores, numbers = scores.masked_fill(above, -torch.inf).sort(dim=1, descending=True, stable=True)
    wide = max(k - scores.shape[1], 0)
    scores = torch.nn.functional.pad(scores, (0, wide), value=-torch.inf)[:, :k]
    numbers = torch.nn.functional.pad(numbers, (0, wide), value=-1)[:, :k].masked_fill(scores.isneginf(), -1)
    return Neighbours(scores, numbers, above.sum(1))


def assert_same(found: Neighbours, expected: Neighbours, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found.similarities, expected.similarities, atol=tolerance, rtol=0)
    assert torch.equal(found.numbers, expected.numbers)
    assert torch.equal(found.above_limit, expected.above_limit)


@pytest.mark.parametrize("vectors", [vectors_with_ties, random_vectors])
@pytest.mark.parametrize("k", [1, 7, 200, 400])
@pytest.mark.parametrize("blocks", [(N, M), (5, 64), (16, 100), (N, 1)])
def test_equals_a_full_sort(vectors, k, blocks):
    queries, candidates = vectors()
    expected = sorted_whole(queries, candidates, k, NO_LIMIT, NOTHING)
    if vectors is vectors_with_ties and k < M:
        scores = (queries @ candidates.T).sort(dim=1, descending=True).values
        assert (scores[:, k - 1] == scores[:, k]).any(), "without ties at the border this test says less"
    assert_same(search(queries, candidates, k, NO_LIMIT, NOTHING, *blocks), expected)


@pytest.mark.parametrize("vectors", [vectors_with_ties, random_vectors])
@pytest.mark.parametrize("k", [3, 60])
@pytest.mark.parametrize("blocks", [(N, M), (5, 64), (16, 100)])
def test_limits_and_exclusions(vectors, k, blocks):
    queries, candidates = vectors()
    limits = torch.linspace(-0.6, 0.9, N)  # so low for some queries that fewer than k are left
    excluded = some_pairs()
    expected = sorted_whole(queries, candidates, k, limits, excluded)
    assert (expected.numbers[:, -1] < 0).any() or k == 3
    assert (expected.above_limit > 0).any() and not torch.equal(
        expected.numbers, sorted_whole(queries, candidates, k, limits, NOTHING).numbers
    )
    assert_same(search(queries, candidates, k, limits, excluded, *blocks), expected)


def test_threads_share_the_queries():
    queries, candidates = random_vectors()
    limits, excluded = torch.linspace(-0.6, 0.9, N), some_pairs()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = search(queries, candidates, 7, limits, excluded, 1024, 64)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert_same(found, sorted_whole(queries, candidates, 7, limits, excluded))


def test_no_block_is_sorted(monkeypatch):
    """After the first block nearly nothing is looked at again: what makes the search as fast as its products."""
    generator = torch.Generator().manual_seed(4)
    queries, candidates = (
        unit(torch.randn(64, 32, generator=generator)),
        unit(torch.randn(8192, 32, generator=generator)),
    )
    looked_at = []
    inner = trainers.mining.search._merge
    monkeypatch.setattr(
        trainers.mining.search,
        "_merge",
        lambda best, rows, *rest: looked_at.append(len(rows)) or inner(best, rows, *rest),
    )
    search(queries, candidates, 5, torch.full((64,), torch.inf), NOTHING, 64, 512)
    assert sum(looked_at) < 0.02 * 64 * 8192


def test_a_candidate_at_the_limit_is_within_it():
    """UniME leaves out what *exceeds* the positive by the margin: cosines of 0, 1/2, 3/4 and 1, by hand."""
    queries = torch.tensor([[1.0, 0.0]])
    candidates = torch.stack([torch.tensor([c, (1 - c * c) ** 0.5]) for c in (0.75, 0.0, 1.0, 0.5)])
    found = search(queries, candidates, 3, torch.tensor([0.75]), torch.zeros((0, 2), dtype=torch.int64))
    assert found.numbers.tolist() == [[0, 3, 1]] and found.above_limit.tolist() == [1]
