# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Blocked search finds what a full sort finds: with ties, limits, exclusions, any blocks, in bfloat16 and with faiss."""

import numpy as np
import pytest
import torch

import trainers.mining.search
from trainers.mining.faiss_search import FaissIndex, check_faiss
from trainers.mining.search import Neighbours, search
from unime.shards import MiningError

N, M, D = 37, 331, 8
NO_LIMIT, NOTHING = torch.full((N,), torch.inf), torch.zeros((0, 2), dtype=torch.int64)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=1)


def vectors_with_ties() -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors whose products are exact in float32 and bfloat16, and of which many are equal."""
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
    assert_same(search(queries, candidates, k, NO_LIMIT, NOTHING, torch.float32, *blocks), expected)


@pytest.mark.parametrize("vectors", [vectors_with_ties, random_vectors])
@pytest.mark.parametrize("k", [3, 60])
@pytest.mark.parametrize("blocks", [(N, M), (5, 64), (16, 100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_limits_and_exclusions(vectors, k, blocks, dtype):
    queries, candidates = vectors()
    limits = torch.linspace(-0.6, 0.9, N)  # so low for some queries that fewer than k are left
    excluded = some_pairs()
    expected = sorted_whole(queries, candidates, k, limits, excluded)
    assert (expected.numbers[:, -1] < 0).any() or k == 3
    assert (expected.above_limit > 0).any() and not torch.equal(
        expected.numbers, sorted_whole(queries, candidates, k, limits, NOTHING).numbers
    )
    assert_same(search(queries, candidates, k, limits, excluded, dtype, *blocks), expected)


def test_threads_share_the_queries():
    queries, candidates = random_vectors()
    limits, excluded = torch.linspace(-0.6, 0.9, N), some_pairs()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        found = search(queries, candidates, 7, limits, excluded, torch.float32, 1024, 64)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert_same(found, sorted_whole(queries, candidates, 7, limits, excluded))


def test_bfloat16_searches_again_where_rounding_could_matter(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    middle = torch.randn(1, D, generator=generator)
    crowd = unit(middle + 0.01 * torch.randn(M, D, generator=generator))  # cosines all but equal
    queries = torch.cat([unit(middle + 0.01 * torch.randn(5, D, generator=generator)), random_vectors()[0][5:]])
    excluded = torch.tensor([[0, 3], [2, 10], [20, 5]])
    again = []
    inner = trainers.mining.search._search_in

    def spy(dtype, queries, *rest):
        again.append((dtype, len(queries)))
        return inner(dtype, queries, *rest)

    monkeypatch.setattr(trainers.mining.search, "_search_in", spy)
    found = search(queries, crowd, 4, NO_LIMIT, excluded, torch.bfloat16, 16, 64)
    assert again[0] == (torch.bfloat16, N) and again[1][0] == torch.float32 and again[1][1] >= 5
    assert_same(found, sorted_whole(queries, crowd, 4, NO_LIMIT, excluded))
    rough = (queries.bfloat16() @ crowd.bfloat16().T).topk(4).indices
    assert not torch.equal(rough[:5].sort().values, found.numbers[:5].sort().values), "bfloat16 alone would do"


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
    search(queries, candidates, 5, torch.full((64,), torch.inf), NOTHING, torch.float32, 64, 512)
    assert sum(looked_at) < 0.02 * 64 * 8192


@pytest.mark.parametrize("vectors", [vectors_with_ties, random_vectors])
def test_faiss_finds_the_same(vectors):
    pytest.importorskip("faiss", reason="faiss is an optional extra")
    queries, candidates = vectors()
    limits, excluded = torch.linspace(-0.6, 0.9, N), some_pairs()
    found = FaissIndex(candidates.numpy(), "Flat").search(queries, 60, limits, excluded)
    expected = sorted_whole(queries, candidates, 60, limits, excluded)
    torch.testing.assert_close(found.similarities, expected.similarities, atol=1e-6, rtol=0)
    if vectors is random_vectors:  # which of equal candidates comes at the border is faiss's choice
        assert_same(found, expected)


def test_faiss_approximate_index_and_bad_names():
    pytest.importorskip("faiss", reason="faiss is an optional extra")
    check_faiss("HNSW32")
    with pytest.raises(MiningError, match="knows no index 'Falt'"):
        check_faiss("Falt")
    queries, candidates = random_vectors()
    found = FaissIndex(candidates.numpy(), "HNSW32").search(queries, 5, NO_LIMIT, NOTHING)
    expected = sorted_whole(queries, candidates, 5, NO_LIMIT, NOTHING)
    assert np.mean(found.numbers.numpy() == expected.numbers.numpy()) > 0.8


def test_absent_faiss_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MiningError, match="install unime\\[search\\], or use --backend exact"):
        check_faiss("Flat")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_candidate_at_the_limit_is_within_it(dtype):
    """UniME leaves out what *exceeds* the positive by the margin: cosines of 0, 1/2, 3/4 and 1, by hand."""
    queries = torch.tensor([[1.0, 0.0]])
    candidates = torch.stack([torch.tensor([c, (1 - c * c) ** 0.5]) for c in (0.75, 0.0, 1.0, 0.5)])
    found = search(queries, candidates, 3, torch.tensor([0.75]), torch.zeros((0, 2), dtype=torch.int64), dtype)
    assert found.numbers.tolist() == [[0, 3, 1]] and found.above_limit.tolist() == [1]
