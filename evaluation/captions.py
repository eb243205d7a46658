# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Caption retrieval over a whole set, both ways: Flickr30K, COCO, ShareGPT4V, Urban1K.

Rows hold `image` (a path) and `captions` (one string or a list): 5 per image for Flickr30K and COCO, 1 for the
others. Images and captions get the paper's own prompts ("Summary above ... in one word:").

- `t2i_recall@k`: a caption ranks all images (the first number of each pair in the paper's table).
- `i2t_recall@k`: an image ranks all captions; any of its own counts.

An item of other content that ties with the best right one counts as ranked before it.
"""

from typing import Any

import numpy as np

from evaluation.metrics import Similarities, recalls
from evaluation.task import ParsedRow, RowError, Score, Task, require, require_content
from unime.data.example import Example

CUTOFFS = (1, 5, 10)


class CaptionTask(Task):
    """Images with their captions. See the top of the file."""

    form = "captions"
    accepts = "image, captions (retrieval over the whole set, both ways)"
    headline = ("t2i_recall@1", "i2t_recall@1")

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.pairs: list[tuple[int, int]] = []  # content numbers of image and caption

    @classmethod
    def recognises(cls, values: dict[str, Any]) -> bool:
        """See `Task.recognises`."""
        return {"image", "captions"} <= values.keys()

    def parse_row(self, values: dict[str, Any]) -> ParsedRow:
        """See `Task.parse_row`."""
        image = Example.from_fields(None, require(values, "image", str, "image path"))
        captions = values["captions"] if "captions" in values else None
        captions = [captions] if isinstance(captions, str) else require(values, "captions", list, "captions")
        if not captions or not all(isinstance(caption, str) for caption in captions):
            raise RowError("field 'captions' must be a str or a non-empty list of str")
        texts = [require_content(Example.from_fields(caption, None), "field 'captions'") for caption in captions]
        return ParsedRow([require_content(image, "field 'image'"), *texts])

    def keep(self, numbers: np.ndarray, extra: Any) -> None:
        """See `Task.keep`."""
        self.pairs.extend((int(numbers[0]), int(caption)) for caption in numbers[1:])

    def score(self, embeddings: np.ndarray) -> Score:
        """See `Task.score`."""
        similarities = Similarities(embeddings, self.name)
        images, captions = np.array(self.pairs).T  # (P,), (P,)
        self.check_not_constant(embeddings, images, "images")
        self.check_not_constant(embeddings, captions, "captions")
        backward = [(caption, image) for image, caption in self.pairs]
        metrics, chance = {}, {}
        for direction, pairs in (("t2i", backward), ("i2t", self.pairs)):
            ranks, shares = _best_ranks(similarities, pairs)
            metrics |= {f"{direction}_{name}": value for name, value in recalls(ranks, CUTOFFS).items()}
            chance[f"{direction}_recall@1"] = float(shares.mean())
        return Score(metrics, chance, details={"images": len(np.unique(images)), "captions": len(np.unique(captions))})


def _best_ranks(similarities: Similarities, pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Rank of the best right item of each distinct query among all distinct items, and the share of right items."""
    queries = np.unique([query for query, _ in pairs])  # (Q,)
    items = np.unique([item for _, item in pairs])  # (C,)
    right = np.zeros((len(queries), len(items)), dtype=bool)  # (Q, C)
    row, column = np.array(pairs).T
    right[np.searchsorted(queries, row), np.searchsorted(items, column)] = True
    ranks = np.empty(len(queries), dtype=np.int64)  # (Q,)
    for part, scores in similarities.blocks(queries, items):
        best = np.where(right[part], scores, -np.inf).max(axis=1, keepdims=True)  # (B, 1)
        ranks[part] = 1 + ((scores >= best) & ~right[part]).sum(axis=1)
    return ranks, right.mean(axis=1)
