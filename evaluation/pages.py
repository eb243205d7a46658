# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Visual documents: a question ranks all pages of a set, of which some are right, one more than another (MMEB-V2, ViDoRe)."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from evaluation.load import REPLACE, ROWS_AT_A_TIME
from evaluation.metrics.mrr.mrr import MRR
from evaluation.metrics.ndcg_at_k.ndcg_at_k import NDCGAtK
from evaluation.metrics.ranking import gains_by_rank
from evaluation.metrics.recall_at_k.recall_at_k import RecallAtK
from evaluation.row_values import rank_rows
from evaluation.score_files import score_fields
from evaluation.similarities import Similarities
from evaluation.task import Row, RowError, Score, Task, make_example, require
from unime.data.bad_rows import BadRows, Place
from unime.data.example import Example
from unime.data.images import ImageError
from unime.data.rows import Row as ReadRow

CUT = 5  # of the headline metric


class PagesTask(Task):
    """Tables `corpus` (corpus-id, image), `queries` (query-id, query) and `qrels` (query-id, corpus-id, score).

    The rows are the queries. Pages of equal pixels are one page. NDCG@5 with a page's score as its gain.
    """

    form = "pages"
    fields = {"query-id", "query"}
    accepts = "tables queries, corpus and qrels (pages)"
    headline = (f"ndcg@{CUT}",)
    sides = ("queries", "pages")
    instructions: tuple[str | None, str | None] = (None, None)  # of queries, of pages

    def add_pages(self, rows: Iterable[ReadRow], bad_rows: BadRows) -> None:
        """Check all pages and number them; a bad one is a candidate of no query."""
        self.pages: dict[str, int] = {}  # content number by corpus-id
        rows = iter(rows)
        while chunk := list(islice(rows, ROWS_AT_A_TIME)):
            pages: list[tuple[Place, str, Example]] = []
            for row in chunk:
                image = str(row.values.get("image") or "")
                try:
                    page = make_example("the page", image=image, instruction=self.instructions[1])
                    pages.append((row.place, str(row.values["corpus-id"]), page.placed(self.store)))
                except RowError as fault:
                    bad_rows.add(row.place, str(fault), REPLACE)
                except KeyError as fault:
                    bad_rows.add(row.place, f"field {fault} is missing")
            self.index.look_at(page for _, _, page in pages)  # several at a time
            for place, name, page in pages:
                try:
                    self.pages[name] = int(self.index.add([page])[0])
                except ImageError as fault:
                    bad_rows.add(place, str(fault), REPLACE)
        self.candidates = [np.array(list(self.pages.values()), dtype=np.int32)]  # of all queries

    def add_relevance(self, rows: Iterable[ReadRow], bad_rows: BadRows) -> None:
        """Which pages are right for which query, and what they are worth."""
        self.relevance: dict[str, dict[str, float]] = {}
        for row in rows:
            try:
                query, page = str(row.values["query-id"]), str(row.values["corpus-id"])
                gain = float(row.values.get("score", 1))
            except (KeyError, TypeError, ValueError) as fault:
                bad_rows.add(row.place, f"a row of qrels needs query-id, corpus-id and a score ({fault})")
                continue
            if gain > 0:
                self.relevance.setdefault(query, {})[page] = gain

    def parse_row(self, values: dict[str, Any]) -> Row:
        text = require(values, "query", str, "text of the query")
        query = make_example("field 'query'", text, instruction=self.instructions[0])
        gains: dict[int, float] = {}
        for page, gain in self.relevance[str(values["query-id"])].items():
            if page not in self.pages:
                raise RowError(f"its page {page!r} is not in the corpus")
            number = self.pages[page]
            gains[number] = max(gain, gains.get(number, 0.0))
        return Row(query, [], gains)

    def add_row(self, row: Row) -> None:
        self.queries.append(int(self.index.add([row.query])[0]))
        self.labels.append(row.label)

    def contrast(self, row: int) -> tuple[int, np.ndarray, np.ndarray]:
        right = np.array(list(self.labels[row]))
        return self.queries[row], right, np.setdiff1d(self.candidates[0], right)

    def measure(self, similarities: Similarities) -> Score:
        pages = np.unique(self.candidates[0])
        gains: list[np.ndarray] = []  # of each query, in the order of its ranks

        def rows() -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
            scores = (row for block in similarities.blocks(np.array(self.queries), pages) for row in block)
            for query, row, own in zip(self.queries, scores, self.labels, strict=True):
                right = np.searchsorted(pages, list(own))
                gains.append(gains_by_rank(row, right, list(own.values())))
                yield query, pages, row, right

        ranks, worst = rank_rows(rows())
        return Score.of_rows(
            {
                **NDCGAtK.row_values(ranks, CUT, gains),
                **NDCGAtK.row_values(ranks, 10, gains),
                **RecallAtK.row_values(ranks, 1),
                **RecallAtK.row_values(ranks, 5),
                **MRR.row_values(ranks),
            },
            chance={f"ndcg@{CUT}": float(np.mean([_chance(own, len(pages)) for own in gains]))},
            details={
                "candidates": {"min": len(pages), "mean": float(len(pages)), "max": len(pages)},
                "scores": score_fields(ranks, gains),
            },
            misses=worst,
        )


def _chance(gains: np.ndarray, pages: int) -> float:
    """NDCG of pages in random order."""
    discounts = 1 / np.log2(2 + np.arange(min(CUT, pages)))
    best = -np.sort(-gains)[: len(discounts)]
    return float(gains.sum() / pages * discounts.sum() / (best * discounts[: len(best)]).sum())
