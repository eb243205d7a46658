# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What is searched with what: distinct queries and candidates of a data set, and the searches they take part in."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from trainers.data.known_positives import KnownPositives
from trainers.data.pairs import PairDataset
from unime.data.example import Example
from unime.store import key_of


class Search(NamedTuple):
    """Rows whose negatives are looked for among the same candidates."""

    rows: np.ndarray  # (n,) rows of the data set
    candidates: np.ndarray  # (m,) numbers of the candidates, rising
    places: np.ndarray  # (m,) a row of this search whose positive each candidate is


class Pool:
    """Distinct queries and candidates of a data set, by content: the same text with the same picture is one. A query is
    another one under another instruction. Rows without a query (`load_mmeb_train(candidates=...)`) only give a candidate.
    """

    def __init__(self, dataset: PairDataset):
        self.dataset = dataset
        groups, query_groups, self.sources = (
            dataset.table[name].to_numpy() for name in ("group", "query_group", "source")
        )
        candidate_groups, places, self.positive_of_row = np.unique(groups, return_index=True, return_inverse=True)
        self.candidates = [dataset[int(row)].positive for row in places]
        self.candidate_keys = self._keys(self.candidates, candidate_groups)
        mined = np.flatnonzero(self.has("query", "text") | self.has("query", "image"))
        keys = np.stack([query_groups, dataset.instruction_numbers], axis=1)[mined]  # (m, 2)
        distinct, first, numbers = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        self.query_of_row = np.full(len(groups), -1)  # (rows,) number of each row's query; -1: it has none
        self.query_of_row[mined] = numbers
        self.queries = [dataset[int(row)].query for row in mined[first]]
        self.query_keys = self._keys(self.queries, distinct[:, 0])

        # A query's own content and the positives of all its rows are never its negatives.
        same = np.searchsorted(candidate_groups, distinct[:, 0]).clip(max=len(candidate_groups) - 1)
        itself = np.flatnonzero(candidate_groups[same] == distinct[:, 0])
        right = np.concatenate([self.positive_of_row[mined], same[itself]])
        self._known = KnownPositives(np.concatenate([numbers, itself]), right)

    def _keys(self, examples: list[Example], groups: np.ndarray) -> list[bytes]:
        contents = (self.dataset.contents[group].tobytes().hex() for group in groups)
        return [key_of(one.text, one.instruction, content) for one, content in zip(examples, contents, strict=True)]

    def has(self, side: str, part: str) -> np.ndarray:
        """Which rows' query or positive has a text or an image, (rows,) bool."""
        return self.dataset.table[side].combine_chunks().field(part).is_valid().to_numpy(zero_copy_only=False)

    def known(self, row: int) -> np.ndarray:
        """Numbers of the candidates that are known not to be negatives of a row, (p,), rising."""
        return self._known.of(self.query_of_row[row])

    def searches(self, by_source: bool) -> Iterator[Search]:
        """The searches that mine all rows: one, or one for each source among its own positives; positives of rows that
        only give a candidate count in all."""
        mined = self.query_of_row >= 0
        for source in np.unique(self.sources[mined]) if by_source else [None]:
            here = mined if source is None else mined & (self.sources == source)
            giving = np.flatnonzero(here | ~mined)
            candidates, first = np.unique(self.positive_of_row[giving], return_index=True)
            yield Search(np.flatnonzero(here), candidates, giving[first])
