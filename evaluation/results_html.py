# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""One or several runs as one HTML page that needs nothing else: `results.html` of a run, `unime table --html`.

What the page shows is chosen here, how it looks stands in `templates/results.html`, which escapes all that it is given.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from evaluation.averages import Result
from evaluation.comparison import PUBLISHED_NOTE, TITLES, Table, not_compared, paired_differences, published_tables
from evaluation.kinds import KINDS
from evaluation.pictures import data_url, is_small_copy, readable
from evaluation.published import SPLITS, published
from evaluation.report import FORM_TITLES, describe_run, metric_title, order_of, percent
from evaluation.runs import Run, TableError

COLOURS = 6  # of runs, in the template
OUTLINES = (
    ("CLIP ViT-L", "zero-shot"),
    ("VLM2Vec (LLaVA-1.6, 336 px)", "fine-tuned"),
    ("UniME (LLaVA-1.6)", "both stages"),
)


class Figure(NamedTuple):
    """One figure of one run: its run and colour, its value and that of chance, its interval, and whether it is complete."""

    run: Run
    colour: str
    value: float
    chance: float
    interval: Sequence[float] | None
    complete: bool


class Row(NamedTuple):
    """One figure of all runs; a run that lacks it has None in its place."""

    group: str
    name: str
    metric: str
    extent: str
    figures: list[Figure | None]


def colour_of(number: int) -> str:
    """The CSS colour of a run by its place among the runs."""
    return f"var(--run{number % COLOURS})"


def minus(text: Any) -> str:
    """A number in words with a true minus sign."""
    return str(text).replace("-", "−")


def corner(axis: int, axes: int, value: float) -> tuple[float, float]:
    """Where a value lies on one of the axes of the radar, the centre 0 and the rim 1."""
    angle = 2 * math.pi * axis / axes
    return round(210 + 100 * value * math.sin(angle), 1), round(132 - 100 * value * math.cos(angle), 1)


def outline(values: Sequence[float]) -> str:
    """The SVG path around a value on each axis of the radar."""
    corners = (corner(axis, len(values), min(max(value, 0.0), 1.0)) for axis, value in enumerate(values))
    return "M" + "L".join(f"{x} {y}" for x, y in corners) + "Z"


def portion(value: float, full: float = 1.0) -> str:
    """How much of a bar a value takes."""
    return f"{100 * min(max(value / full if full else 0.0, 0.0), 1.0):.2f}%"


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters |= {
    "percent": lambda value: minus(percent(value)),
    "metric": metric_title,
    "minus": minus,
    "outline": outline,
    "portion": portion,
    "readable": readable,
    "describe": lambda run: describe_run(run.content),
    "data_url": data_url,
    "breakable": lambda name: escape(name).replace("/", Markup("/<wbr>")),
}
TEMPLATES.globals |= {"corner": corner, "is_small_copy": is_small_copy, "colour_of": colour_of}


def results_html(
    runs: Sequence[Run], title: str = "", lead: str = "", more: Sequence[tuple[str, str, str]] = (), style: str = ""
) -> str:
    """The page of one run, or of several side by side; the first is the one that the others are compared with.

    Args:
        runs: the runs.
        title: default: of the model, or how many runs.
        lead: text before the figures.
        more: anchor, heading and HTML of sections behind those of the results.
        style: CSS that these need.
    """
    sets, means = rows_of(runs, [_set_lines(run) for run in runs]), rows_of(runs, [run.means for run in runs], True)
    forms = dict.fromkeys(row.group.partition(":")[0] for row in sets)
    over_all = {line["name"] for run in runs for line in run.means if line["over_all"]}
    tiles = []
    for form in forms:
        chosen = [row for row in means if row.group == form and row.name in over_all]
        tiles += chosen or [row for row in sets if row.group.partition(":")[0] == form][:4]
    return TEMPLATES.get_template("results.html").render(
        title=title
        or (f"Evaluation of {runs[0].label}" if len(runs) == 1 else f"{len(runs)} evaluations side by side"),
        lead=lead,
        style=Markup(style),
        runs=runs,
        tiles=tiles,
        differences=_differences(runs),
        sets=panels(sets),
        means=panels(means),
        radar_content=_radar(runs),
        tables=published_tables(runs),
        published_note=PUBLISHED_NOTE,
        not_compared=list(dict.fromkeys(sentence for run in runs for sentence in not_compared(run))),
        names=list(dict.fromkeys(name for run in runs for name in run.results)),
        everything=_every_number(runs),
        more=[(anchor, heading, Markup(content)) for anchor, heading, content in more],
    )


def _set_lines(run: Run) -> list[Result]:
    lines = []
    for result in sorted(run.results.values(), key=order_of):
        kind = result.get("kind", result["form"])
        group = FORM_TITLES[result["form"]] + (f": {kind}" if kind != result["form"] else "")
        metrics = {metric: result["metrics"][metric] for metric in result["headline"]}
        lines.append({**result, "group": group, "metrics": metrics, "extent": f"{result['rows']} rows"})
    return lines


def rows_of(runs: Sequence[Run], lines: Sequence[Sequence[Result]], means: bool = False) -> list[Row]:
    """The figures of data sets or of means, each with its place for every run."""
    rows: dict[tuple[str, str, str], Row] = {}
    for number, (run, own) in enumerate(zip(runs, lines, strict=True)):
        for line in own:
            for metric, value in line["metrics"].items():
                group = FORM_TITLES[line["form"]] if means else line["group"]
                row = Row(group, line["name"], metric, line["extent"], [None] * len(runs))
                row = rows.setdefault(row[:3], row)
                span, chance = line.get("intervals", {}).get(metric), line["chance"][metric]
                row.figures[number] = Figure(run, colour_of(number), value, chance, span, line.get("complete", True))
    return list(rows.values())


def panels(rows: Sequence[Row]) -> dict[str, list[tuple[str, Figure]]]:
    """Bars by heading: of one run a panel for each group of figures, of several a panel for each figure."""
    found: dict[str, list[tuple[str, Figure]]] = {}
    for row in rows:
        shown, alone = metric_title(row.metric), {other.metric for other in rows if other.group == row.group}
        for figure in filter(None, row.figures):
            if len(row.figures) > 1:
                title, label = f"{row.name}, {shown}", figure.run.label
            elif len(alone) > 1:
                title, label = row.group, f"{row.name}, {shown}"
            else:
                title, label = f"{row.group}, {shown}", row.name
            found.setdefault(title, []).append((label.removeprefix("mean: "), figure))
    return found


def _differences(runs: Sequence[Run]) -> dict[tuple[str, str, str], list[float]]:
    """The interval of each run's figure less that of the first, by label, name and metric, where the rows are there."""
    found = {}
    for run in runs[1:]:
        try:
            for entry in paired_differences(run, runs[0]):
                found[run.label, entry["figure"], entry["metric"]] = entry["interval"]
        except TableError:
            continue
    return found


def _radar(runs: Sequence[Run]) -> dict[str, Any] | None:
    """Means by task and split of what is in MMEB's form, of the whole suite beside published rows."""
    by_run = [_task_means(run) for run in runs]
    axes = [name for name in (*KINDS, *SPLITS) if all(name in means for means, _ in by_run)]
    if len(axes) < 3:
        return None
    whole = [complete for _, complete in by_run]
    outlines = [
        {"name": run.label, "colour": colour_of(number), "points": [means[name] for name in axes]}
        for number, (run, (means, complete)) in enumerate(zip(runs, by_run, strict=True))
        if complete or not any(whole)
    ]
    note = "Published rows are drawn for a run of all 36 sets of MMEB, whole and without failures; these means are of other sets."
    if any(whole):
        rows = (row for row in published()["mmeb"] if (row["model"], row["training"]) in OUTLINES)
        for number, row in enumerate(rows, start=3):
            points = [row[SPLITS.get(name, name)] / 100 for name in axes]
            name = f"{row['model']}, {row['training']} ({row['source']})"
            outlines.append({"name": name, "colour": colour_of(number), "points": points, "dashed": True})
        note = "Dashed: published rows. An axis is a mean over the data sets of a task, so none depends on which average a paper prints."
        note += "" if all(whole) else " Runs that lack some are left out."
    return {"axes": [TITLES.get(name, name) for name in axes], "outlines": outlines, "note": note}


def _task_means(run: Run) -> tuple[dict[str, float], bool]:
    """Precision@1 by task and split, and whether it is that of the whole suite `mmeb`."""
    suites = run.content["summary"].get("suites", {})
    for name in sorted(suites, key=lambda name: name != "mmeb"):
        averages = [average for average in suites[name]["averages"] if "precision@1" in average["metrics"]]
        if averages:
            means = {average["name"]: average["metrics"]["precision@1"] for average in averages}
            return means, name == "mmeb" and suites[name]["complete"]
    alone = run.content["summary"].get("mmeb", {})
    return {name: mean["metrics"]["precision@1"] for name, mean in alone.items()}, False


def _every_number(runs: Sequence[Run]) -> Table:
    numbers = [dict(_numbers(run.content["summary"], "summary")) for run in runs]
    for own, run in zip(numbers, runs, strict=True):
        for name, result in run.results.items():
            own |= _numbers({key: value for key, value in result.items() if key != "cosines"}, name)
    paths = dict.fromkeys(path for own in numbers for path in own)
    rows = [[path, *(f"{own[path]:.6g}" if path in own else "–" for own in numbers)] for path in paths]
    return Table(f"Every number of the results ({len(rows)})", ["figure", *(run.label for run in runs)], rows, 1)


def _numbers(content: Any, path: str) -> Iterator[tuple[str, float]]:
    """Every number below, by the names on the way to it."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _numbers(value, f"{path}, {name}")
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield path, content
