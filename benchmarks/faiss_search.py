# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""faiss as a peer of our search: limits and exclusions, which it does not know, are applied to what it finds."""

import numpy as np
import torch
from torch import Tensor

from trainers.mining.search import Neighbours


class FaissIndex:
    """Candidates (M, D), float32 of unit length, in an exact index."""

    def __init__(self, candidates: np.ndarray):
        import faiss

        self.index = faiss.IndexFlatIP(candidates.shape[1])
        self.index.add(candidates)

    def search(self, queries: Tensor, k: int, limits: Tensor, excluded: Tensor) -> Neighbours:
        """As `trainers.mining.search.search`: faiss is asked for more until k are left."""
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
