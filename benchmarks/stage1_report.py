# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The tables of `benchmarks.stage1_study`, made from its result files and put into a document."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scipy.stats import t

from benchmarks.study import dates_of, processors_of, seeds_of, spread
from evaluation.report import markdown_table
from evaluation.table import insert_between_markers
from trainers.distillation_config import DistillationConfig

DEV, TESTS = "stsb_en/dev", ("stsb_en/test", "sick/pairs_test")
MARKERS = ("study-machine", "study-compute", "study-findings", "study-temperature", "study-direction")
SCORE_TITLES = ("STS-B test", "SICK-R test", "mean of both", "STS-B dev")

Results = dict[str, list[dict]]


class Variant(NamedTuple):
    """One way to train.

    Args:
        kind: "base" (the backbone as it is), "e5v", "stage1", "direction" (stage 1 with another direction or temperature of
            the teacher) or "sentences" (stage 1 with unpaired sentences added to the texts).
        name: of its result files.
        label: in the tables.
        options: of `trainers.train_stage1`; None for the backbone as it is.
    """

    kind: str
    name: str
    label: str
    options: dict | None


class Choice(NamedTuple):
    """Learning rate and temperature of stage 1 that are best on STS-B dev; None while they are not known."""

    learning_rate: float | None
    temperature: float | None


def mean_of_tests(result: dict) -> float:
    """Mean of both tests, x 100."""
    return 100 * statistics.mean(result["scores"][name] for name in TESTS)


def score_cells(results: Sequence[dict]) -> list[str]:
    """Cells of `SCORE_TITLES`."""
    columns = [[100 * result["scores"][name] for result in results] for name in (*TESTS, DEV)]
    return [spread(values) for values in (*columns[:2], [mean_of_tests(result) for result in results], columns[2])]


def compute_table(variants: Sequence[Variant], results: Results, choice: Choice) -> str:
    """The backbone, E5-V and stage 1 after equally much computing."""
    rows = []
    for variant in variants:
        runs = results[variant.name]
        if runs and (variant.kind in ("base", "e5v", "sentences") or in_comparison(variant, choice)):
            seconds = [run["training_seconds"] for run in runs if run["training_seconds"] is not None]
            time = spread(seconds, 0) if seconds else ""
            rows.append([variant.label, *score_cells(runs), str(len(runs)), time])
    return markdown_table(["", *SCORE_TITLES, "runs", "training, s"], rows)


def in_comparison(variant: Variant, choice: Choice) -> bool:
    """Whether a variant is stage 1 at the default temperature, or at the best one."""
    return (
        variant.kind == "stage1"
        and not variant.options["include_self"]
        and variant.options["temperature"] in (DistillationConfig.temperature, choice.temperature)
    )


def temperature_table(variants: Sequence[Variant], results: Results, choice: Choice) -> str:
    """Temperature and diagonal at the best learning rate, with what the loss has to say at the end."""
    rows = []
    for variant in variants:
        runs, options = results[variant.name], variant.options
        if runs and variant.kind == "stage1" and options["learning_rate"] == choice.learning_rate:
            last = [f"{statistics.mean(run['last'][name] for run in runs):.1e}" for name in ("loss", "resolution")]
            cells = [f"{options['temperature']:g}", "kept" if options["include_self"] else "left out"]
            rows.append([*cells, *score_cells(runs), str(len(runs)), *last])
    rows.sort(key=lambda row: (row[1] == "kept", float(row[0])))
    return markdown_table(["temperature", "diagonal", *SCORE_TITLES, "runs", "last loss", "resolution"], rows, 2)


def direction_table(variants: Sequence[Variant], results: Results, choice: Choice) -> str:
    """Directions and temperatures of the teacher at the best learning rate and temperature."""
    rows = []
    for variant in variants:
        label = variant.label
        if in_comparison(variant, choice) and choice == (
            variant.options["learning_rate"],
            variant.options["temperature"],
        ):
            label = f"teacher_to_student, both at {choice.temperature:g}"
        elif variant.kind != "direction":
            continue
        if results[variant.name]:
            rows.append([label, *score_cells(results[variant.name]), str(len(results[variant.name]))])
    return markdown_table(["direction", *SCORE_TITLES, "runs"], rows)


def findings(variants: Sequence[Variant], results: Results, choice: Choice) -> str:
    """Stage 1 against the E5-V row that is best on the tests themselves, which favours E5-V; seed by seed."""
    rows = [variant for variant in variants if variant.kind == "e5v" and results[variant.name]]
    if not rows:
        return ""
    best = max(rows, key=lambda variant: statistics.mean(map(mean_of_tests, results[variant.name])))
    other = {result["seed"]: mean_of_tests(result) for result in results[best.name]}
    lines = []
    for variant in variants:
        if variant.kind == "sentences" or in_comparison(variant, choice):
            runs = [result for result in results[variant.name] if result["seed"] in other]
            differences = [mean_of_tests(result) - other[result["seed"]] for result in runs]
            if differences:
                each = ", ".join(f"{value:+.1f}" for value in differences)
                lines.append(
                    f"- {variant.label}: {spread(differences)} points{seed_interval(differences)} (by seed: {each})\n"
                )
    return (
        f"Mean of both tests, minus that of {best.label}, the best row of E5-V on these tests, with the 95 % interval "
        f"of Student's t over the seeds:\n\n{''.join(lines)}"
    )


def seed_interval(differences: Sequence[float]) -> str:
    """The 95 % interval of the mean of paired differences, if there are several."""
    if len(differences) < 2:
        return ""
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    reach = t.ppf(0.975, len(differences) - 1) * error
    mean = statistics.mean(differences)
    return f" [{mean - reach:.1f}, {mean + reach:.1f}]"


def machine(variants: Sequence[Variant], results: Results) -> str:
    """Runs, machine, dates and time."""
    runs = [run for variant in variants for run in results[variant.name]]
    settings = runs[0]["settings"]
    versions = sorted(
        {f"torch {run['versions']['torch']}, transformers {run['versions']['transformers']}" for run in runs}
    )
    seconds = sum(run["training_seconds"] or 0 for run in runs)
    return (
        f"{len(runs)} runs, {len(variants)} variants with seeds {seeds_of(runs)}: {settings['steps']} steps of "
        f"{settings['texts_per_step']} texts, {settings['num_layers']} layers of width {settings['hidden_size']}, teacher "
        f"{settings['teacher']}. On {processors_of(runs)}; {'; '.join(versions)}; {dates_of(runs)}; "
        f"{seconds / 60:.0f} minutes of training in all (wall clock).\n"
    )


def write_report(document: Path, variants: Sequence[Variant], results: Results, choice: Choice) -> None:
    """Put the tables into the document.

    Args:
        document: Markdown with the markers `MARKERS`.
        variants: in the order of the rows.
        results: finished runs by the variant's name.
        choice: where temperatures and directions were compared.

    Raises:
        TableError: the document or a marker is missing.
        ValueError: there is no result.
    """
    if not any(results.values()):
        raise ValueError("there is no result file yet; run the study first (see --help)")
    parts = (
        machine(variants, results),
        compute_table(variants, results, choice),
        findings(variants, results, choice),
        temperature_table(variants, results, choice),
        direction_table(variants, results, choice),
    )
    for marker, part in zip(MARKERS, parts, strict=True):
        insert_between_markers(document, marker, part)
