# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The model card with what the user says and what results files say, and no more."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.hub_scores import model_index, write_hub_scores
from evaluation.kinds import KINDS
from evaluation.report import make_table, percent, results_page
from evaluation.runs import Run
from evaluation.table import read_runs
from release.native import NATIVE_FORMS
from unime.card import LIMITS, write_readme
from unime.public_names import is_local


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
            "help": "Licence of the weights. Default: the strictest of backbone, teacher and data; what is not known "
            "counts as other."
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


def describe_results(runs: list[Run], own: Run) -> str:
    """All figures of this model with intervals and means, and the others beside it."""
    page = results_page(Run({**own.content, "model": own.label}))
    parts = [re.sub("^#", "###", page, flags=re.MULTILINE)]
    kinds = [mean for kind, mean in own.content["summary"].get("mmeb", {}).items() if kind in KINDS]
    for metric in kinds[0]["metrics"] if len(kinds) > 1 else ():
        mean = sum(kind["metrics"][metric] for kind in kinds) / len(kinds)
        parts.append(f"Mean of the {len(kinds)} kinds' means, {metric}: {percent(mean)}.\n")
    return "\n".join([*parts, make_table(runs)] if len(runs) > 1 else parts)


def write_card(output: Path, source: Path, arguments: CardArguments, repository: str, form: str, **facts: Any) -> None:
    """README.md and the scores of a folder to publish, with what the user says; see `unime.card.write_readme`."""
    runs = read_runs(arguments.results)
    own = [run for run in runs if Path(run.content["model"]).resolve() == source.resolve()] or runs
    if runs:
        facts["results"] = describe_results(runs, own[0])
        facts["eval_results"] = model_index(own[0])
    if form == "native":
        facts["needed_packages"] = " and ".join(NATIVE_FORMS[facts["family"]].needed_packages)
    told = {"base_model": arguments.base_model, "license": arguments.license, "limits": arguments.limits}
    write_readme(output, source, repository, form, **told, **facts)
    if runs:
        write_hub_scores(own[0], output)
