# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Caption retrieval over a whole set, both ways: Flickr30K, COCO, ShareGPT4V, Urban1K.

Rows hold `image` (a path) and `captions` (one string or a list): 5 per image for Flickr30K and COCO, 1 for the
others. Images and captions get the paper's own prompts ("Summary above ... in one word:").

- `t2i_recall@k`: a caption ranks all images (the first number of each pair in the paper's table).
- `i2t_recall@k`: an image ranks all captions; any of its own counts.
"""

from typing import Any

import numpy as np

from evaluation.metrics.ranking import right_ranks
from evaluation.metrics.recall_at_k.recall_at_k import recall_at_k
from evaluation.similarities import Similarities
from evaluation.task import Row, RowError, Score, Task, make_example, require

CUTOFFS = (1, 5, 10)


class CaptionTask(Task):
    """Images (the queries) with their captions. See the top of the file."""

    form = "captions"
    fields = {"image", "captions"}
    accepts = "image, captions (retrieval over the whole set, both ways)"
    headline = ("t2i_recall@1", "i2t_recall@1")
    sides = ("images", "captions")

    def parse_row(self, values: dict[str, Any]) -> Row:
        image = make_example("field 'image'", image=require(values, "image", str, "image path"))
        captions = values.get("captions")
        captions = [captions] if isinstance(captions, str) else require(values, "captions", list, "captions")
        if not captions or not all(isinstance(caption, str) for caption in captions):
            raise RowError("field 'captions' must be a str or a non-empty list of str")
        return Row(image, [make_example("field 'captions'", caption) for caption in captions])

    def measure(self, similarities: Similarities) -> Score:
        pairs = np.array(
            [(image, caption) for image, own in zip(self.queries, self.candidates, strict=True) for caption in own]
        )  # (P, 2)
        images, captions = (np.unique(side) for side in pairs.T)  # distinct contents
        metrics, chance = {}, {}
        for direction, way in (("t2i", pairs[:, ::-1]), ("i2t", pairs)):
            ranks, shares = _rank_all(similarities, way)
            metrics |= {f"{direction}_recall@{k}": recall_at_k(ranks, k) for k in CUTOFFS}
            chance[f"{direction}_recall@1"] = float(shares.mean())
        return Score(metrics, chance, details={"images": len(images), "captions": len(captions)})


def _rank_all(similarities: Similarities, pairs: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Ranks of the right items of each distinct query among all distinct items, and the share of right ones."""
    pairs = np.unique(pairs, axis=0)  # in the order of the queries
    queries, counts = np.unique(pairs[:, 0], return_counts=True)  # (Q,), (Q,)
    items, item_of_pair = np.unique(pairs[:, 1], return_inverse=True)  # (C,), (P,)
    right = np.split(item_of_pair, np.cumsum(counts)[:-1])
    scores = (row for block in similarities.blocks(queries, items) for row in block)
    return [right_ranks(row, own) for row, own in zip(scores, right, strict=True)], counts / len(items)
