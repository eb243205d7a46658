# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A results.json with what lies beside it, and its figures with their intervals, as the HTML page shows them."""

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation import published
from evaluation.averages import average_draws, groups_of, mean_title, suites_of
from evaluation.intervals import interval
from evaluation.kinds import bare_name, mmeb_set
from evaluation.report import FORM_TITLES, Result, mean_lines, order_of
from evaluation.row_values import draw, rows_file

COLOURS = 6


class Figure(NamedTuple):
    """A score: its group, name and metric, its value and that of chance, and what else is known of it."""

    group: str
    name: str
    metric: str
    value: float
    chance: float
    extent: str
    interval: Sequence[float] | None = None
    incomplete: bool = False  # a mean over less than its suite

    @property
    def key(self) -> tuple[str, str, str]:
        """What says that two runs measured the same."""
        return self.group, self.name, self.metric


class Run:
    """One results.json, and the rows beside it.

    Args:
        label: Its name on the page.
        content: What the file holds.
        folder: Where it lies, with `rows/` in it. Default: no failures, and no intervals that the file lacks.
        number: Its place among the runs, which gives its colour.
    """

    def __init__(self, label: str, content: dict[str, Any], folder: Path | None = None, number: int = 0):
        self.label = label
        self.content = content
        self.folder = folder
        self.colour = f"var(--run{number % COLOURS})"
        entries = content["data_sets"]
        self.failed = {entry["name"]: str(entry["failed"]) for entry in entries if "failed" in entry}
        done = sorted((entry for entry in entries if "failed" not in entry), key=order_of)
        self.results: dict[str, Result] = {entry["name"]: entry for entry in done}
        self.rows = cache(self._rows)
        self.draws = cache(self._draws)

    def _rows(self, name: str) -> dict[str, Any]:
        """What is kept of each row of a data set; nothing if there is no such file."""
        try:
            content = json.loads(rows_file(self.folder, name).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            return {}
        return content if isinstance(content, dict) else {}

    def _draws(self, name: str, metric: str) -> np.ndarray | None:
        """(draws,) of a data set's figure, or of a suite's mean, under resampling of the rows."""
        if name in self.results:
            return draw(name, self.rows(name).get("values") or {}).get(metric)
        for suite in suites_of(self.content["data_sets"]):
            for average, names in groups_of(suite).items():
                if name == mean_title(average, suite.name):
                    members = {member: self.draws(member, metric) for group in names for member in group}
                    known = {member: {metric: drawn} for member, drawn in members.items() if drawn is not None}
                    return average_draws(names, metric, known)
        return None

    @property
    def sets(self) -> list[Figure]:
        """The headline figures of each data set."""
        figures = []
        for name, result in self.results.items():
            kind = result.get("kind", result["form"])
            title = FORM_TITLES[result["form"]]
            group = title if kind == result["form"] else f"{title}: {kind}"
            for metric in result["headline"]:
                span = result.get("intervals", {}).get(metric)
                if span is None and (draws := self.draws(name, metric)) is not None:
                    span = interval(draws)
                value, chance = result["metrics"][metric], result["chance"][metric]
                figures.append(Figure(group, name, metric, value, chance, f"{result['rows']} rows", span))
        return figures

    @property
    def means(self) -> list[Figure]:
        """The means over data sets."""
        figures = []
        for line in mean_lines(self.content["summary"]):
            incomplete = not line.get("complete", not self.failed)
            for metric, value in line["metrics"].items():
                span = line.get("intervals", {}).get(metric)
                group = FORM_TITLES[line["form"]]
                figures.append(
                    Figure(
                        group, line["name"], metric, value, line["chance"][metric], line["extent"], span, incomplete
                    )
                )
        return figures

    @property
    def headline(self) -> list[Figure]:
        """For each form the means over all its data sets; without one, its first data sets."""
        figures = []
        for group in dict.fromkeys(figure.group.partition(":")[0] for figure in self.sets):
            means = [figure for figure in self.means if figure.group == group and "mean: sts" in figure.name]
            means += [
                figure
                for figure in self.means
                if figure.group == group and re.search(r"overall|mean of the \d+", figure.name)
            ]
            figures += means or [figure for figure in self.sets if figure.group.partition(":")[0] == group][:4]
        return figures

    @property
    def mmeb(self) -> list[Result]:
        """The data sets of MMEB's form: of the suite, if there is one, else all."""
        ranked = [result for result in self.results.values() if result["form"] == "mmeb"]
        return [result for result in ranked if result.get("suite") == "mmeb"] or ranked

    @property
    def tasks(self) -> dict[str, float]:
        """Means of MMEB's form by kind, by split, and over all data sets."""
        groups: dict[str, list[float]] = {}
        for result in self.mmeb:
            split = (mmeb_set(result["name"]) or ("", ""))[1]
            for name in (result["kind"], split, "overall"):
                groups.setdefault(name, []).append(result["metrics"]["precision@1"])
        return {name: float(np.mean(values)) for name, values in groups.items()}

    @property
    def by_mmeb_set(self) -> dict[str, float]:
        """Precision@1 of MMEB's sets by their names in small letters."""
        return {bare_name(result["name"].lower()): result["metrics"]["precision@1"] for result in self.mmeb}

    @property
    def whole_mmeb(self) -> bool:
        """Whether these are the 36 sets, each with all its rows, so that published means may stand beside them."""
        names = {name.lower() for name in published.published()["mmeb_by_data_set"]["data_sets"]}
        whole = all(not result.get("partial") and not result["skipped"]["count"] for result in self.mmeb)
        limited = self.content.get("options", {}).get("limit") is not None
        return whole and not limited and len(self.mmeb) == len(names) and self.by_mmeb_set.keys() == names

    @property
    def retrieval(self) -> dict[str, float]:
        """What the table of caption retrieval prints, by its names, as far as it was measured whole."""
        figures = {}
        if self.content.get("options", {}).get("limit") is not None:
            return figures
        for name, result in self.results.items():
            known = published.RETRIEVAL.get(name.lower().rpartition("/")[2])
            if known and result["form"] == "captions" and not result.get("partial"):
                for way in ("t2i", "i2t"):
                    figures[f"{known}_{way}"] = result["metrics"][f"{way}_recall@1"]
        for figure in self.means:
            group = figure.name.rpartition(": ")[2]
            if figure.metric == "accuracy" and group in ("replace", "swap", "add") and not figure.incomplete:
                figures[group] = figure.value
        return figures


def difference(figure: Figure, run: Run, other: Run) -> list[float] | None:
    """The interval of a figure less that of another run, of the same rows drawn together."""
    draws = [one.draws(figure.name, figure.metric) for one in (run, other)]
    if any(drawn is None for drawn in draws):
        return None
    return interval(draws[0] - draws[1])
