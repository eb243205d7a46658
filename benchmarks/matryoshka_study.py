# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Matryoshka on the demo's rendered data: what vectors lose when they are cut to half, trained for that or not.

    python -m benchmarks.matryoshka_study --run true --report docs/stage2.md
    python -m benchmarks.matryoshka_study --report docs/stage2.md

Both methods of a seed start from the same pre-trained tiny backbone and take the same steps on the same batches, in both
stages; one evaluation scores the full vectors and their first half. Stopped at any time, it goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.study import Result, machines_of, once, run_command, table_of_runs
from evaluation.report import environment
from evaluation.table import insert_between_markers
from examples.demo.scenes import write_dataset
from unime.options import parse_dataclasses

RECIPES = Path(__file__).resolve().parent.parent / "examples" / "recipes" / "demo"
RESULTS = Path(__file__).resolve().parent / "results" / "matryoshka_study"
METHODS = {"plain": "full width alone", "matryoshka": "full and half width"}
STUDY_OPTIONS = frozenset("run work results report seeds".split())


@dataclass
class MatryoshkaStudyArguments:
    """What to run."""

    run: bool = field(default=False, metadata={"help": "Run what is missing; else only the table is made."})
    work: str = field(default="outputs/matryoshka_study", metadata={"help": "Folder of the models; can be deleted."})
    results: str = field(default=str(RESULTS), metadata={"help": "Folder of the result files."})
    report: str | None = field(default=None, metadata={"help": "Document whose table is made from the result files."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of data, weights and order."})
    size: str = field(default="full", metadata={"help": "Size of the demo's data: full or fast."})
    hidden_size: int = field(default=192, metadata={"help": "Width of the vectors; half of it is the other width."})
    backbone_steps: int = field(default=320, metadata={"help": "Pre-training steps of the backbone."})
    stage1_steps: int = field(default=70, metadata={"help": "Steps of stage 1."})
    steps: int = field(default=110, metadata={"help": "Steps of stage 2."})


def run_method(arguments: MatryoshkaStudyArguments, method: str, seed: int) -> Result:
    """Both stages of a method, and the scores of its vectors at both widths."""
    root = Path(arguments.work, f"seed{seed}")
    data = write_dataset(root / "data", arguments.size, seed)
    texts, backbone, half = data / "texts_train.jsonl", root / "backbone", arguments.hidden_size // 2
    dims = {"matryoshka_dims": [half, arguments.hidden_size]} if method == "matryoshka" else {}
    common = {"seed": seed, "report_to": "none", **dims}
    run_command(
        "examples.tiny_backbone",
        RECIPES / "backbone.yaml",
        texts=texts,
        pairs=data / "pretrain.jsonl",
        patches=data / "patches.jsonl",
        hidden_size=arguments.hidden_size,
        steps=arguments.backbone_steps,
        seed=seed,
        output=backbone,
    )
    stage1, stage2 = root / f"{method}-stage1", root / method
    run_command(
        "trainers.train_stage1",
        RECIPES / "stage1.yaml",
        model=backbone,
        texts=texts,
        max_steps=arguments.stage1_steps,
        teacher_cache=root / "teacher_vectors",
        output_dir=stage1,
        **common,
    )
    run_command(
        "trainers.train_stage2",
        RECIPES / "stage2.yaml",
        model=stage1,
        data=data,
        max_steps=arguments.steps,
        output_dir=stage2,
        **common,
    )
    output = root / f"{method}-results"
    run_command("evaluation.run", model=stage2, data=[data, data / "sts_eval.jsonl"], dimensions=half, output=output)
    scores = json.loads((output / "results.json").read_text(encoding="utf-8"))
    return {
        "method": method,
        "seed": seed,
        "full": scores["summary"],
        "half": scores["dimensions"][str(half)],
        "settings": {name: value for name, value in asdict(arguments).items() if name not in STUDY_OPTIONS},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **environment(torch.device("cpu")),
    }


def _ranking(summary: Result) -> float:
    return 100 * summary["mmeb"]["overall"]["metrics"]["precision@1"]


def _sentences(summary: Result) -> float:
    return 100 * summary["sts"]["metrics"]["spearman"]


COLUMNS = {
    f"{title}, {width}": (lambda result, measure=measure, width=width: measure(result[width]))
    for title, measure in (("P@1", _ranking), ("Spearman", _sentences))
    for width in ("full", "half")
} | {
    f"{title} lost": (lambda result, measure=measure: measure(result["full"]) - measure(result["half"]))
    for title, measure in (("P@1", _ranking), ("Spearman", _sentences))
}


def report(document: Path, folder: Path) -> None:
    """Make the table of a document from the result files."""
    groups = {
        title: [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob(f"{name}-seed*.json"))]
        for name, title in METHODS.items()
    }
    every = [result for results in groups.values() for result in results]
    settings = every[-1]["settings"]
    note = (
        f"\nMean P@1 over the demo's six ranked sets and Spearman's correlation x 100 on its sentence pairs, mean ± standard "
        f"deviation over the runs; vectors of {settings['hidden_size']} dimensions, {settings['stage1_steps']} and "
        f"{settings['steps']} steps of the two stages after {settings['backbone_steps']} of pre-training. {machines_of(every)}\n"
    )
    insert_between_markers(document, "matryoshka", table_of_runs(groups, COLUMNS, "trained at") + note)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, then make the table; the last line printed is what was written."""
    (arguments,) = parse_dataclasses(
        (MatryoshkaStudyArguments,),
        argv,
        prog="python -m benchmarks.matryoshka_study",
        description=__doc__.partition("\n")[0],
    )
    if arguments.run:
        for seed in arguments.seeds:
            for method in METHODS:
                file = Path(arguments.results, f"{method}-seed{seed}.json")
                once(file, lambda method=method, seed=seed: run_method(arguments, method, seed))
    if arguments.report:
        report(Path(arguments.report), Path(arguments.results))
    print(arguments.report or arguments.results)


if __name__ == "__main__":
    main()
