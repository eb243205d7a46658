# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Search of one query over the memory map of an index, exactly and by faiss with rescoring: seconds and resident memory.

    python -m benchmarks.index_search --output benchmarks/results/index_search.json

The file was just written and lies in the system's cache, as it does after a first search.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import interleaved_seconds, peak_extra_bytes, settings_of, show_and_write
from evaluation.report import environment
from search import approximate
from search.vector_file import VectorFile
from unime.options import check_at_least, parse_dataclasses

CHUNK = 50_000


@dataclass
class IndexSearchArguments:
    """Sizes of the index."""

    output: str = field(metadata={"help": "JSON file to write."})
    vectors: int = field(default=1_000_000, metadata={"help": "Vectors of the index."})
    dimension: int = field(default=768, metadata={"help": "Length of a vector."})
    k: int = field(default=10, metadata={"help": "Results wanted."})
    factories: list[str] = field(default_factory=list, metadata={"help": "Indexes of faiss to compare with."})
    rounds: int = field(
        default=5, metadata={"help": "Timed rounds, after one to warm up, each with a query of its own."}
    )
    folder: str | None = field(default=None, metadata={"help": "Where the file goes. Default: a temporary folder."})
    seed: int = field(default=0, metadata={"help": "Of the vectors."})

    def __post_init__(self) -> None:
        check_at_least(self, vectors=1, dimension=1, k=1, rounds=1)


def make_vectors(path: Path, arguments: IndexSearchArguments) -> VectorFile:
    """A file of random unit vectors."""
    generator = np.random.default_rng(arguments.seed)
    for start in range(0, arguments.vectors, CHUNK):
        rows = generator.normal(size=(min(CHUNK, arguments.vectors - start), arguments.dimension)).astype(np.float32)
        VectorFile(path, arguments.dimension, start).write(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return VectorFile(path, arguments.dimension, arguments.vectors)


def main(argv: list[str] | None = None) -> None:
    """Entry point of the command line."""
    (arguments,) = parse_dataclasses([IndexSearchArguments], argv, description="Search over an index's vectors.")
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        file = make_vectors(Path(folder, "vectors.f32"), arguments)
        slots = np.arange(arguments.vectors)
        queries = iter(
            np.random.default_rng(arguments.seed + 1).normal(size=(10_000, arguments.dimension)).astype("f4")
        )
        exact = lambda: file.search(next(queries), slots, arguments.k)  # noqa: E731
        memory = {"exact": peak_extra_bytes(exact, cpu)}
        ways, building, found = {"exact": exact}, {}, {}
        for number, factory in enumerate(arguments.factories):
            path, start = Path(folder, f"{number}.faiss"), time.perf_counter()
            approximate.build(path, file.vectors, slots, factory, None)
            building[factory] = time.perf_counter() - start
            index = approximate.load(path)

            def search(index=index):
                query = next(queries)
                return file.rescore(query, approximate.candidates(index, query, arguments.k), arguments.k)

            ways[factory], memory[factory] = search, peak_extra_bytes(search, cpu)
            tries = [next(queries) for _ in range(10)]
            hits = [
                len(
                    {*file.search(query, slots, arguments.k)[0]} & {*approximate.candidates(index, query, arguments.k)}
                )
                for query in tries
            ]
            found[factory] = sum(hits) / (len(tries) * min(arguments.k, arguments.vectors))
        seconds = interleaved_seconds(ways, arguments.rounds, cpu)
    result = {
        "median_seconds": {way: statistics.median(values) for way, values in seconds.items()},
        "seconds": seconds,
        "peak_extra_mib": {way: value / 2**20 for way, value in memory.items()},
        "building_seconds": building,
        "recall_at_k": found,
        "settings": settings_of(arguments),
        **environment(cpu),
    }
    show_and_write(result, ["median_seconds", "peak_extra_mib", "recall_at_k"], arguments.output)


if __name__ == "__main__":
    main()
