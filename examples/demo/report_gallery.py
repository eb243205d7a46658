# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the models find: the first queries of each task with the best candidates of two models, rights and wrongs."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.load import load_task
from evaluation.metrics.ranking import right_ranks
from evaluation.pictures import data_url, readable
from evaluation.similarities import Similarities
from examples.demo.report_charts import cosine
from unime.data.example import Example

TOP = 5  # candidates shown of each model


@dataclass(frozen=True)
class Section:
    """A task of the gallery.

    Args:
        stem: The data file is `eval_<stem>.jsonl`.
        title: Heading.
        explanation: What query and candidates are.
        count: Queries shown: the first rows of the file.
        per_subset: Show the first row of each subset instead of the first rows.
    """

    stem: str
    title: str
    explanation: str
    count: int = 4
    per_subset: bool = False


SECTIONS = (
    Section("classification", "Classification", "Which object matters most in the picture? Candidates are names."),
    Section("vqa", "Visual question answering", "Picture and question are the query; candidates are answers."),
    Section("retrieval_t2i", "Retrieval: caption → picture", "Some wrong pictures differ in one object only.", 2),
    Section("retrieval_i2t", "Retrieval: picture → caption", "Some wrong captions differ in one word only.", 2),
    Section(
        "retrieval_composed",
        "Retrieval: picture + change → picture",
        "The wanted picture is the one shown, after the change; the unchanged one is a candidate too.",
        2,
    ),
    Section("grounding", "Grounding", "Which cut-out shows the object meant? Some come from the same picture."),
    Section(
        "compositional",
        "Compositional",
        "Two captions of the same words or nearly so; only one is true of the picture.",
        per_subset=True,
    ),
)


@dataclass(frozen=True)
class Query:
    """A query with its candidates.

    Args:
        query: What is asked.
        candidates: Candidates of different content, the right one first.
    """

    query: Example
    candidates: list[Example]

    @property
    def examples(self) -> list[Example]:
        """Query and candidates."""
        return [self.query, *self.candidates]


def load_queries(data: Path, section: Section) -> list[Query]:
    """The queries of a section in the order of the file, through the same reader as the evaluation."""
    task = load_task(data / f"eval_{section.stem}.jsonl", limit=None if section.per_subset else section.count)
    rows = range(len(task.queries))
    if section.per_subset:
        rows = [task.labels.index(subset) for subset in dict.fromkeys(task.labels)]
    queries = []
    for row in rows:
        query, *candidates = (task.index.examples[number] for number in (task.queries[row], *task.candidates[row]))
        queries.append(Query(query, list(dict.fromkeys(candidates))))
    return queries


@dataclass(frozen=True)
class Ranking:
    """How a model orders the candidates of a query.

    Args:
        order: Candidate numbers, best first; the right one is number 0 and comes last among equals.
        scores: (C,) cosine of each candidate.
        rank: Place of the right one, from 1.
    """

    order: list[int]
    scores: np.ndarray
    rank: int


def rank_candidates(vectors: np.ndarray) -> Ranking:
    """Order the candidates of a query by the evaluation's tie rule, given (1 + C, D) vectors, the query and the right one first."""
    scores = Similarities(vectors).scores(0, np.arange(1, len(vectors)))  # (C,)
    order = sorted(range(len(scores)), key=lambda number: (-scores[number], number == 0, number))
    return Ranking(order, scores, int(right_ranks(scores, [0])[0]))


def picture(image: Image.Image, name: str) -> str:
    """An `<img>` that holds its bytes, `name` for screen readers."""
    return f'<img src="{data_url(image, optimize=True)}" alt="{escape(name)}">'


def gallery_section(sections: Sequence[tuple[Section, list[Query]]], vectors: dict[str, list[np.ndarray]]) -> str:
    """All sections; of each model the (1 + C, D) vectors of every query, over the sections in order."""
    parts = []
    number = 0
    for section, queries in sections:
        cards = []
        for query in queries:
            rankings = {name: rank_candidates(rows[number]) for name, rows in vectors.items()}
            cards.append(_card(query, rankings))
            number += 1
        parts.append(
            f'<h3>{escape(section.title)}</h3><p>{escape(section.explanation)}</p><div class="cards">'
            f"{''.join(cards)}</div>"
        )
    return "".join(parts)


def _card(query: Query, rankings: dict[str, Ranking]) -> str:
    shown = picture(query.query.open(), "picture of the query") if query.query.image else ""
    text = readable(query.query.text)
    rows = "".join(_ranking(name, ranking, query) for name, ranking in rankings.items())
    return (
        f'<article class="card"><div class="query">{shown}<p><small>query</small><br>{escape(text)}</p></div>'
        f"{rows}</article>"
    )


def _ranking(name: str, ranking: Ranking, query: Query) -> str:
    verdict = "right" if ranking.rank == 1 else "wrong"
    mark = "✓ right one first" if ranking.rank == 1 else f"✗ right one at place {ranking.rank}"
    hits = "".join(
        _hit(place, number, float(ranking.scores[number]), query)
        for place, number in enumerate(ranking.order[:TOP], start=1)
    )
    kind = "pictures" if query.candidates[0].image else "texts"
    return (
        f'<h4>{escape(name)} <span class="{verdict}">{mark} of {len(query.candidates)}</span></h4>'
        f'<ol class="hits {kind}">{hits}</ol>'
    )


def _hit(place: int, number: int, score: float, query: Query) -> str:
    candidate = query.candidates[number]
    state, mark = ("right", "✓ ") if number == 0 else ("wrong", "✗ ") if place == 1 else ("other", "")
    if candidate.image:
        shown = picture(candidate.open(), f"candidate at place {place}")
    else:
        shown = f"<span>{escape(readable(candidate.text))}</span>"
    return f'<li class="{state}">{shown}<small>{mark}{cosine(score)}</small></li>'
