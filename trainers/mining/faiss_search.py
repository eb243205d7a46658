# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Search with faiss, an optional package, for its approximate indexes; "Flat" finds what `search` finds."""

import numpy as np
import torch
from torch import Tensor

from trainers.mining.search import Neighbours
from unime.shards import MiningError


def check_faiss(factory: str) -> None:
    """Refuse the faiss backend early where it cannot work.

    Args:
        factory: an index by faiss's own description, for example "Flat" or "HNSW32".

    Raises:
        MiningError: faiss is not installed, or does not know such an index.
    """
    try:
        import faiss
    except ImportError as error:
        raise MiningError(
            "backend faiss needs the package faiss-cpu: install unime[search], or use --backend exact"
        ) from error
    try:
        faiss.index_factory(64, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise MiningError(f"faiss knows no index {factory!r} ({error}); see its index_factory") from error


class FaissIndex:
    """Candidates in an index of faiss.

    Args:
        candidates: (M, D) float32, unit length.
        factory: see `check_faiss`.
    """

    def __init__(self, candidates: np.ndarray, factory: str):
        import faiss

        self.index = faiss.index_factory(candidates.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        if not self.index.is_trained:
            self.index.train(candidates)
        self.index.add(candidates)

    def search(self, queries: Tensor, k: int, limits: Tensor, excluded: Tensor) -> Neighbours:
        """As `trainers.mining.search.search`. faiss cannot leave out candidates while it searches, so it is asked for
        more until k are left."""
        n, total = len(queries), self.index.ntotal
        left_out = np.bincount(excluded[:, 0].numpy(), minlength=n)  # (n,)
        forbidden = set(map(tuple, excluded.tolist()))
        best = Neighbours(torch.full((n, k), -torch.inf), torch.full((n, k), -1), torch.zeros(n, dtype=torch.int64))
        waiting, width = np.arange(n), k + int(left_out.max(initial=0))
        while len(waiting):
            width = min(width, total)
            found, numbers = self.index.search(queries[waiting].numpy(), width)  # (w, width)
            again = []
            for row, similarities, candidates in zip(waiting, found, numbers, strict=True):
                usable = np.array([c >= 0 and (row, c) not in forbidden for c in candidates.tolist()])
                above = usable & (similarities > limits[row].item())
                kept = np.flatnonzero(usable & ~above)
                if len(kept) < k and width < total and candidates[-1] >= 0:
                    again.append(row)
                    continue
                kept = kept[np.lexsort((candidates[kept], -similarities[kept]))][:k]
                best.similarities[row, : len(kept)] = torch.from_numpy(similarities[kept])
                best.numbers[row, : len(kept)] = torch.from_numpy(candidates[kept])
                best.above_limit[row] = int(above.sum())
            waiting, width = np.array(again, dtype=np.int64), 2 * width
        return best
