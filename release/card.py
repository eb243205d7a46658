# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The scores in the card and in the Hub's own form: what results files say, and no more."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml

from evaluation.kinds import KINDS
from evaluation.report import make_table, percent, results_page
from evaluation.suites import SUITES, load_suites
from evaluation.table import read_runs
from release.native import NATIVE_FORMS
from unime.card import LIMITS, write_readme
from unime.public_names import is_local

SCORES = ".eval_results"  # folder of the Hub's own form of scores


@dataclass(kw_only=True)
class CardArguments:
    """What a card says beside what records tell."""

    base_model: str = field(
        default="",
        metadata={
            "help": "Hub name of the base model, for the card. Default: what the training's record, or an adapter's own "
            "config, names, if that is a name on the Hub."
        },
    )
    license: str = field(
        default="",
        metadata={
            "help": "Licence of the weights. Default: the strictest of backbone, teacher and data as far as they are known, "
            "else other."
        },
    )
    results: list[str] = field(
        default_factory=list,
        metadata={
            "help": "results.json files of evaluation.run (LABEL=PATH) for the card: that of this model, by its folder or "
            "else the first, and others to compare."
        },
    )
    limits: str = field(
        default=LIMITS,
        metadata={"help": "What users must know besides: limits, licences of backbone, teacher and data."},
    )

    def __post_init__(self) -> None:
        if self.base_model and is_local(self.base_model):
            raise ValueError(
                f"base_model is for the public card: give the model's name on the Hub, not {self.base_model}"
            )


def describe_results(runs: dict[str, dict[str, Any]], own: str) -> str:
    """All figures of this model with intervals and means, and the others beside it."""
    page = results_page({**runs[own], "model": own})
    parts = [re.sub("^#", "###", page, flags=re.MULTILINE)]
    kinds = [mean for kind, mean in runs[own]["summary"].get("mmeb", {}).items() if kind in KINDS]
    for metric in kinds[0]["metrics"] if len(kinds) > 1 else ():
        mean = sum(kind["metrics"][metric] for kind in kinds) / len(kinds)
        parts.append(f"Mean of the {len(kinds)} kinds' means, {metric}: {percent(mean)}.\n")
    return "\n".join([*parts, make_table(runs)] if len(runs) > 1 else parts)


def scores(run: dict[str, Any]) -> Iterable[tuple[dict[str, Any], str, float, str]]:
    """Each figure of a run as (result, metric, percentage, the data set's name on the Hub or "")."""
    suites = {result.get("suite") for result in run["data_sets"]} & set(SUITES)
    known = {one.result_name: one.options for suite in load_suites(sorted(suites)) for one in suite.benchmarks}
    for result in run["data_sets"]:
        places = known.get(result["name"], {})
        hub = next((place for place in (places.get("hub"), places.get("dataset_name")) if place and "/" in place), "")
        for metric in result.get("headline", ()):
            yield result, metric, round(100 * result["metrics"][metric], 2), hub


def _eval_result(result: dict[str, Any], metric: str, value: float, hub: str) -> EvalResult:
    name = result["name"]
    return EvalResult("feature-extraction", hub or "own", name, metric, value, dataset_config=name)


def write_scores(run: dict[str, Any], output: Path) -> None:
    """A file per suite whose data sets are on the Hub; what was not evaluated on all rows is left out."""
    entries: dict[str, list[EvalResultEntry]] = {}
    for result, metric, value, hub in scores(run):
        if hub and "partial" not in result:
            bounds = result.get("intervals", {}).get(metric)
            notes = f"{metric} in %, {result['rows']} rows, {run['dtype']}"
            notes += f", 95 % interval {percent(bounds[0])} to {percent(bounds[1])}" if bounds else ""
            task = result["name"].removeprefix(f"{result['suite']}/")
            entry = EvalResultEntry(dataset_id=hub, task_id=task, value=value, date=run["created"], notes=notes)
            entries.setdefault(result["suite"], []).append(entry)
    for suite, found in entries.items():
        (output / SCORES).mkdir(exist_ok=True)
        content = yaml.safe_dump(eval_result_entries_to_yaml(found), sort_keys=False)
        (output / SCORES / f"{suite}.yaml").write_text(content, encoding="utf-8")


def write_card(output: Path, source: Path, arguments: CardArguments, repository: str, form: str, **facts: Any) -> None:
    """README.md and the scores of a folder to publish, with what the user says; see `unime.card.write_readme`."""
    runs = read_runs(arguments.results)
    own = [label for label, run in runs.items() if Path(run["model"]).resolve() == source.resolve()] or list(runs)
    if runs:
        facts["results"] = describe_results(runs, own[0])
        facts["eval_results"] = [_eval_result(*score) for score in scores(runs[own[0]])]
    if form == "native":
        facts["needed_packages"] = " and ".join(NATIVE_FORMS[facts["family"]].needed_packages)
    told = {"base_model": arguments.base_model, "license": arguments.license, "limits": arguments.limits}
    write_readme(output, source, repository, form, **told, **facts)
    if runs:
        write_scores(runs[own[0]], output)
