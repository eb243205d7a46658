# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The tables of `benchmarks.stage1_study`, made from its result files and put into a document."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from evaluation.report import markdown_table
from evaluation.table import insert_between_markers

DEV, TESTS = "stsb_en/dev", ("stsb_en/test", "sick/pairs_test")
BASE, E5V, DIRECTION, SENTENCES = "base", "e5v-", "direction-", "sentences-at-"  # how names of variants begin
MARKERS = ("study-machine", "study-compute", "study-findings", "study-temperature", "study-direction")
SCORE_TITLES = ("STS-B test", "SICK-R test", "mean of both", "STS-B dev")

Results = dict[str, list[dict]]


class Variant(NamedTuple):
    """One way to train.

    Args:
        name: of its result files.
        label: in the tables.
        options: of `trainers.train_stage1`; None for the backbone as it is.
        sentences: whether unpaired sentences are added to the texts.
    """

    name: str
    label: str
    options: dict | None
    sentences: bool = False


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and, of more than one value, sample standard deviation."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def mean_of_tests(result: dict) -> float:
    """Mean of both tests, x 100."""
    return 100 * statistics.mean(result["scores"][name] for name in TESTS)


def score_cells(results: Sequence[dict]) -> list[str]:
    """Cells of `SCORE_TITLES`."""
    columns = [[100 * result["scores"][name] for result in results] for name in (*TESTS, DEV)]
    return [spread(values) for values in (*columns[:2], [mean_of_tests(result) for result in results], columns[2])]


def compute_table(variants: Sequence[Variant], results: Results, temperature: float | None) -> str:
    """The backbone, E5-V and stage 1 after equally much computing."""
    rows = []
    for variant in variants:
        options, label = variant.options or {}, variant.label
        if options.get("include_self") is False:
            if options["temperature"] != 0.05 and options["temperature"] != temperature:
                continue
            reasons = ["the default"] * (options["temperature"] == 0.05) + ["best on STS-B dev"] * (
                options["temperature"] == temperature
            )
            label = f"stage 1, temperature {options['temperature']:g} ({', '.join(reasons)})"
        elif not variant.name.startswith((BASE, E5V, SENTENCES)):
            continue
        runs = results[variant.name]
        if runs:
            seconds = [run["training_seconds"] for run in runs if run["training_seconds"] is not None]
            time = spread(seconds, 0) if seconds else ""
            rows.append([label, *score_cells(runs), str(len(runs)), time])
    return markdown_table(["", *SCORE_TITLES, "runs", "training, s"], rows)


def temperature_table(variants: Sequence[Variant], results: Results) -> str:
    """Temperature and diagonal, with what the loss has to say at the end."""
    rows = []
    for variant in variants:
        runs = results[variant.name]
        if runs and "include_self" in (variant.options or {}):
            last = [f"{statistics.mean(run['last'][name] for run in runs):.1e}" for name in ("loss", "resolution")]
            rows.append([variant.label, *score_cells(runs), str(len(runs)), *last])
    return markdown_table(["temperature", *SCORE_TITLES, "runs", "last loss", "resolution"], rows)


def direction_table(variants: Sequence[Variant], results: Results, temperature: float | None) -> str:
    """Directions and temperatures of the teacher at the best temperature."""
    rows = []
    for variant in variants:
        options, label = variant.options or {}, variant.label
        if options.get("include_self") is False and options["temperature"] == temperature:
            label = f"teacher_to_student, both at {temperature:g}"
        elif not variant.name.startswith(DIRECTION):
            continue
        if results[variant.name]:
            rows.append([label, *score_cells(results[variant.name]), str(len(results[variant.name]))])
    return markdown_table(["direction", *SCORE_TITLES, "runs"], rows)


def margin(label: str, results: Sequence[dict], baseline: Sequence[dict], baseline_label: str) -> str:
    """A line on how far one variant is above another, seed by seed."""
    other = {result["seed"]: mean_of_tests(result) for result in baseline}
    differences = [mean_of_tests(result) - other[result["seed"]] for result in results if result["seed"] in other]
    each = ", ".join(f"{value:+.1f}" for value in differences)
    return f"- {label} minus {baseline_label}, mean of both tests: {spread(differences)} points (by seed: {each})."


def findings(variants: Sequence[Variant], results: Results) -> str:
    """Stage 1 against the E5-V row that is best on the tests themselves, which favours E5-V."""
    rows = [variant for variant in variants if variant.name.startswith(E5V) and results[variant.name]]
    if not rows:
        return ""
    best = max(rows, key=lambda variant: statistics.mean(map(mean_of_tests, results[variant.name])))
    lines = []
    for variant in variants:
        options = variant.options or {}
        if results[variant.name] and (options.get("include_self") is False or variant.name.startswith(SENTENCES)):
            label = variant.label if variant.sentences else f"Stage 1, temperature {options['temperature']:g},"
            label = label[0].upper() + label[1:]
            lines.append(margin(label, results[variant.name], results[best.name], best.label))
    return "\n".join(lines) + "\n"


def machine(variants: Sequence[Variant], results: Results) -> str:
    """Runs, machine, dates and time."""
    runs = [run for variant in variants for run in results[variant.name]]
    seeds = sorted({run["seed"] for run in runs})
    settings = runs[0]["settings"]
    places = sorted({f"{run['hardware']['cpu']}, {run['hardware']['threads']} thread(s)" for run in runs})
    versions = sorted(
        {f"torch {run['versions']['torch']}, transformers {run['versions']['transformers']}" for run in runs}
    )
    dates = sorted({run["created"][:10] for run in runs})
    seconds = sum(run["training_seconds"] or 0 for run in runs)
    return (
        f"{len(runs)} runs, {len(variants)} variants with seeds {', '.join(map(str, seeds))}: {settings['steps']} steps of "
        f"{settings['texts_per_step']} texts, {settings['num_layers']} layers of width {settings['hidden_size']}, teacher "
        f"{settings['teacher']}. On {'; '.join(places)}; {'; '.join(versions)}; {' to '.join(dict.fromkeys((dates[0], dates[-1])))}; "
        f"{seconds / 60:.0f} minutes of training in all (wall clock).\n"
    )


def write_report(document: Path, variants: Sequence[Variant], results: Results, temperature: float | None) -> None:
    """Put the tables into the document.

    Args:
        document: Markdown with the markers `MARKERS`.
        variants: in the order of the rows.
        results: finished runs by the variant's name.
        temperature: at which directions were compared; None while it is not known.

    Raises:
        TableError: the document or a marker is missing.
        ValueError: there is no result.
    """
    if not any(results.values()):
        raise ValueError("there is no result file yet; run the study first (see --help)")
    parts = (
        machine(variants, results),
        compute_table(variants, results, temperature),
        findings(variants, results),
        temperature_table(variants, results),
        direction_table(variants, results, temperature),
    )
    for marker, part in zip(MARKERS, parts, strict=True):
        insert_between_markers(document, marker, part)
