# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Rows of a global batch, which every rank is given whole, to the model inputs that this rank embeds."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from trainers.chunks import ANY_SIZE, WHOLE_BATCH, ChunkLimits, RankSlice, cut_chunks
from trainers.data.known_positives import mask_known
from trainers.data.pairs import Pair
from unime.data.bad_rows import BadRowError
from unime.data.example import Example


class PairCollator:
    """Query-candidate pairs of a global batch to chunks of model inputs.

    With `num_own_negatives` it keeps this many of each row's negatives, the first ones, and says which candidates are a
    query's own and how they were judged, as `SoftLabelLoss` needs.
    """

    def __init__(
        self,
        processor,
        limits: ChunkLimits = ANY_SIZE,
        use_row_negatives: bool = True,
        max_length: int | None = None,
        rank_slice: RankSlice = WHOLE_BATCH,
        num_own_negatives: int | None = None,
        exclude_known_positives: bool = True,
    ):
        self.processor = processor
        self.limits = limits
        self.use_row_negatives = use_row_negatives
        self.max_length = max_length
        self.rank_slice = rank_slice
        self.num_own_negatives = num_own_negatives
        self.exclude_known_positives = exclude_known_positives

    def __call__(self, pairs: Sequence[Pair]) -> dict:
        """The batch of N rows, with E negatives and U distinct inputs.

        Beside `chunks`, model inputs of this rank, `local_order` and `global_order` (see `RankSlice`): `query_positions`
        (N,) and `candidate_positions` (N + E,), places among the distinct inputs, the positives before the negatives;
        `groups` (N + E,), equal for candidates of equal content; `sources`, the name of each row's; and, where there are
        any, `other_positives` (N, N + E), which candidates are a query's positives in other rows. With
        `num_own_negatives` also `own` (N, 1 + K), numbers of candidates, -1 for none, `scores` (N, 1 + K), and
        `other_positives` is how many were left out.
        """
        given = sum(len(pair.negatives) for pair in pairs)
        if not self.use_row_negatives:
            pairs = [pair._replace(negatives=(), negative_groups=()) for pair in pairs]
        elif self.num_own_negatives is not None and self.exclude_known_positives:
            pairs = [without_known(pair) for pair in pairs]
        left_out = given - sum(len(pair.negatives) for pair in pairs)
        if self.num_own_negatives is not None:
            k = self.num_own_negatives
            pairs = [p._replace(negatives=p.negatives[:k], negative_groups=p.negative_groups[:k]) for p in pairs]

        queries = [pair.query for pair in pairs]
        candidates = [pair.positive for pair in pairs] + [negative for pair in pairs for negative in pair.negatives]
        groups = [pair.group for pair in pairs] + [group for pair in pairs for group in pair.negative_groups]
        distinct = sorted(dict.fromkeys([*queries, *candidates]), key=lambda example: example.cost)
        position = {example: index for index, example in enumerate(distinct)}

        own = self.rank_slice.of(distinct)
        owner = {example: pair for pair in reversed(pairs) for example in pair.examples}  # for messages
        images = [owner[example].open(example) for example in own]
        lengths = [
            self._count_tokens(example, image, owner[example]) for example, image in zip(own, images, strict=True)
        ]
        chunks = cut_chunks(lengths, self.limits, [image is not None for image in images])
        batch = {
            "chunks": [self._process([own[i] for i in chunk], [images[i] for i in chunk]) for chunk in chunks],
            **self.rank_slice.orders(chunks, len(distinct)),
            "query_positions": torch.tensor([position[example] for example in queries]),  # (N,)
            "candidate_positions": torch.tensor([position[example] for example in candidates]),  # (N + E,)
            "groups": torch.tensor(groups),  # (N + E,)
            "sources": [pair.source for pair in pairs],
        }
        if self.num_own_negatives is not None:
            return {**batch, **self._judged(pairs), "other_positives": torch.tensor(left_out)}
        mask = mask_known([pair.known_positives for pair in pairs], groups) if self.exclude_known_positives else None
        return batch if mask is None else {**batch, "other_positives": mask}  # (N, N + E)

    def make_filler(self, with_image: bool) -> dict:
        """A chunk of one input, to keep ranks in step; see gradient_cache.py."""
        return dict(self.processor(text=["a"], images=[Image.new("RGB", (64, 64)) if with_image else None]))

    def _count_tokens(self, example: Example, image: Image.Image | None, pair: Pair) -> int:
        """About how many tokens an input has."""
        tokens = len(self.processor.tokenizer(f"{example.instruction or ''} {example.text or ''}")["input_ids"])
        if image is not None:
            try:
                tokens += self.processor.check_image_size(*image.size, self.max_length, example.instruction)
            except ValueError as error:  # of an image that was not looked at before training (image_check: exists)
                raise BadRowError(f"{pair.place}: image {example.image!r}: {error}.") from error
        return tokens if self.max_length is None else min(tokens, self.max_length)

    def _process(self, examples: list[Example], images: list[Image.Image | None]) -> dict:
        return dict(
            self.processor(
                text=[example.text for example in examples],
                images=images,
                instruction=[example.instruction for example in examples],
                max_length=self.max_length,
            )
        )

    def _judged(self, pairs: Sequence[Pair]) -> dict[str, torch.Tensor]:
        own = torch.full((len(pairs), 1 + self.num_own_negatives), -1)  # (N, 1 + K)
        scores = torch.zeros(own.shape)  # (N, 1 + K)
        first = len(pairs)  # the candidates are all positives, then each row's negatives
        for row, pair in enumerate(pairs):
            count = len(pair.negatives)
            own[row, : 1 + count] = torch.tensor([row, *range(first, first + count)])
            scores[row, : 1 + count] = torch.tensor(pair.scores[: 1 + count])
            first += count
        return {"own": own, "scores": scores}


def without_known(pair: Pair) -> Pair:
    """A judged row without negatives that are a copy of its positive, or a positive of its query in another row."""
    known = {pair.group, *pair.known_positives}
    places = [place for place, group in enumerate(pair.negative_groups) if group not in known]
    return pair._replace(
        negatives=tuple(pair.negatives[place] for place in places),
        negative_groups=tuple(pair.negative_groups[place] for place in places),
        scores=(pair.scores[0], *(pair.scores[1 + place] for place in places)),
    )


class TextCollator:
    """Texts of a global batch, as token ids with their teacher's vectors, to chunks of model inputs."""

    def __init__(self, processor, limits: ChunkLimits = ANY_SIZE, rank_slice: RankSlice = WHOLE_BATCH):
        self.processor = processor
        self.limits = limits
        self.rank_slice = rank_slice

    def __call__(self, items: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> dict:
        """The batch, sorted by length, of texts' numbers, token ids (L,) and teacher's vectors (D_teacher,)."""
        items = sorted(items, key=lambda item: (len(item[1]), item[0]))
        own = [ids for _, ids, _ in self.rank_slice.of(items)]
        chunks = cut_chunks([len(ids) for ids in own], self.limits)
        return {
            "chunks": [self.processor.pad([own[index] for index in chunk]) for chunk in chunks],
            **self.rank_slice.orders(chunks, len(items)),
            "teacher": torch.from_numpy(np.stack([vector for _, _, vector in items])),
        }

    def make_filler(self, with_image: bool) -> dict:
        """A chunk of one text, to keep ranks in step; see gradient_cache.py."""
        return dict(self.processor(text=["a"]))
