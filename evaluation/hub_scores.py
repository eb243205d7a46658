# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Scores as the Hub reads them: a card's `model-index`, and `.eval_results/*.yaml` for data sets that are there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from evaluation.report import percent
from evaluation.runs import Run
from evaluation.suites import SUITES, load_suites

FOLDER = ".eval_results"


def _scores(run: Run) -> Iterator[tuple[dict[str, Any], str, float, str]]:
    """Each figure over all rows of a set as (result, metric, percentage, the set's name on the Hub or "")."""
    suites = {result.get("suite") for result in run.results.values()} & set(SUITES)
    known = {one.result_name: one.options for suite in load_suites(sorted(suites)) for one in suite.benchmarks}
    for name, result in run.results.items():
        places = known.get(name, {})
        hub = next((place for place in (places.get("hub"), places.get("dataset_name")) if place and "/" in place), "")
        for metric in () if "partial" in result else result["headline"]:
            yield result, metric, round(100 * result["metrics"][metric], 2), hub


def model_index(run: Run) -> list[EvalResult]:
    """The figures of a results.json in a card's older form, which says no more than the value."""
    return [
        EvalResult("feature-extraction", hub or "own", result["name"], metric, value, dataset_config=result["name"])
        for result, metric, value, hub in _scores(run)
    ]


def write_hub_scores(run: Run, output: Path) -> None:
    """One file for each suite, with the figures of its data sets on the Hub, their rows and intervals."""
    entries: dict[str, list[EvalResultEntry]] = {}
    for result, metric, value, hub in _scores(run):
        if hub:
            bounds = result.get("intervals", {}).get(metric)
            notes = f"{metric} in %, {result['rows']} rows, {run.content['dtype']}"
            notes += f", 95 % interval {percent(bounds[0])} to {percent(bounds[1])}" if bounds else ""
            task = result["name"].removeprefix(f"{result['suite']}/")
            entry = EvalResultEntry(
                dataset_id=hub, task_id=task, value=value, date=run.content["created"], notes=notes
            )
            entries.setdefault(result["suite"], []).append(entry)
    for suite, found in entries.items():
        (output / FOLDER).mkdir(exist_ok=True)
        content = yaml.safe_dump(eval_result_entries_to_yaml(found), sort_keys=False)
        (output / FOLDER / f"{suite}.yaml").write_text(content, encoding="utf-8")
