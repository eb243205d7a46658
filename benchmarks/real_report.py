# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The tables of `benchmarks.real_study`, made from its result files and put into documents.

A difference is the mean over seeds, with their standard deviation, and the 95 % interval of a bootstrap over the rows of
the sets, resampled alike for both methods. The interval says how far other rows would have moved it, not other seeds.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study import machines_of, spread
from evaluation.intervals import interval, mean_of_sets
from evaluation.kinds import kind_of
from evaluation.report import markdown_table
from evaluation.row_values import draw
from evaluation.table import insert_between_markers

DEV, TESTS = "stsb_en/dev", ("stsb_en/test", "sick/pairs_test")
SUGARCREPE, OTHER_PICTURE = "coco_tiny/sugarcrepe", "coco_tiny/sugarcrepe_other_picture"
METHODS = {  # of stage 2 -> what it is called
    "base": "backbone, not trained",
    "stage1": "stage 1 alone",
    "vlm2vec": "VLM2Vec recipe",
    "unime_no_filter": "UniME stage 2 without the filter",
    "unime_all_negatives": "UniME stage 2 without top-k",
    "unime_stage2": "UniME, stage 2 alone",
    "unime": "UniME, both stages",
}
COMPARED = (
    ("unime", "vlm2vec"),
    ("unime_stage2", "vlm2vec"),
    ("unime", "unime_stage2"),
    ("unime_no_filter", "unime_stage2"),
    ("unime_all_negatives", "unime_stage2"),
    ("unime_all_negatives", "vlm2vec"),
    ("stage1", "base"),
)
TEXT_FIGURES = ("STS-B test", "SICK-R test", "mean of both")
PICTURE_FIGURES = ("classification", "retrieval", "grounding", "all sets", "SugarCrepe", *TEXT_FIGURES[:2])
ENDS = "sugarcrepe_ends.json"  # of each row of SugarCrepe, whether both captions end alike

Result = dict[str, Any]
Results = dict[str, list[Result]]


def read_results(folder: Path, settings: dict[str, Any] | None = None) -> Results:
    """Finished runs by method, in the order of the seeds; the scores of a run may stand in two files.

    Raises:
        ValueError: A file was made with other settings than those given; names it and them.
    """
    found: dict[str, dict[int, Result]] = defaultdict(dict)
    for file in sorted(folder.glob("*-seed*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        for name, value in result["settings"].items():
            if settings and settings.get(name) != value:
                raise ValueError(
                    f"{file} was made with {name} {value!r}, not {settings.get(name)!r}. Give its settings, or another "
                    "folder as results."
                )
        run = found[result["method"]].setdefault(result["seed"], result)
        run["scores"] |= result["scores"]
    return {method: [runs[seed] for seed in sorted(runs)] for method, runs in found.items()}


def best_rate(tried: dict[float, Result]) -> float:
    """The learning rate that is best on STS-B dev."""
    return max(tried, key=lambda rate: tried[rate]["scores"][DEV]["value"])


def sets_of(result: Result, figure: str) -> list[str]:
    """The sets whose mean a figure is."""
    named = {"STS-B test": TESTS[:1], "SICK-R test": TESTS[1:], "mean of both": TESTS, "SugarCrepe": (SUGARCREPE,)}
    named["with another picture"] = (OTHER_PICTURE,)
    if figure in named:
        return [name for name in named[figure] if name in result["scores"]]
    ranked = [name for name, score in result["scores"].items() if score["form"] == "mmeb"]
    return [name for name in ranked if figure in ("all sets", kind_of(name))]


def value_of(result: Result, figure: str, field: str = "value") -> float | None:
    """A figure of a run in per cent, or by chance; None where it was not evaluated."""
    values = [result["scores"][name][field] for name in sets_of(result, figure)]
    return 100 * float(np.mean(values)) if values else None


@cache
def draws_of_set(name: str, metric: str, rows: tuple[tuple[str, str], ...]) -> np.ndarray:
    """(draws,) a set's figure under resampling of its rows, alike for all runs."""
    return draw(name, {key: [float(value) for value in values.split()] for key, values in rows})[metric]


def draws_of(result: Result, figure: str) -> np.ndarray:
    """(draws,) a figure of a run in per cent, under resampling of the rows."""
    scores = {name: result["scores"][name] for name in sets_of(result, figure)}
    drawn = [
        draws_of_set(name, score["metric"], tuple(sorted(score["rows"].items()))) for name, score in scores.items()
    ]
    return 100 * mean_of_sets(drawn)


def difference(results: Results, ours: str, theirs: str, figure: str) -> str | None:
    """How far one method is ahead of another, seed by seed, as "+1.2 ± 0.3 [0.4, 2.1]"; None without common runs.

    The backbone is not trained: its one run stands beside those of all seeds.
    """
    others = {run["seed"]: run for run in results.get(theirs, [])}
    pairs = [(run, others.get(0 if theirs == "base" else run["seed"])) for run in results.get(ours, [])]
    pairs = [pair for pair in pairs if all(run is not None and sets_of(run, figure) for run in pair)]
    if not pairs:
        return None
    values = [value_of(run, figure) - value_of(other, figure) for run, other in pairs]
    low, high = interval(np.mean([draws_of(run, figure) - draws_of(other, figure) for run, other in pairs], axis=0))
    return f"{'+' if np.mean(values) >= 0 else ''}{spread(values)} [{low:.1f}, {high:.1f}]"


def scores_table(results: Results, labels: dict[str, str], figures: tuple[str, ...]) -> str:
    """One row a method: mean and standard deviation of each figure over seeds."""
    rows = []
    for method, label in labels.items():
        runs = results.get(method, [])
        if runs:
            cells = []
            for figure in figures:
                values = [value for run in runs if (value := value_of(run, figure)) is not None]
                cells.append(spread(values) if values else "–")
            rows.append([label, str(len(runs)), *cells])
    return markdown_table(["", "runs", *figures], rows)


def differences_table(
    results: Results, labels: dict[str, str], pairs: tuple[tuple[str, str], ...], figures: tuple[str, ...]
) -> str:
    """One row a pair of methods."""
    rows = []
    for ours, theirs in pairs:
        cells = [difference(results, ours, theirs, figure) or "–" for figure in figures]
        if any(cell != "–" for cell in cells):
            rows.append([f"{labels[ours]} − {labels[theirs]}", *cells])
    return markdown_table(["difference", *figures], rows)


def stage1_page(results: Results) -> str:
    """Stage 1 against E5-V on texts."""
    tried: dict[str, dict[float, Result]] = defaultdict(dict)
    for name, runs in results.items():
        method, mark, rate = name.partition("-lr")
        if mark:
            tried[method][float(rate)] = runs[0]
    labels = {"base": "backbone, not trained"}
    names = {"e5v": "E5-V recipe", "stage1": "stage 1"}
    labels |= {
        method: f"{name}, learning rate {best_rate(tried[method]):g}"
        for method, name in names.items()
        if tried[method]
    }
    rows = [
        [names[method], f"{rate:g}", f"{100 * result['scores'][DEV]['value']:.1f}"]
        for method in names
        for rate, result in sorted(tried[method].items())
    ]
    pairs = (("stage1", "e5v"), ("stage1", "base"), ("e5v", "base"))
    parts = [
        scores_table(results, labels, TEXT_FIGURES),
        differences_table(results, names | {"base": labels["base"]}, pairs, TEXT_FIGURES),
        "STS-B dev by learning rate, one run each:\n\n",
        markdown_table(["", "learning rate", "STS-B dev"], rows, 2),
        machines_of([run for method in (*names, "base") for run in results.get(method, [])]) + "\n",
    ]
    return "\n".join(parts)


def stage2_page(results: Results) -> str:
    """UniME with its parts left out against the VLM2Vec recipe on pictures."""
    every = [run for method in METHODS for run in results.get(method, []) if sets_of(run, "all sets")]
    if not every:
        return "No run is finished.\n"
    figures = [figure for figure in PICTURE_FIGURES[:5] if sets_of(every[0], figure)]
    chances = ", ".join(f"{figure} {value_of(every[0], figure, 'chance'):.1f}" for figure in figures)
    parts = [
        scores_table(results, METHODS, PICTURE_FIGURES),
        f"By chance: {chances}. {machines_of(every)}\n",
        differences_table(results, METHODS, COMPARED, PICTURE_FIGURES),
    ]
    return "\n".join(parts)


def sugarcrepe_page(results: Results, alike: Sequence[bool]) -> str:
    """SugarCrepe with its own and with other pictures, and by whether both captions of a row end alike."""
    rows = []
    for method, label in METHODS.items():
        runs = [run for run in results.get(method, []) if SUGARCREPE in run["scores"]]
        if runs:
            cells = []
            for name in (SUGARCREPE, OTHER_PICTURE):
                right = np.array(
                    [run["scores"][name]["rows"]["accuracy"].split() for run in runs], dtype=float
                )  # (R, N)
                groups = [right, right[:, np.array(alike)], right[:, ~np.array(alike)]]
                cells += [spread((100 * group.mean(1)).tolist()) for group in groups]
            rows.append([label, str(len(runs)), *cells])
    groups = ("all", f"ends alike ({sum(alike)} rows)", f"ends differ ({len(alike) - sum(alike)})")
    header = [f"{picture}: {group}" for picture in ("its picture", "another picture") for group in groups]
    return markdown_table(["", "runs", *header], rows)


def write_report(documents: Path, folder: Path) -> None:
    """Put the tables of a folder of results into stage1.md and stage2.md.

    Raises:
        TableError: A document or a marker is missing.
    """
    results, ends = read_results(folder), json.loads((folder / ENDS).read_text(encoding="utf-8"))
    insert_between_markers(documents / "stage1.md", "real-stage1", stage1_page(results))
    insert_between_markers(documents / "stage2.md", "real-stage2", stage2_page(results))
    insert_between_markers(documents / "stage2.md", "real-sugarcrepe", sugarcrepe_page(results, ends))
