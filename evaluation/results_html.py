# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""One or several results.json as one HTML page that needs nothing else: `results.html` of a run, `unime table --html`."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

from evaluation import published
from evaluation.charts import Bar, Series, bars, histogram, legend, radar, readable, thumbnail
from evaluation.figures import Figure, Run, difference
from evaluation.kinds import KINDS
from evaluation.page import page, scrolling
from evaluation.published import SPLITS
from evaluation.report import describe_run, metric_title, percent

MISSES = 4  # shown of a data set
SHOWN = 400  # characters of a text
TITLES = {"vqa": "VQA", "in-distribution": "IND", "out-of-distribution": "OOD"}
OUTLINES = (
    ("CLIP ViT-L", "zero-shot"),
    ("VLM2Vec (LLaVA-1.6, 336 px)", "fine-tuned"),
    ("UniME (LLaVA-1.6)", "both stages"),
)
RIGHT, WRONG = "var(--right)", "var(--wrong)"
STYLE = """
.pair { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 10px; font-size: .86rem; }
.pair > div { border-top: 3px solid var(--line); padding-top: 4px; min-width: 0; overflow-wrap: anywhere; }
.pair .right { border-color: var(--right); } .pair .wrong { border-color: var(--wrong); }
.pair img { display: block; width: 100%; height: 110px; } .pair p { margin: 4px 0; }
.panels { grid-template-columns: repeat(auto-fit, minmax(min(430px, 100%), 1fr)); }
.bars { grid-template-columns: minmax(3em, 36%) minmax(60px, 1fr) max-content; }
tbody th { white-space: nowrap; } td:last-child { white-space: nowrap; }
.wide { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 4fr); gap: 8px 36px; align-items: start; }
.radar { max-width: 560px; } .radar .ring { font-size: 9px; } svg text { font-size: 12px; }
.failed { border-left: 4px solid var(--wrong); padding-left: 12px; }
.tile .run { display: flex; justify-content: space-between; gap: 12px; } .tile .run b { white-space: nowrap; }
.facts { list-style: none; padding: 0; margin: 8px 0; font-size: .92rem; } .radar svg .area { fill-opacity: .1; }
i.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: 6px; }
@media (max-width: 699px) { tbody th { white-space: normal; } .wide { grid-template-columns: minmax(0, 1fr); } .pair img { height: 84px; } }
"""


def results_html(runs: Sequence[Run]) -> str:
    """The page of one run, or of several side by side; the first is the one that the others are compared with."""
    title = f"Evaluation of {runs[0].label}" if len(runs) == 1 else f"{len(runs)} evaluations side by side"
    facts = "".join(
        f'<li><i class="dot" style="background:{run.colour}"></i><b>{escape(run.label)}</b>: '
        f"{escape(describe_run(run.content))}</li>"
        for run in runs
    )
    opening = (
        f'<ul class="facts">{facts}</ul><p class="note">All figures in %. In brackets, and as whiskers, 95 % intervals over the '
        "rows of each data set (bootstrap); dashed is what guessing gives. Means are unweighted over data sets. A tie with the "
        f"right candidate counts as wrong.</p>{_failed(runs)}{_tiles(runs)}"
    )
    sections = [
        ("tasks", "Tasks", _tasks(runs)),
        ("sets", "Data sets", _panels(runs, [run.sets for run in runs])),
        ("published", "Published results", _published(runs)),
        ("cosines", "Right and wrong candidates", _cosines(runs)),
        ("failures", "Hardest failures", _failures(runs)),
        ("figures", "All figures", _all_figures(runs)),
    ]
    return page(title, opening, [section for section in sections if section[2]], STYLE)


def _span(interval: Sequence[float] | None) -> str:
    return "" if interval is None else f" ({percent(interval[0])}–{percent(interval[1])})".replace("-", "−")


def _value(figure: Figure) -> str:
    return percent(figure.value).replace("-", "−")


def _failed(runs: Sequence[Run]) -> str:
    rows = [
        f"<li><b>{escape(name)}</b>{escape(f' ({run.label})' if len(runs) > 1 else '')}: {escape(reason)}</li>"
        for run in runs
        for name, reason in run.failed.items()
    ]
    if not rows:
        return ""
    return f'<div class="failed"><h3>Failed data sets</h3><p>No figure holds them.</p><ul>{"".join(rows)}</ul></div>'


def _together(figures: Iterable[Sequence[Figure]]) -> dict[tuple[str, str, str], list[Figure | None]]:
    """Figures of the same by what they are, each run's in its place."""
    by_key = [{figure.key: figure for figure in own} for own in figures]
    return {key: [own.get(key) for own in by_key] for key in dict.fromkeys(key for own in by_key for key in own)}


def _tiles(runs: Sequence[Run]) -> str:
    tiles = []
    for (_, name, metric), figures in _together(run.headline for run in runs).items():
        first = next(figure for figure in figures if figure is not None)
        extent = ", ".join(
            part for part in (metric_title(metric), first.extent, f"chance {percent(first.chance)}") if part
        )
        lines = []
        for run, figure in zip(runs, figures, strict=True):
            if figure is None:
                lines.append(f'<p class="run">{escape(run.label)}<b>–</b></p>')
            elif len(runs) == 1:
                lines.append(f'<p class="big">{_value(figure)}<small>{escape(_span(figure.interval))}</small></p>')
            else:
                lines.append(
                    f'<p class="run"><span><i class="dot" style="background:{run.colour}"></i>{escape(run.label)}</span>'
                    f"<b>{_value(figure)}<small>{escape(_span(figure.interval))}</small></b></p>{_difference(figure, figures[0], run, runs[0])}"
                )
            if figure is not None and figure.incomplete:
                lines.append('<p class="down">incomplete</p>')
        tiles.append(
            f'<div class="tile"><h3>{escape(name)}</h3>{"".join(lines)}<p class="note">{escape(extent)}</p></div>'
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _difference(figure: Figure, first: Figure | None, run: Run, against: Run) -> str:
    """ "+1.3 against the first, 95 % +0.4 to +2.2", the rows of both resampled together."""
    if first is None or run is against or first.incomplete or figure.incomplete:
        return ""
    points, span = figure.value - first.value, difference(figure, run, against)
    sure = span is not None and (span[0] > 0 or span[1] < 0)
    kind = ("up" if points > 0 else "down") if sure else "note"
    shown = f"{100 * points:+.1f}".replace("-", "−")
    between = "" if span is None else f", 95 % {100 * span[0]:+.1f} to {100 * span[1]:+.1f}".replace("-", "−")
    return f'<p class="{kind}">{shown} against the first{between}</p>'


def _panels(runs: Sequence[Run], figures: Sequence[Sequence[Figure]]) -> str:
    """Bars: of one run a panel for each group of figures, of several a panel for each figure with a bar for each run."""
    panels: dict[str, list[Bar]] = {}
    together = _together(figures)
    metrics = {group: {metric for other, _, metric in together if other == group} for group, _, _ in together}
    for (group, name, metric), own in together.items():
        shown = metric_title(metric)
        for run, figure in zip(runs, own, strict=True):
            if figure is None:
                continue
            if len(runs) > 1:
                title, label = f"{name}, {shown}", run.label
            elif len(metrics[group]) > 1:
                title, label = group, f"{name}, {shown}"
            else:
                title, label = f"{group}, {shown}", name
            words = f"{_value(figure)}{_span(figure.interval)}{' incomplete' if figure.incomplete else ''}"
            mark = figure.chance if figure.chance > 0 else None
            bar = Bar(label.removeprefix("mean: "), figure.value, words, run.colour, figure.interval, mark)
            panels.setdefault(title, []).append(bar)
    drawn = (
        f'<div class="panel"><h3>{escape(title)}</h3>{bars(entries, 1.0, "chance")}</div>'
        for title, entries in panels.items()
    )
    return f'<div class="panels">{"".join(drawn)}</div>' if panels else ""


def _tasks(runs: Sequence[Run]) -> str:
    panels = _panels(runs, [run.means for run in runs])
    axes = [name for name in (*KINDS, *SPLITS) if all(name in run.tasks for run in runs)]
    if len(axes) < 3:
        return panels
    whole = [run for run in runs if run.whole_mmeb]
    series = [Series(run.label, run.colour, [run.tasks[name] for name in axes]) for run in whole or runs]
    note = "Published rows are drawn for a run of all 36 sets of MMEB, whole and without failures; these means are of other sets."
    if whole:
        for number, row in enumerate(
            row for row in published.published()["mmeb"] if (row["model"], row["training"]) in OUTLINES
        ):
            colour = f"var(--run{3 + number})"
            values = [row[SPLITS.get(name, name)] / 100 for name in axes]
            series.append(Series(f"{row['model']}, {row['training']} ({row['source']})", colour, values, dashed=True))
        note = "Dashed: published rows. An axis is a mean over the data sets of a task, so none depends on which average a paper prints."
        note += " Runs that lack some are left out." if len(whole) < len(runs) else ""
    names = [TITLES.get(name, name) for name in axes]
    drawing = radar(names, series, f"Means by task of {', '.join(one.name for one in series)}")
    return f'<div class="wide"><div>{drawing}<p class="note">{escape(note)}</p></div><div>{panels}</div></div>'


def _table(label: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return scrolling(label, f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def _published(runs: Sequence[Run]) -> str:
    parts = []
    whole = [run for run in runs if run.whole_mmeb]
    columns = (*KINDS, *SPLITS)
    if whole:
        header = [
            "model",
            "training",
            *(TITLES.get(name, name) for name in columns),
            "mean of 4 tasks",
            "mean of 36 sets",
            "source",
        ]
        rows = [
            [run.label, "this run", *(percent(run.tasks[name]) for name in columns)]
            + [percent(published.mean_of_meta_tasks(run.tasks)), percent(run.tasks["overall"]), ""]
            for run in whole
        ]
        for row in published.published()["mmeb"]:
            printed = {"4 meta-tasks": 0, "36 data sets": 1}[row["overall_is"]]
            means = [f"{mean(row):.1f}" for mean in (published.mean_of_meta_tasks, published.mean_of_data_sets)]
            means[printed] = f"{row['overall']:.1f} printed"
            figures = [f"{row[SPLITS.get(name, name)]:.1f}" for name in columns]
            rows.append([row["model"], row["training"], *figures, *means, row["source"]])
        parts.append(
            "<p>A paper prints one of two averages as its “overall”; the other is computed here from its tasks. Only figures of "
            f"one column may be compared.</p>{_table('MMEB, published rows', header, rows)}"
        )
        table = published.published()["mmeb_by_data_set"]
        rows = [
            [name, *(percent(run.by_mmeb_set[name.lower()]) for run in whole), *(f"{value:.1f}" for value in values)]
            for name, values in table["data_sets"].items()
        ]
        header = ["data set", *(run.label for run in whole), *table["models"]]
        parts.append(_folded(f"MMEB, set by set ({table['source']})", _table("MMEB by data set", header, rows)))
    columns = [name for name in published.published()["retrieval"][0] if any(name in run.retrieval for run in runs)]
    if columns:
        header = ["model", "training", *(name.replace("_", " ") for name in columns), "source"]
        rows = [
            [
                run.label,
                "this run",
                *(percent(run.retrieval[name]) if name in run.retrieval else "–" for name in columns),
                "",
            ]
            for run in runs
        ]
        for row in published.published()["retrieval"]:
            figures = [f"{row[name]:.1f}" if name in row else "–" for name in columns]
            rows.append([row["model"], row["training"], *figures, row["source"]])
        parts.append(f"<h3>Caption retrieval and SugarCrepe</h3>{_table('Retrieval, published rows', header, rows)}")
    return "".join(parts)


def _cosines(runs: Sequence[Run]) -> str:
    panels = []
    for name in dict.fromkeys(name for run in runs for name in run.results):
        drawn = []
        for run in runs:
            counts = run.results.get(name, {}).get("cosines")
            if counts:
                groups = [("wrong candidates", WRONG, counts["wrong"]), ("right candidates", RIGHT, counts["right"])]
                label = f"{run.label}: cosines of right and wrong candidates of {name}"
                title = f"<h4>{escape(run.label)}</h4>" if len(runs) > 1 else ""
                drawn.append(title + histogram(groups, counts["low"], counts["high"], label))
        if drawn:
            panels.append(f'<div class="panel"><h3>{escape(name)}</h3>{"".join(drawn)}</div>')
    if not panels:
        return ""
    names = legend([("right candidates", RIGHT, False), ("wrong candidates", WRONG, False)])
    text = "Cosines of queries with their candidates, of up to 200 rows of each data set: the share of each group in each bin."
    return f'<p>{escape(text)}</p>{names}<div class="panels">{"".join(panels)}</div>'


def _failures(runs: Sequence[Run]) -> str:
    parts = []
    for name in dict.fromkeys(name for run in runs for name in run.results):
        cards = [card for run in runs for card in _cards(run, name, run.label if len(runs) > 1 else "")]
        if cards:
            parts.append(_folded(name, f'<div class="cards">{"".join(cards)}</div>'))
    if not parts:
        return ""
    text = "The rows in which a wrong candidate is furthest ahead of the right one, with their cosines."
    return f"<p>{escape(text)}</p>{''.join(parts).replace('<details>', '<details open>', 1)}"


def _cards(run: Run, name: str, label: str) -> Iterator[str]:
    for failure in run.rows(name).get("failures", [])[:MISSES]:
        sides = []
        for side, title in (("query", "query"), ("wrong", "✗ ranked first"), ("right", "✓ right one")):
            content = failure[side]
            shown, text = "", readable(content["text"])
            if content["image"]:
                name = f"{title}: {content['image']}"
                shown = (
                    thumbnail(content.get("thumbnail"), name) or f'<p class="note">[{escape(content["image"])}]</p>'
                )
            score = "" if side == "query" else f" {failure[f'{side}_score']:.3f}".replace("-", "−")
            cut = text if len(text) <= SHOWN else text[:SHOWN] + "…"
            sides.append(f'<div class="{side}"><small>{title}{score}</small>{shown}<p>{escape(cut)}</p></div>')
        head = ", ".join(part for part in (label, f"row {failure['row']}") if part)
        yield f'<article class="card"><h4>{escape(head)}</h4><div class="pair">{"".join(sides)}</div></article>'


def _all_figures(runs: Sequence[Run]) -> str:
    rows = _together_by_path(runs)
    table = _table("All figures", ["figure", *(run.label for run in runs)], rows)
    return _folded(f"Every number of the results ({len(rows)})", table)


def _together_by_path(runs: Sequence[Run]) -> list[list[str]]:
    numbers = [dict(_numbers(run.content["summary"], "summary")) for run in runs]
    for own, run in zip(numbers, runs, strict=True):
        for name, result in run.results.items():
            own |= _numbers({key: value for key, value in result.items() if key != "cosines"}, name)
    paths = dict.fromkeys(path for own in numbers for path in own)
    return [[path, *(f"{own[path]:.6g}" if path in own else "–" for own in numbers)] for path in paths]


def _numbers(content: Any, path: str) -> Iterator[tuple[str, float]]:
    """Every number below, by the names on the way to it."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _numbers(value, f"{path}, {name}")
    elif isinstance(content, int | float) and not isinstance(content, bool):
        yield path, content
