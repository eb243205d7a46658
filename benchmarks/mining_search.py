# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The exact search of hard-negative mining against the bare matrix products, faiss, and sentence-transformers.

    python -m benchmarks.mining_search --output benchmarks/results/mining_search.json

Each query has its positive among the candidates, which is excluded, and a limit above it, as in mining. The products are
those of all queries with all candidates, in blocks, their results thrown away: what no exact search can do without.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

import torch
from torch import Tensor

from benchmarks.faiss_search import FaissIndex
from benchmarks.measure import interleaved_seconds, median_ratio, settings_of, show_and_write
from evaluation.encoder import pick_device
from evaluation.report import environment
from trainers.mining.search import Neighbours, search
from unime.options import check_at_least, parse_dataclasses

WAYS = {"product": None, "ours": None, "faiss": "faiss", "sentence_transformers": "sentence_transformers"}
MARGIN = 0.1
CHECKED = 256  # queries whose result is compared with a full top-k


@dataclass
class SearchArguments:
    """Sizes of the search."""

    output: str = field(metadata={"help": "JSON file to write."})
    queries: int = field(default=100_000, metadata={"help": "Vectors that are searched with."})
    candidates: int = field(
        default=100_000, metadata={"help": "Vectors that are searched; each query's positive first."}
    )
    dimension: int = field(default=768, metadata={"help": "Length of a vector."})
    k: int = field(default=50, metadata={"help": "Candidates wanted for each query."})
    query_block: int = field(default=1024, metadata={"help": "Queries that ours compares at a time."})
    candidate_block: int = field(default=4096, metadata={"help": "Candidates that ours compares at a time."})
    product_block: int = field(
        default=4096, metadata={"help": "Queries and candidates of one of the bare products; choose the fastest."}
    )
    shard_size: int = field(default=4096, metadata={"help": "Queries of one call of the search."})
    ways: list[str] = field(
        default_factory=lambda: [way for way, package in WAYS.items() if package is None or find_spec(package)],
        metadata={"help": f"What is measured: {', '.join(WAYS)}. Default: all that are installed."},
    )
    rounds: int = field(
        default=2, metadata={"help": "Timed rounds, after one to warm up; each way runs once in each."}
    )
    device: str = field(default="auto", metadata={"help": "cpu, cuda, ...; auto takes a GPU if there is one."})
    seed: int = field(default=0, metadata={"help": "Of the vectors."})

    def __post_init__(self) -> None:
        check_at_least(self, queries=1, k=1, rounds=1, candidates=self.queries)
        unknown = [way for way in self.ways if way not in WAYS]
        if unknown or "product" not in self.ways or "ours" not in self.ways:
            raise ValueError(
                f"ways are product and ours, and of {', '.join(WAYS)} what else is wanted; got {self.ways}"
            )


def make_vectors(arguments: SearchArguments, device: torch.device) -> tuple[Tensor, Tensor]:
    """Unit vectors: candidates without any order, and queries whose cosine with their positive is about 0.45."""
    generator = torch.Generator().manual_seed(arguments.seed)
    normalise = torch.nn.functional.normalize
    candidates = normalise(torch.randn(arguments.candidates, arguments.dimension, generator=generator), dim=1)
    noise = normalise(torch.randn(arguments.queries, arguments.dimension, generator=generator), dim=1)
    return normalise(candidates[: arguments.queries] + 2 * noise, dim=1).to(device), candidates.to(device)


def make_ways(
    arguments: SearchArguments, queries: Tensor, candidates: Tensor
) -> tuple[dict[str, Callable[[], object]], Callable[[int, int], Neighbours]]:
    """What is measured, as functions without arguments; and ours for some of the queries."""
    blocks = arguments.query_block, arguments.candidate_block
    limits = (queries * candidates[: len(queries)]).sum(1) + MARGIN
    starts = range(0, len(queries), arguments.shard_size)

    def positives(start: int, end: int) -> Tensor:
        return torch.stack([torch.arange(end - start), torch.arange(start, end)], dim=1)

    def product() -> None:
        result = queries.new_empty(arguments.product_block, arguments.product_block)
        for block in queries.split(arguments.product_block):
            for other in candidates.split(arguments.product_block):
                torch.mm(block, other.T, out=result[: len(block), : len(other)])

    def ours(start: int, end: int) -> Neighbours:
        excluded = positives(start, end)
        return search(queries[start:end], candidates, arguments.k, limits[start:end], excluded, *blocks)

    def by_shards(function: Callable[[int, int], object]) -> None:
        for start in starts:
            function(start, min(start + arguments.shard_size, len(queries)))

    def faiss() -> None:
        index = FaissIndex(candidates.cpu().numpy())
        by_shards(
            lambda start, end: index.search(
                queries[start:end].cpu(), arguments.k, limits[start:end].cpu(), positives(start, end)
            )
        )

    def sentence_transformers() -> None:
        from sentence_transformers.util import semantic_search

        semantic_search(queries, candidates, top_k=arguments.k)  # knows neither limits nor exclusions

    ways = {"product": product, "ours": lambda: by_shards(ours), "faiss": faiss}
    ways["sentence_transformers"] = sentence_transformers
    return {way: ways[way] for way in arguments.ways}, ours


def share_found(arguments: SearchArguments, queries: Tensor, candidates: Tensor, found: Neighbours) -> float:
    """Share of the candidates of a full top-k that ours found, for the first queries."""
    count = len(found.numbers)
    scores = queries[:count] @ candidates.T
    positives = scores.diagonal().clone()
    scores[scores > (positives + MARGIN)[:, None]] = -torch.inf
    scores.fill_diagonal_(-torch.inf)
    expected = scores.topk(arguments.k).indices  # (q, k)
    return (expected[:, :, None] == found.numbers[:, None, :]).any(-1).float().mean().item()


def run(arguments: SearchArguments) -> dict:
    """Everything measured, ready for JSON."""
    device = pick_device(arguments.device)
    queries, candidates = make_vectors(arguments, device)
    ways, ours = make_ways(arguments, queries, candidates)
    found = ours(0, min(CHECKED, len(queries)))
    seconds = interleaved_seconds(ways, arguments.rounds, device)
    operations = 2 * arguments.queries * arguments.candidates * arguments.dimension
    return {
        "settings": settings_of(arguments),
        **environment(device),
        "share_of_a_full_top_k_that_ours_found": share_found(arguments, queries, candidates, found),
        "tflop": operations / 1e12,
        "median_seconds": {way: statistics.median(values) for way, values in seconds.items()},
        "seconds": seconds,
        "share_of_the_speed_of_the_product": {
            way: median_ratio(seconds["product"], values) for way, values in seconds.items() if way != "product"
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; the last line printed is the file written."""
    (arguments,) = parse_dataclasses(
        (SearchArguments,),
        argv,
        prog="python -m benchmarks.mining_search",
        description=__doc__.partition("\n")[0],
    )
    shown = ("tflop", "median_seconds", "share_of_the_speed_of_the_product", "share_of_a_full_top_k_that_ours_found")
    show_and_write(run(arguments), shown, arguments.output)


if __name__ == "__main__":
    main()
