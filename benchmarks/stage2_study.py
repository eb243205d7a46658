# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 2 on small real sets: base, stage 1, VLM2Vec's recipe, UniME's stage 2 with and without stage 1; sweeps of k, beta.

    python -m benchmarks.stage2_study --data DATA --report docs/stage2.md
    python -m benchmarks.stage2_study --report docs/stage2.md

DATA is a folder of sets as the README describes it. Every method starts from the same pre-trained tiny backbone of its
seed and takes the same number of steps on the same batches. Stopped at any time, it goes on where it was.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.study import Result, machines_of, once, run_command, table_of_runs
from evaluation.averages import summarise
from evaluation.report import environment
from evaluation.table import insert_between_markers
from unime.files import write_atomically
from unime.options import parse_dataclasses

RECIPES = Path(__file__).resolve().parent.parent / "examples" / "recipes" / "tiny-cpu"
RESULTS = Path(__file__).resolve().parent / "results" / "stage2_study"
KINDS = ("classification", "vqa", "retrieval", "grounding", "overall")
METHODS = {
    "base": "base (pre-trained only)",
    "stage1": "stage 1",
    "vlm2vec": "VLM2Vec recipe",
    "unime_stage2": "UniME, stage 2 only",
    "unime": "UniME, both stages",
}
# They say where the study reads and writes and which runs it has, not how a run goes.
STUDY_OPTIONS = frozenset("data work results report seeds sweep_seeds".split())
# As the paper's ablations (arXiv 2504.17432, Tables 4 and 5), around this study's own k.
NUM_HARD_NEGATIVES, MARGIN = 64, 0.1
SWEPT_K, SWEPT_MARGINS = (4, 8, 16, 32, 64), (-0.1, 0.0, 0.1, 0.2, 0.3)


@dataclass
class Stage2StudyArguments:
    """What to run."""

    data: str | None = field(default=None, metadata={"help": "Folder of the sets; without it nothing is run."})
    work: str = field(default="outputs/stage2_study", metadata={"help": "Folder of the models; can be deleted."})
    results: str = field(default=str(RESULTS), metadata={"help": "Folder of the result files."})
    report: str | None = field(
        default=None, metadata={"help": "Document whose tables are made from the result files."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of all methods."})
    sweep_seeds: list[int] = field(
        default_factory=lambda: [0], metadata={"help": "Seeds of the sweeps of k and beta."}
    )
    hidden_size: int = field(default=128, metadata={"help": "Width of the backbone's LLM."})
    backbone_steps: int = field(default=800, metadata={"help": "Pre-training steps of the backbone."})
    stage1_steps: int = field(default=100, metadata={"help": "Steps of stage 1."})
    steps: int = field(default=150, metadata={"help": "Steps of stage 2."})
    learning_rate: float = field(default=2e-3, metadata={"help": "Peak learning rate of stage 2, for all methods."})
    batch_size: int = field(default=64, metadata={"help": "Rows of a step of stage 2."})
    eval_rows: int = field(
        default=100, metadata={"help": "Rows of each image set that are evaluated, drawn once for all runs; 0: all."}
    )


class Study:
    """The runs of one seed.

    Args:
        arguments: Options.
        seed: Of weights and order.
    """

    def __init__(self, arguments: Stage2StudyArguments, seed: int):
        self.arguments = arguments
        self.seed = seed
        self.data = Path(arguments.data)
        self.work = Path(arguments.work, f"seed{seed}")

    def backbone(self) -> Path:
        """The pre-trained tiny model."""
        output = self.work / "backbone"
        run_command(
            "examples.tiny_backbone",
            RECIPES / "backbone.yaml",
            texts=self.texts(),
            pairs=sorted(self.data.glob("*/train_*.jsonl")),
            hidden_size=self.arguments.hidden_size,
            intermediate_size=2 * self.arguments.hidden_size,
            steps=self.arguments.backbone_steps,
            seed=self.seed,
            output=output,
        )
        return output

    def texts(self) -> list[Path]:
        return [self.data / "multi30k_en" / "triplets_train.jsonl.gz", self.data / "nli_triplets" / "train.jsonl"]

    def evaluation_sets(self) -> list[Path]:
        """Files with the rows that are evaluated, the same for every run, beside the images they name."""
        files = []
        for source in sorted(self.data.glob("*/eval_*.jsonl")):
            file = Path(self.arguments.work, "eval", source.parent.name, source.name)
            lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
            count = min(self.arguments.eval_rows or len(lines), len(lines))
            # Rows of one caption or class stand together in the files, so they are drawn, not taken from the top.
            write_atomically(file, "".join(random.Random(0).sample(lines, count)))
            images = file.parent / "images.zip"
            if not images.is_symlink():
                images.symlink_to((source.parent / "images.zip").resolve())
            files.append(file)
        return files

    def stage1(self) -> Path:
        """The backbone after stage 1."""
        output = self.work / "stage1"
        run_command(
            "trainers.train_stage1",
            RECIPES / "stage1.yaml",
            model=self.backbone(),
            texts=self.texts(),
            max_steps=self.arguments.stage1_steps,
            teacher_cache=Path(self.arguments.work, "teacher_vectors"),
            report_to="none",
            seed=self.seed,
            output_dir=output,
        )
        return output

    def stage2(self, name: str, start: Callable[[], Path], **options: object) -> Path:
        """A model after stage 2."""
        output = self.work / name
        run_command(
            "trainers.train_stage2",
            RECIPES / "stage2.yaml",
            model=start(),
            data=self.data,
            max_steps=self.arguments.steps,
            per_device_train_batch_size=self.arguments.batch_size,
            learning_rate=self.arguments.learning_rate,
            gradient_cache_chunk_size=0,  # a batch of this size fits into memory, so it is embedded once
            report_to="none",
            seed=self.seed,
            output_dir=output,
            **options,
        )
        return output

    def result(self, name: str, make_model: Callable[[], Path], **facts: object) -> Result:
        """The scores of a model, from its result file or made now."""

        def make() -> Result:
            model, output = make_model(), self.work / f"{name}-results"
            sets = [*self.evaluation_sets(), self.data / "stsb_en" / "test.jsonl"]
            run_command("evaluation.run", model=model, data=sets, output=output)
            scores = json.loads((output / "results.json").read_text(encoding="utf-8"))
            record = scores.get("training") or {}
            return {
                "method": name,
                "seed": self.seed,
                **facts,
                "summary": summarise(scores["data_sets"]),
                "seconds_of_training": record.get("seconds_since_start_or_resumption"),
                "final_loss": record.get("final_loss"),
                "settings": {
                    name: value for name, value in asdict(self.arguments).items() if name not in STUDY_OPTIONS
                },
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                **environment(torch.device("cpu")),
            }

        return once(Path(self.arguments.results, f"{name}-seed{self.seed}.json"), make)

    def run_methods(self) -> None:
        """Every row of the first table."""
        own = {"num_hard_negatives": NUM_HARD_NEGATIVES, "false_negative_margin": MARGIN}
        self.result("base", self.backbone)
        self.result("stage1", self.stage1)
        vlm2vec = {"loss_type": "info_nce", "use_row_negatives": False}
        self.result("vlm2vec", lambda: self.stage2("vlm2vec", self.backbone, **vlm2vec))
        self.result("unime_stage2", lambda: self.stage2("unime_stage2", self.backbone, **own))
        self.result("unime", lambda: self.stage2("unime", self.stage1, **own))

    def run_sweeps(self) -> None:
        """Every row of the other two tables but those that are UniME's own run."""
        for k in SWEPT_K:
            if k != NUM_HARD_NEGATIVES:
                self._sweep(f"k{k}", num_hard_negatives=k, false_negative_margin=MARGIN)
        for margin in SWEPT_MARGINS:
            if margin != MARGIN:
                self._sweep(f"beta{margin}", num_hard_negatives=NUM_HARD_NEGATIVES, false_negative_margin=margin)

    def _sweep(self, name: str, **options: float) -> None:
        self.result(name, lambda: self.stage2(name, self.stage1, **options), **options)


def read_results(folder: Path, names: Sequence[str]) -> list[Result]:
    """Results of all seeds of some runs."""
    files = [file for name in names for file in sorted(folder.glob(f"{name}-seed*.json"))]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _mean_of_kind(kind: str) -> Callable[[Result], float | None]:
    return lambda result: 100 * result["summary"]["mmeb"][kind]["metrics"]["precision@1"]


def _accuracy(result: Result) -> float | None:
    (content,) = result["summary"]["sugarcrepe"].values()
    return 100 * content["means"]["overall"]


COLUMNS: dict[str, Callable[[Result], float | None]] = {
    **{kind: _mean_of_kind(kind) for kind in KINDS},
    "SugarCrepe": _accuracy,
    "STS-B": lambda result: 100 * result["summary"]["sts"]["metrics"]["spearman"],
}


def report(document: Path, folder: Path) -> None:
    """Make the tables of a document from the result files."""
    groups = {title: read_results(folder, [name]) for name, title in METHODS.items()}
    every = [result for results in groups.values() for result in results]
    settings = every[-1]["settings"]
    chance = {kind: every[-1]["summary"]["mmeb"][kind]["chance"]["precision@1"] for kind in KINDS}
    chances = ", ".join(f"{kind} {100 * value:.1f}" for kind, value in chance.items())
    note = (
        f"\nMean P@1 of each kind of set, in per cent, mean ± standard deviation over the runs; {settings['steps']} steps of "
        f"{settings['batch_size']} rows, at most {settings['eval_rows']} rows of each image set (0: all). By chance: {chances}; SugarCrepe 50.0. "
        f"{machines_of(every)}\n"
    )
    insert_between_markers(document, "methods", table_of_runs(groups, COLUMNS, "method") + note)
    for marker, label, values, own in (
        ("k", "k", SWEPT_K, NUM_HARD_NEGATIVES),
        ("beta", "beta", SWEPT_MARGINS, MARGIN),
    ):
        groups = {
            str(value): read_results(folder, ["unime" if value == own else f"{marker}{value}"]) for value in values
        }
        seeds = {result["seed"] for value in values if value != own for result in groups[str(value)]}
        groups = {name: [result for result in results if result["seed"] in seeds] for name, results in groups.items()}
        every = [result for results in groups.values() for result in results]
        insert_between_markers(document, marker, table_of_runs(groups, COLUMNS, label) + f"\n{machines_of(every)}\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, then make the tables; the last line printed is what was written."""
    (arguments,) = parse_dataclasses(
        (Stage2StudyArguments,),
        argv,
        prog="python -m benchmarks.stage2_study",
        description=__doc__.partition("\n")[0],
    )
    if arguments.data:
        for seed in arguments.seeds:
            Study(arguments, seed).run_methods()
        for seed in arguments.sweep_seeds:
            Study(arguments, seed).run_sweeps()
    if arguments.report:
        report(Path(arguments.report), Path(arguments.results))
    print(arguments.report or arguments.results)


if __name__ == "__main__":
    main()
