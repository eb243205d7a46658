# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The whole way once, offline, on a CPU: render data, build a tiny multimodal LLM, train both stages, evaluate, export.

    python -m examples.demo --output demo_output
    python -m examples.demo --output demo_output --fast   # for the tests; learns next to nothing

Started again after it was stopped, it continues. It ends with the path of report.html.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.arguments import EvaluationArguments
from evaluation.report import environment, make_table, to_json
from evaluation.run import evaluate
from evaluation.table import read_runs
from examples import tiny_backbone
from examples.demo.report import write_report
from examples.demo.scenes import write_dataset
from modeling_unime import UniMEModel, UniMEProcessor
from release.export import ExportArguments, export
from trainers import HardNegativeConfig, train_stage1, train_stage2
from unime.files import write_atomically
from unime.options import parse_dataclasses

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
SEARCH = Path(__file__).with_name("search.py")
MODELS = {  # folder -> what it is called in tables
    "base": "base (no training)",
    "stage1": "stage 1",
    "unime": "stage 1 + 2 (UniME)",
    "vlm2vec": "stage 2 with plain InfoNCE (VLM2Vec recipe)",
}
QUERIES = ["A red circle.", "A large blue star to the left of a small green square.", "Three objects in a row."]


@dataclass
class DemoArguments:
    """Options of the demo."""

    output: str = field(default="demo_output", metadata={"help": "Folder for everything the demo makes."})
    fast: bool = field(default=False, metadata={"help": "The smallest size, for the tests."})
    seed: int = field(default=0, metadata={"help": "Seed of data, weights and training."})


class Clock:
    """Runs steps and notes how long each took, over restarts too."""

    def __init__(self, file: Path):
        self.file = file
        self.seconds: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def step(self, name: str, action: Callable[[], object]) -> None:
        print(f"\n=== {name}", flush=True)
        start = time.perf_counter()
        action()
        # A step that was finished before is over in a moment; its first, real time is kept.
        self.seconds[name] = max(self.seconds.get(name, 0.0), round(time.perf_counter() - start, 1))
        write_atomically(self.file, to_json(self.seconds))


def save_base(backbone: Path, folder: Path) -> None:
    """The backbone as a UniME model, before any training."""
    UniMEModel.from_backbone(backbone).save_pretrained(folder)
    UniMEProcessor.from_backbone(backbone).save_pretrained(folder)


def search(exported: Path, pictures: Path) -> list[dict]:
    """Search in a second process, from another folder, where this package cannot be imported."""
    command = [sys.executable, str(SEARCH), str(exported.resolve()), str(pictures.resolve()), *QUERIES]
    result = subprocess.run(command, check=True, capture_output=True, encoding="utf-8", cwd=exported)
    return [json.loads(line) for line in result.stdout.splitlines()]


def run(arguments: DemoArguments) -> Path:
    """All steps; returns the report."""
    output, recipe = Path(arguments.output), RECIPES / ("demo-fast" if arguments.fast else "demo")
    data, models, results = output / "data", output / "models", output / "results"
    output.mkdir(parents=True, exist_ok=True)
    clock = Clock(output / "timings.json")
    seed = ["--seed", str(arguments.seed), "--disable_tqdm", "False"]

    def stage2(source: str, target: str, *options: str) -> Callable[[], None]:
        command = [str(recipe / "stage2.yaml"), "--model", str(models / source), "--data", str(data)]
        return lambda: train_stage2.main([*command, "--output_dir", str(models / target), *seed, *options])

    size = "fast" if arguments.fast else "full"
    clock.step("render the data", lambda: write_dataset(data, size, arguments.seed))
    backbone = [
        str(recipe / "backbone.yaml"),
        "--texts",
        str(data / "texts_train.jsonl"),
        "--seed",
        str(arguments.seed),
    ]
    backbone += ["--pairs", str(data / "pretrain.jsonl"), "--patches", str(data / "patches.jsonl")]
    backbone += ["--output", str(output / "backbone")]
    clock.step("build and pre-train the backbone", lambda: tiny_backbone.main(backbone))
    clock.step("take it as it is (base)", lambda: save_base(output / "backbone", models / "base"))
    stage1 = [str(recipe / "stage1.yaml"), "--model", str(models / "base")]
    stage1 += ["--texts", str(data / "texts_train.jsonl"), "--output_dir", str(models / "stage1"), *seed]
    clock.step("stage 1", lambda: train_stage1.main(stage1))
    clock.step("stage 2", stage2("stage1", "unime"))
    # InfoNCE takes all negatives: the recipe's number of hard ones goes back to its default, as if it were not given.
    default = str(HardNegativeConfig.num_hard_negatives)
    plain = ["--loss_type", "info_nce", "--use_row_negatives", "False", "--num_hard_negatives", default]
    clock.step("the VLM2Vec recipe", stage2("base", "vlm2vec", *plain))
    for name in MODELS:
        options = EvaluationArguments(
            model=str(models / name), data=[str(data), str(data / "sts_eval.jsonl")], output=str(results / name)
        )
        clock.step(f"evaluate {name}", lambda options=options: evaluate(options))

    columns = [f"{label}={results / name / 'results.json'}" for name, label in MODELS.items()]
    write_atomically(output / "table.md", make_table(read_runs(columns)))
    exported = output / "unime-tiny"
    export_arguments = ExportArguments(
        model=str(models / "unime"),
        output=str(exported),
        results=columns,
        limits="A toy: a tiny model that the demo made and that has seen nothing but its rendered scenes. Its teacher all-MiniLM-L6-v2 is Apache-2.0.",
    )
    shutil.rmtree(exported, ignore_errors=True)  # of an earlier run
    clock.step("export the Hub folder", lambda: export(export_arguments))
    found = []
    clock.step("search in a fresh process", lambda: found.extend(search(exported, data / "images.zip")))
    write_atomically(output / "search.json", to_json(found))
    summary = {"seed": arguments.seed, "runs": 1, "size": size, "total_seconds": round(sum(clock.seconds.values()), 1)}
    write_atomically(
        output / "summary.json", to_json({**summary, **environment(UniMEModel.from_pretrained(exported).device)})
    )
    clock.step("write the report", lambda: write_report(output, exported="unime-tiny"))
    print((output / "table.md").read_text(encoding="utf-8"))
    return output / "report.html"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the demo; the last line printed is the path of the report."""
    (arguments,) = parse_dataclasses(
        (DemoArguments,), argv, prog="python -m examples.demo", description=__doc__.partition("\n")[0]
    )
    print(run(arguments))


if __name__ == "__main__":
    main()
