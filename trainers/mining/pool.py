# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What is searched with what: distinct queries and candidates of a data set, and the searches they take part in."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from trainers.data.pairs import PairDataset
from unime.data.example import Example
from unime.shards import MiningError, digest


@dataclass(frozen=True)
class Search:
    """Rows whose negatives are looked for among the same candidates.

    Attributes:
        rows: (n,) rows of the data set.
        candidates: (m,) numbers of the candidates, rising.
        places: (m,) a row of this search whose positive each candidate is.
    """

    rows: np.ndarray
    candidates: np.ndarray
    places: np.ndarray


class Pool:
    """Distinct queries and candidates of a data set, by content: the same text with the same picture is one. A query is
    another one under another instruction.

    Args:
        dataset: rows to be mined, then rows of which only the positive counts (`load_mmeb_train(candidates=...)`).

    Attributes:
        queries: distinct queries.
        candidates: distinct positives, of all rows.
        query_of_row: (rows,) number of each row's query; -1 for a row that only gives a candidate.
        positive_of_row: (rows,) number of each row's positive among the candidates.
        sources: (rows,) number of each row's source.
        query_digests: what each query holds, as a short string.
        candidate_digests: the same for candidates.
    """

    def __init__(self, dataset: PairDataset):
        self.dataset = dataset
        groups, query_groups, self.sources = (
            dataset.table[name].to_numpy() for name in ("group", "query_group", "source")
        )
        has_query = _given(dataset, "query", "text") | _given(dataset, "query", "image")

        candidate_groups, places, self.positive_of_row = np.unique(groups, return_index=True, return_inverse=True)
        self.candidates = [self.positive(row) for row in places]
        mined = np.flatnonzero(has_query)
        keys = np.stack([query_groups, dataset.instruction_numbers], axis=1)[mined]  # (m, 2)
        distinct, first, numbers = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        self.query_of_row = np.full(len(groups), -1)
        self.query_of_row[mined] = numbers
        self.queries = [dataset[int(row)].query for row in mined[first]]
        self.query_digests = [content_digest(query) for query in self.queries]
        self.candidate_digests = [content_digest(candidate) for candidate in self.candidates]

        # A query's own content and the positives of all its rows are never its negatives.
        same = np.searchsorted(candidate_groups, distinct[:, 0]).clip(max=len(candidate_groups) - 1)
        itself = np.flatnonzero(candidate_groups[same] == distinct[:, 0])
        pairs = [
            np.stack([numbers, self.positive_of_row[mined]], axis=1),
            np.stack([itself, same[itself]], axis=1),
        ]
        pairs = np.unique(np.concatenate(pairs), axis=0)  # (p, 2) query, candidate
        self._known = pairs[:, 1]
        self._known_starts = np.searchsorted(pairs[:, 0], np.arange(len(self.queries) + 1))

    def positive(self, row: int) -> Example:
        """The positive of a row."""
        return self.dataset[int(row)].positive

    def known(self, row: int) -> np.ndarray:
        """Numbers of the candidates that are known not to be negatives of a row, (p,), rising."""
        query = self.query_of_row[row]
        return self._known[self._known_starts[query] : self._known_starts[query + 1]]

    def searches(self, by_source: bool) -> Iterator[Search]:
        """The searches that mine all rows.

        Args:
            by_source: whether rows are searched only among the positives of their own source, and those of rows that
                only give candidates, instead of all.
        """
        mined = self.query_of_row >= 0
        for source in np.unique(self.sources[mined]) if by_source else [None]:
            here = mined if source is None else mined & (self.sources == source)
            giving = np.flatnonzero(here | ~mined)
            candidates, first = np.unique(self.positive_of_row[giving], return_index=True)
            yield Search(np.flatnonzero(here), candidates, giving[first])

    def image_store(self, search: Search) -> int:
        """Which of the data set's stores has all images of a search, so that a row can have any candidate's; -1: none.

        Raises:
            MiningError: images of rows and candidates lie in several places.
        """
        with_image = search.places[_given(self.dataset, "positive", "image")[search.places]]
        sources = np.unique(self.sources[np.concatenate([search.rows, with_image])])
        stores = sorted({self.dataset.sources[source].store for source in sources} - {-1})
        if len(stores) > 1:
            names = ", ".join(repr(self.dataset.stores[store]) for store in stores[:3])
            raise MiningError(
                f"images of rows and candidates lie in {len(stores)} places ({names}), but those of a row and its negatives "
                "must lie in one. Search each source by itself (--pool source), or bring all images into one folder or "
                "archive and name it (--image_root)."
            )
        return stores[0] if stores else -1

    def images_in(self, store: int) -> list[str]:
        """The images of queries and positives that a store has, each once."""
        here = np.isin(self.sources, [i for i, source in enumerate(self.dataset.sources) if source.store == store])
        images: set[str] = set()
        for side in ("query", "positive"):
            column = self.dataset.table[side].combine_chunks().field("image").filter(pa.array(here))
            images |= set(column.unique().to_pylist())
        return sorted(images - {None})


def _given(dataset: PairDataset, side: str, part: str) -> np.ndarray:
    """Which rows' query or positive has a text or an image, (rows,) bool."""
    return dataset.table[side].combine_chunks().field(part).is_valid().to_numpy(zero_copy_only=False)


def content_digest(example: Example) -> str:
    """What an example holds, as a short string; its image by path, size and time or checksum."""
    image = None if example.image is None else [example.image, *example.store.stamp(example.image)]
    return digest([example.text, example.instruction, image])
