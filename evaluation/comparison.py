# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Figures beside those of others: what papers print, and paired differences to a run of one's own on the same rows."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from evaluation.averages import average_draws, groups_of, mean_title, shared_headline, suites_of
from evaluation.intervals import interval
from evaluation.published import RETRIEVAL, SPLITS, by_data_set, mean_of_data_sets, mean_of_meta_tasks, published
from evaluation.report import TableError, markdown_table, metric_title, read_report
from evaluation.row_values import draw, read_values, rows_file
from evaluation.suites import Benchmark, Suite

MEANS = {"mean of the 36 data sets": mean_of_data_sets, "mean of the 4 meta-tasks": mean_of_meta_tasks}


def with_published(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Each figure that a paper prints and this run has on all rows: what it is, theirs, ours and the difference, x 100."""
    found = []

    def add(suite: str, figure: str, metric: str, row: dict[str, Any], theirs: float | None, ours: float) -> None:
        if theirs is not None:
            entry = {"suite": suite, "figure": figure, "metric": metric, "model": row["model"]}
            entry |= {"training": row["training"], "source": row["source"], "published": round(theirs, 1)}
            found.append(entry | {"ours": round(100 * ours, 1), "difference": round(100 * ours - theirs, 1)})

    table, rows = published()["mmeb_by_data_set"], published()["retrieval"]
    for result in report["data_sets"]:
        if "failed" in result or "partial" in result or "suite" not in result:
            continue
        suite, name = result["suite"], result["name"].removeprefix(f"{result['suite']}/")
        if suite == "mmeb":
            for model in table["models"]:
                row = {"model": model, "training": table["training"][model], "source": table["source"]}
                add(suite, name, "precision@1", row, by_data_set(model)[name], result["metrics"]["precision@1"])
        elif suite == "retrieval":
            for way in ("t2i", "i2t"):
                for row in rows:
                    key = f"{RETRIEVAL[name.lower()]}_{way}"
                    add(suite, name, f"{way}_recall@1", row, row.get(key), result["metrics"][f"{way}_recall@1"])
    for suite, content in report["summary"].get("suites", {}).items():
        for average in (average for average in content["averages"] if average["complete"]):
            name = average["name"]
            if suite == "mmeb":
                for row in published()["mmeb"]:
                    theirs = MEANS[name](row) if name in MEANS else row.get(SPLITS.get(name, name))
                    add(suite, name, "precision@1", row, theirs, average["metrics"]["precision@1"])
            elif suite == "sugarcrepe":
                for row in rows:
                    add(suite, name, "accuracy", row, row.get(name), average["metrics"]["accuracy"])
    return found


def published_page(report: dict[str, Any], entries: list[dict[str, Any]]) -> str:
    """The comparison with published figures, see `with_published`, in Markdown."""
    parts = ["## Beside published figures\n", "Differences are ours minus theirs, x 100.\n"]
    for suite in report["summary"].get("suites", {}):
        own = [entry for entry in entries if entry["suite"] == suite]
        models = list(dict.fromkeys((entry["model"], entry["training"], entry["source"]) for entry in own))
        figures = list(dict.fromkeys((entry["figure"], entry["metric"], entry["ours"]) for entry in own))
        cells = {
            (entry["figure"], entry["metric"], entry["model"], entry["training"], entry["source"]): entry
            for entry in own
        }
        lines = []
        for figure, metric, ours in figures:
            line = [figure, metric_title(metric), f"{ours:.1f}"]
            for model in models:
                entry = cells.get((figure, metric, *model))
                line.append(f"{entry['published']:.1f} ({entry['difference']:+.1f})" if entry else "")
            lines.append(line)
        if lines:
            header = [
                "figure",
                "metric",
                "ours",
                *(f"{model}, {training}; {source}" for model, training, source in models),
            ]
            parts.append(markdown_table(header, lines, text_columns=2))
        incomplete = [a["name"] for a in report["summary"]["suites"][suite]["averages"] if not a["complete"]]
        if incomplete:
            parts.append(f"{suite}: incomplete and therefore not compared: {', '.join(incomplete)}.\n")
    if any(entry["suite"] == "mmeb" for entry in entries):
        words = [
            f"{row['model']}, {row['training']} ({row['source']}): {row['overall']} is the mean of the {row['overall_is']}"
            for row in published()["mmeb"]
        ]
        parts.append("What the papers print as overall: " + "; ".join(words) + ". Both means above are computed.\n")
    return "\n".join(parts)


class DrawnRun(NamedTuple):
    """A results.json, and by data set and metric its resampled figures."""

    path: str | Path
    report: dict[str, Any]
    draws: dict[str, dict[str, np.ndarray]]


def read_run(path: str | Path) -> DrawnRun:
    """A results.json and the resampled figures of its data sets, from the rows beside it."""
    run = read_report(path)
    names = [result["name"] for result in run["data_sets"] if "failed" not in result]
    values = {name: read_values(rows_file(Path(path).parent, name)) for name in names}
    if lacking := next((name for name, rows in values.items() if rows is None), None):
        raise TableError(f"{path}: rows/{lacking}.json is not beside it; evaluate again to have it written")
    return DrawnRun(path, run, {name: draw(name, rows) for name, rows in values.items()})


def paired_differences(first: DrawnRun, second: DrawnRun) -> list[dict[str, Any]]:
    """What the first run has more than the second, x 100, with 95 % intervals: of each set and of averages that are whole."""
    results, others = (
        {result["name"]: result for result in run.report["data_sets"] if "failed" not in result}
        for run in (first, second)
    )
    shared = [name for name in results if name in others]
    for name in shared:
        if any(results[name][key] != others[name][key] for key in ("form", "rows", "chance")):
            raise TableError(
                f"{name}: {first.path} and {second.path} measured it on different rows; evaluate both on the same"
            )
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
    for suite in _all_suites(first.report["data_sets"]):
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


def paired_page(entries: list[dict[str, Any]], label: str, other_label: str) -> str:
    """The paired differences of two runs, see `paired_differences`, in Markdown."""
    lines = [[e["figure"], metric_title(e["metric"]), in_words(e)] for e in entries]
    title = f"## {label} against {other_label}\n\nThe same rows are resampled for both.\n"
    return title + "\n" + markdown_table(["figure", "metric", "difference"], lines, text_columns=3)
