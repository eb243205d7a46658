# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The result table and the numbers at the head of the report, all from results.json through `evaluation`'s means."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from evaluation.charts import Bar, bars
from evaluation.kinds import KINDS
from evaluation.report import Result, count_sets, percent, summarise
from examples.demo.report_charts import seconds
from examples.demo.report_data import BASELINES, COLOURS, MODELS, Demo, ReportError

KIND_TITLES = {
    "classification": "Classification",
    "vqa": "Visual question answering",
    "retrieval": "Retrieval",
    "grounding": "Grounding",
}
SET_TITLES = {
    "retrieval_t2i": "caption → picture",
    "retrieval_i2t": "picture → caption",
    "retrieval_composed": "picture + change → picture",
    "sts_eval": "sentence pairs",
}
SUBSET_TITLES = {
    "swap_att": "attributes swapped",
    "swap_obj": "objects swapped",
    "replace_rel": "relation replaced",
    "add_obj": "object added",
}


@dataclass(frozen=True)
class Measure:
    """One row of the table.

    Args:
        title: What was measured.
        chance: What a random model gets.
        values: Key of `MODELS` to a fraction or a correlation.
        rows: Data rows behind it; `None` for a mean.
        level: "mean" (of a group), "total" or "set" (a member of a group).
    """

    title: str
    chance: float
    values: dict[str, float]
    rows: int | None = None
    level: str = "set"


class Scores:
    """All measures of a demo.

    Args:
        demo: The demo.
    """

    def __init__(self, demo: Demo):
        self._results = {key: demo.data_sets(key) for key in MODELS}
        self._summaries = {key: summarise(self._results[key].values()) for key in MODELS}
        self._base = list(self._results["base"].values())
        if "mmeb" not in self._summaries["base"] or not self._of_form("sts"):
            raise ReportError(
                f"{demo.folder / 'results'}: results of the task kinds and of text similarity are needed"
            )
        if len(self._of_form("sugarcrepe")) != 1:
            raise ReportError(f"{demo.folder / 'results'}: results of one compositional set are needed")
        self.kinds = {kind: self._kind_mean(kind) for kind in KINDS if kind in self._summaries["base"]["mmeb"]}
        self.kinds_mean = Measure(
            f"Mean of the {len(self.kinds)} kinds",
            float(np.mean([mean.chance for mean in self.kinds.values()])),
            {key: float(np.mean([mean.values[key] for mean in self.kinds.values()])) for key in MODELS},
            level="total",
        )
        self.compositional = self._single(self._of_form("sugarcrepe")[0], "accuracy", "All rows", "mean")
        self.similarity = self._from_summaries(
            "Text similarity", lambda summary: summary["sts"], "spearman", level="mean"
        )

    def _of_form(self, form: str) -> list[Result]:
        return [result for result in self._base if result["form"] == form]

    def _single(self, result: Result, metric: str, title: str, level: str = "set") -> Measure:
        values = {key: self._results[key][result["name"]]["metrics"][metric] for key in MODELS}
        return Measure(title, result["chance"][metric], values, result["rows"], level)

    def _from_summaries(
        self, title: str, choose: Callable[[dict[str, Any]], dict[str, Any]], metric: str, level: str
    ) -> Measure:
        values = {key: choose(self._summaries[key])["metrics"][metric] for key in MODELS}
        return Measure(title, choose(self._summaries["base"])["chance"][metric], values, level=level)

    def _kind_mean(self, kind: str) -> Measure:
        return self._from_summaries(KIND_TITLES[kind], lambda summary: summary["mmeb"][kind], "precision@1", "mean")

    @property
    def groups(self) -> list[tuple[str, list[Measure]]]:
        """Rows of the table by heading."""
        return [self._kinds_group(), self._compositional_group(), self._similarity_group()]

    def _kinds_group(self) -> tuple[str, list[Measure]]:
        rows = []
        for kind, mean in self.kinds.items():
            members = [result for result in self._of_form("mmeb") if result["kind"] == kind]
            if len(members) == 1:
                rows.append(self._single(members[0], "precision@1", mean.title, "mean"))
                continue
            title = f"{mean.title}, mean of {count_sets(len(members))}"
            rows.append(Measure(title, mean.chance, mean.values, level="mean"))
            rows += [self._single(result, "precision@1", _set_title(result["name"])) for result in members]
        every = self._from_summaries(
            f"Mean of all {count_sets(len(self._of_form('mmeb')))}",
            lambda summary: summary["mmeb"]["overall"],
            "precision@1",
            "mean",
        )
        return "Task kinds: is the right candidate ranked first? (precision@1, %)", [*rows, self.kinds_mean, every]

    def _compositional_group(self) -> tuple[str, list[Measure]]:
        result = self._of_form("sugarcrepe")[0]
        rows = [self.compositional]
        for subset, entry in result["subsets"].items():
            values = {key: self._results[key][result["name"]]["subsets"][subset]["accuracy"] for key in MODELS}
            title = SUBSET_TITLES.get(subset, subset)
            rows.append(Measure(title, result["chance"]["accuracy"], values, entry["rows"]))
        return "Compositional: true caption above the one with one thing changed? (accuracy, %)", rows

    def _similarity_group(self) -> tuple[str, list[Measure]]:
        members = self._of_form("sts")
        rows = [self._single(result, "spearman", _set_title(result["name"]), "mean") for result in members]
        return "Text similarity: agreement with the known scores (Spearman’s correlation × 100)", rows

    @property
    def smallest(self) -> int:
        """Least number of rows behind a percentage of the table that is no mean."""
        return min(measure.rows for _, rows in self.groups[:2] for measure in rows if measure.rows is not None)


def _set_title(name: str) -> str:
    stem = name.rpartition("/")[2]
    return SET_TITLES.get(stem, stem)


def headline_tiles(scores: Scores) -> str:
    """The three comparisons that the demo is about, each with the best of the models that do without what is shown.

    Args:
        scores: The measures.

    Returns:
        HTML.
    """
    kinds = f"{len(scores.kinds)} task kinds, mean precision@1"
    tiles = (
        (kinds, scores.kinds_mean, "unime", " %"),
        ("Compositional set, accuracy", scores.compositional, "unime", " %"),
        ("Text similarity, Spearman × 100", scores.similarity, "stage1", ""),
    )
    return f'<div class="tiles">{"".join(_tile(*tile) for tile in tiles)}</div>'


def best_baseline(measure: Measure) -> str:
    """The better of the models that UniME is compared with, a key of `MODELS`."""
    return max(BASELINES, key=lambda key: measure.values[key])


def _tile(title: str, measure: Measure, after: str, unit: str) -> str:
    before = best_baseline(measure)
    points = 100 * (measure.values[after] - measure.values[before])
    sign = "+" if points >= 0 else "−"
    return (
        f'<div class="tile"><h3>{escape(title)}</h3>'
        f'<p class="big">{percent(measure.values[after])}{unit} '
        f'<small class="{"up" if points >= 0 else "down"}">{sign}{abs(points):.1f} points</small></p>'
        f"<p>{escape(MODELS[after])}, against {percent(measure.values[before])}{unit} of "
        f"{escape(MODELS[before])}; chance {percent(measure.chance)}{unit}</p></div>"
    )


def bar_panels(scores: Scores) -> str:
    """One small bar chart per kind of task.

    Args:
        scores: The measures.

    Returns:
        HTML.
    """
    panels = [(mean.title, "precision@1, %", mean) for mean in scores.kinds.values()]
    panels += [
        ("Compositional", "accuracy, %", scores.compositional),
        ("Text similarity", "Spearman × 100", scores.similarity),
    ]
    parts = []
    for title, metric, measure in panels:
        mark = measure.chance if measure.chance > 0 else None
        entries = [
            Bar(MODELS[key], value, percent(value), COLOURS[key], mark=mark) for key, value in measure.values.items()
        ]
        chart = bars(entries, 1.0, f"chance: {percent(measure.chance)}")
        parts.append(f'<div class="panel"><h3>{escape(title)} <small>{escape(metric)}</small></h3>{chart}</div>')
    return f'<div class="panels">{"".join(parts)}</div>'


def result_table(scores: Scores) -> str:
    """The table: task sets and means as rows, models as columns, the best value of a row bold.

    Args:
        scores: The measures.

    Returns:
        HTML.
    """
    names = "".join(f'<th scope="col" class="{key}">{escape(name)}</th>' for key, name in MODELS.items())
    body = []
    for heading, measures in scores.groups:
        body.append(f'<tr class="group"><th colspan="{3 + len(MODELS)}"><span>{escape(heading)}</span></th></tr>')
        body += map(_table_row, measures)
    return (
        '<div class="scroll" tabindex="0"><table class="results"><thead><tr><th scope="col">task set</th><th scope="col">rows</th>'
        f'<th scope="col">chance</th>{names}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _table_row(measure: Measure) -> str:
    shown = {key: percent(value) for key, value in measure.values.items()}
    best = percent(max(measure.values.values()))  # what looks the same is bold alike
    cells = "".join(
        f'<td class="{key}">{f"<b>{text}</b>" if text == best else text}</td>' for key, text in shown.items()
    )
    rows = "" if measure.rows is None else f"{measure.rows}"
    return (
        f'<tr class="{measure.level}"><th scope="row">{escape(measure.title)}</th><td>{rows}</td>'
        f"<td>{percent(measure.chance)}</td>{cells}</tr>"
    )


def table_notes(demo: Demo, scores: Scores) -> str:
    """What stands under the table: rules, uncertainty, seed, hardware, time.

    Args:
        demo: The demo.
        scores: The measures.

    Returns:
        HTML.
    """
    error = 100 * math.sqrt(0.25 / scores.smallest)
    times = ", ".join(f"{name} {seconds(demo.results[key]['wall_seconds'])}" for key, name in MODELS.items())
    facts = (
        f"Seed {demo.summary['seed']}, runs = 1, size “{demo.summary['size']}”. "
        f"Hardware: {demo.hardware}. The whole demo took {seconds(demo.summary['total_seconds'])}; "
        f"evaluation alone: {times}."
    )
    rules = (
        "Bold is the best of a row; a tie with the right candidate counts as wrong; means are unweighted. One run "
        f"and few rows: a score near 50 % of {scores.smallest} rows has a standard error of {error:.1f} points, so "
        "small differences mean nothing."
    )
    return f'<p class="note">{escape(rules)}</p><p class="note">{escape(facts)}</p>'
