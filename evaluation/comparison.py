# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Figures beside those of others: what papers print, and paired differences to a run of one's own on the same rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from evaluation.averages import Result, average_draws, groups_of, mean_title, shared_headline, suites_of
from evaluation.intervals import interval
from evaluation.published import RETRIEVAL, SPLITS, by_data_set, mean_of_data_sets, mean_of_meta_tasks, published
from evaluation.report import ABSENT, markdown_table, metric_title
from evaluation.row_values import rows_file
from evaluation.runs import Run, TableError, check_comparable
from evaluation.suites import Benchmark, Suite

PUBLISHED_NOTE = (
    "Figures that papers print, and in brackets ours minus theirs, x 100. A paper prints one of two averages as its overall: "
    "it is marked, the other is computed from its tasks. Only figures of one column may be compared."
)
TITLES = {"vqa": "VQA", "in-distribution": "IND", "out-of-distribution": "OOD"}
MEANS = {"mean of the 36 data sets": mean_of_data_sets, "mean of the 4 meta-tasks": mean_of_meta_tasks}


def with_published(run: Run) -> list[dict[str, Any]]:
    """Each figure that a paper prints and this run has on all rows: what it is, theirs, ours and the difference, x 100."""
    found = []

    def add(suite: str, figure: str, metric: str, row: dict[str, Any], theirs: float | None, line: Result) -> None:
        if theirs is not None:
            ours = 100 * line["metrics"][metric]
            entry = {"suite": suite, "figure": figure, "metric": metric, "model": row["model"]}
            entry |= {name: row[name] for name in ("size", "training", "source") if name in row}
            entry |= {"published": round(theirs, 1), "ours": round(ours, 1), "difference": round(ours - theirs, 1)}
            if figure == f"mean of the {row.get('overall_is')}":
                entry["printed"] = row["overall"]  # of parts that are not rounded
            found.append(entry)

    table, rows = published()["mmeb_by_data_set"], published()["retrieval"]
    for result in run.results.values():
        suite, name = result.get("suite"), result["name"].rpartition("/")[2]
        if suite == "mmeb" and "partial" not in result:
            for model in table["models"]:
                row = {"model": model, "training": table["training"][model], "source": table["source"]}
                add(suite, name, "precision@1", row, by_data_set(model).get(name), result)
        elif suite == "retrieval" and "partial" not in result:
            for way in ("t2i", "i2t"):
                for row in rows:
                    add(suite, name, f"{way}_recall@1", row, row.get(f"{RETRIEVAL.get(name.lower())}_{way}"), result)
    for suite, content in run.content["summary"].get("suites", {}).items():
        for average in (average for average in content["averages"] if average["complete"]):
            name = average["name"]
            if suite == "mmeb":
                for row in published()["mmeb"]:
                    theirs = MEANS[name](row) if name in MEANS else row.get(SPLITS.get(name, name))
                    add(suite, name, "precision@1", row, theirs, average)
            elif suite == "sugarcrepe":
                for row in rows:
                    add(suite, name, "accuracy", row, row.get(name), average)
    return found


class Table(NamedTuple):
    """A table of words: what it shows, its header, and rows whose first columns, as many as `names`, are no figures."""

    title: str
    header: list[str]
    rows: list[list[str]]
    names: int


def published_tables(runs: Sequence[Run]) -> list[Table]:
    """`with_published` as tables: MMEB set by set with models side by side, else models below each other."""
    own = [with_published(run) for run in runs]
    every = [entry for entries in own for entry in entries]
    known = published()["mmeb_by_data_set"]["data_sets"]
    tables = []
    suites = list(dict.fromkeys(entry["suite"] for entry in every))
    kinds = {(suites.index(entry["suite"]), entry["figure"] in known) for entry in every}
    for place, by_set in sorted(kinds):
        suite = suites[place]
        chosen = [entry for entry in every if (entry["suite"], entry["figure"] in known) == (suite, by_set)]
        figures = list(dict.fromkeys((entry["figure"], entry["metric"]) for entry in chosen))
        cells = {("this run", run.label, ""): _ours(entries, suite) for run, entries in zip(runs, own, strict=True)}
        for entry in chosen:
            notes = [f"{entry['difference']:+.1f}"] if len(runs) == 1 else []
            notes += [f"printed {entry['printed']}"] if "printed" in entry else []
            model = ", ".join(part for part in (entry["model"], entry.get("size")) if part)
            column = cells.setdefault((entry["training"], model, entry["source"]), {})
            words = f" ({'; '.join(notes)})" if notes else ""
            column[entry["figure"], entry["metric"]] = f"{entry['published']:.1f}{words}"
        if by_set:
            header = ["data set", *(f"{model}, {training}" for training, model, _ in cells)]
            rows = [[figure[0], *(cells[model].get(figure, ABSENT) for model in cells)] for figure in figures]
            tables.append(Table(f"{suite}, set by set ({chosen[0]['source']})", header, rows, 1))
        else:
            ways = len({figure for figure, _ in figures}) < len(figures)
            names = [
                f"{figure}, {metric_title(metric)}" if ways else TITLES.get(figure, figure)
                for figure, metric in figures
            ]
            rows = [
                [model, training, *(figures_of.get(figure, ABSENT) for figure in figures), source]
                for (training, model, source), figures_of in cells.items()
            ]
            tables.append(Table(suite, ["model", "training", *names, "source"], rows, 2))
    return tables


def _ours(entries: Sequence[dict[str, Any]], suite: str) -> dict[tuple[str, str], str]:
    return {(e["figure"], e["metric"]): f"{e['ours']:.1f}" for e in entries if e["suite"] == suite}


def not_compared(run: Run) -> list[str]:
    """For each suite, which of its averages are incomplete, as a sentence."""
    sentences = []
    for suite, content in run.content["summary"].get("suites", {}).items():
        if names := [average["name"] for average in content["averages"] if not average["complete"]]:
            sentences.append(f"{suite}: incomplete and therefore not compared: {', '.join(names)}.")
    return sentences


def published_page(run: Run) -> str:
    """The comparison with published figures in Markdown."""
    parts = ["## Beside published figures\n", f"{PUBLISHED_NOTE}\n"]
    for table in published_tables([run]):
        parts += [f"### {table.title}\n", markdown_table(table.header, table.rows, text_columns=table.names)]
    return "\n".join([*parts, *(f"{sentence}\n" for sentence in not_compared(run))])


def paired_differences(first: Run, second: Run) -> list[dict[str, Any]]:
    """What the first run has more than the second, x 100, with 95 % intervals: of each set and of averages that are whole."""
    check_comparable([first, second])
    for run in (first, second):
        if lacking := next((name for name in run.results if name not in run.draws), None):
            place = run.folder and rows_file(run.folder, lacking)
            raise TableError(f"{run.label}: {place} cannot be read; evaluate again to have it written")
    results, others = first.results, second.results
    shared = [name for name in results if name in others]
    found = []

    def add(figure: str, metric: str, groups: list[list[str]]) -> None:
        mine, theirs = (average_draws(groups, metric, run.draws) for run in (first, second))
        ours, other = (
            np.mean([np.mean([side[n]["metrics"][metric] for n in g]) for g in groups]) for side in (results, others)
        )
        bounds = [100 * bound for bound in interval(mine - theirs)]
        found.append({"figure": figure, "metric": metric, "difference": 100 * float(ours - other), "interval": bounds})

    for name in shared:
        for metric in results[name]["headline"]:
            add(name, metric, [[name]])
    for suite in _all_suites(first.content["data_sets"]):
        for name, names in groups_of(suite).items():
            members = [member for group in names for member in group]
            whole = all(member in shared and "partial" not in results[member] for member in members)
            if whole and len(members) > 1:
                for metric in shared_headline([results[member] for member in members]):
                    add(mean_title(name, suite.name), metric, names)
    return found


def _all_suites(results: list[dict[str, Any]]) -> list[Suite]:
    """The suites of results, and those files of MMEB's form that belong to none as one without a name."""
    files = [result for result in results if "suite" not in result and result.get("form") == "mmeb"]
    sets = tuple(Benchmark("", result["name"], "mmeb", "precision@1", result["kind"]) for result in files)
    return suites_of(results) + ([Suite("", "", sets)] if sets else [])


def in_words(entry: dict[str, Any]) -> str:
    """A difference as a sentence: "better by 1.3 (95 %: 0.4 to 2.2)"."""
    low, high = entry["interval"]
    if low <= 0 <= high:
        return f"no clear difference: {entry['difference']:+.1f} (95 %: {low:.1f} to {high:.1f})"
    if entry["difference"] < 0:
        return f"worse by {-entry['difference']:.1f} (95 %: {-high:.1f} to {-low:.1f})"
    return f"better by {entry['difference']:.1f} (95 %: {low:.1f} to {high:.1f})"


def paired_page(run: Run, other: Run) -> str:
    """The paired differences of two runs in Markdown."""
    lines = [[e["figure"], metric_title(e["metric"]), in_words(e)] for e in paired_differences(run, other)]
    title = f"## {run.label} against {other.label}\n\nThe same rows are resampled for both.\n"
    return title + "\n" + markdown_table(["figure", "metric", "difference"], lines, text_columns=3)
