# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Both stages against their baselines on really pretrained parts, `examples.small_real`: real data, several seeds.

    python -m benchmarks.real_study --data DATA      # trains what is not trained yet, then writes the tables
    python -m benchmarks.real_study --report True    # the tables only, from the result files

`DATA` is a folder with `multi30k_en/triplets_train.jsonl.gz`, `nli_triplets/train.jsonl`, `sick/pairs_test.jsonl`,
`stsb_en/{dev,test}.jsonl` and, in sub-folders, `train_*.jsonl` and `eval_*.jsonl` in MMEB's form.

- Equal compute: the runs of a stage start from one model, see the same rows and make the same number of steps. A seed
  is that of LoRA's weights and of the order of the rows. The learning rates of stage 1 and of E5-V are chosen on STS-B dev.
- What the frozen tower and projector make of a picture is computed once for all runs.
- A finished run is one JSON file with the value of every row, so that differences get paired intervals.
"""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.real_report import DEV, ENDS, Result, best_rate, read_results, write_report
from evaluation.encoder import Encoder
from evaluation.load import load_task
from evaluation.report import environment, to_json
from evaluation.task import Task
from evaluation.vectors import Vectors
from examples.small_real import backbone
from modeling_unime import UniMEModel, UniMEProcessor
from trainers import DistillationConfig, DistillationTrainer, HardNegativeConfig, HardNegativeTrainer
from trainers.data.mmeb import load_mmeb_train
from trainers.data.texts import load_texts
from trainers.teachers.load import TeacherArguments
from unime.files import write_atomically
from unime.options import parse_dataclasses

TRIPLETS = ("multi30k_en/triplets_train.jsonl.gz", "nli_triplets/train.jsonl")
PAIRS = ("stsb_en/test.jsonl", "sick/pairs_test.jsonl")
SUGARCREPE = "coco_tiny/eval_sugarcrepe.jsonl"
NO_FILTER = 2.0  # cosines are never further apart
# They say where the study reads and writes and which runs it has, not how a run goes.
STUDY_OPTIONS = frozenset("data work results documents report seeds learning_rates".split())
STAGE2_OPTIONS = frozenset(
    "rows steps batch_size learning_rate temperature num_hard_negatives false_negative_margin".split()
)


@dataclass
class RealStudyArguments:
    """What to run."""

    data: str | None = field(default=None, metadata={"help": "Folder of the sets; without it nothing is run."})
    work: str = field(default="outputs/real_study", metadata={"help": "Folder of the models; can be deleted."})
    results: str = field(
        default="benchmarks/results/real_study", metadata={"help": "Folder with one file per finished run."}
    )
    documents: str = field(
        default="docs", metadata={"help": "Folder of stage1.md and stage2.md, which get the tables."}
    )
    report: bool = field(default=False, metadata={"help": "Write the tables from the result files."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of training."})
    learning_rates: list[float] = field(
        default_factory=lambda: [5e-4, 1e-3],
        metadata={"help": "Peak learning rates of stage 1 and E5-V, tried with the first seed."},
    )
    sets: list[str] = field(
        default_factory=lambda: ["cifar10", "clothing_small", "coco_tiny", "emoji_fx", "grocery"],
        metadata={"help": "Folders of the sets with pictures."},
    )
    num_layers: int = field(default=8, metadata={"help": "Layers of the LLM, of 30."})
    text_rows: int = field(default=700, metadata={"help": "Rows of each file of triplets."})
    text_steps: int = field(default=20, metadata={"help": "Steps of stage 1 and of E5-V."})
    texts_per_step: int = field(default=48, metadata={"help": "Texts of such a step; a third of it in triplets."})
    teacher: str = field(default="all-MiniLM-L6-v2", metadata={"help": "Text-embedding teacher."})
    rows: int = field(default=80, metadata={"help": "Rows drawn from each training file of stage 2."})
    steps: int = field(default=45, metadata={"help": "Steps of stage 2."})
    batch_size: int = field(default=32, metadata={"help": "Rows of a step of stage 2."})
    learning_rate: float = field(default=4e-4, metadata={"help": "Peak learning rate of stage 2, for all methods."})
    temperature: float = field(default=0.03, metadata={"help": "Temperature of stage 2, for all methods."})
    num_hard_negatives: int = field(default=8, metadata={"help": "k of UniME, as in the paper."})
    false_negative_margin: float = field(default=0.1, metadata={"help": "beta of UniME, as in the paper."})
    eval_rows: int = field(default=60, metadata={"help": "Rows drawn from each evaluation file of pictures."})
    pair_rows: int = field(default=500, metadata={"help": "Rows drawn from each file of sentence pairs."})

    def settings(self, texts_alone: bool = False) -> dict[str, Any]:
        """What the numbers of a run depend on."""
        unused = STUDY_OPTIONS | (STAGE2_OPTIONS if texts_alone else frozenset())
        return {name: value for name, value in asdict(self).items() if name not in unused}


class Features(dict):
    """What a frozen tower and its projector make of pictures, by their pixels."""

    def give_to(self, model: UniMEModel) -> UniMEModel:
        """The model, which now computes only what is not there."""
        compute = model.model.get_image_features

        def features(pixel_values: torch.Tensor, **options):
            keys = [hash(picture.numpy().tobytes()) for picture in pixel_values]
            missing = {key: number for number, key in enumerate(keys) if key not in self}
            if missing:
                with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                    pixels = pixel_values[list(missing.values())].clone()
                    self.update(zip(missing, compute(pixels, **options).pooler_output, strict=True))
            return Pooled([self[key].float() for key in keys])

        model.model.get_image_features = features
        return model


@dataclass
class Pooled:
    """As much of the backbone's output as its forward reads."""

    pooler_output: list[torch.Tensor]


class Study:
    """All runs."""

    def __init__(self, arguments: RealStudyArguments):
        self.arguments = arguments
        self.data, self.work = Path(arguments.data), Path(arguments.work)
        self.features = Features()
        self.chosen_rates: dict[str, float] = {}

    def files(self, part: str) -> list[Path]:
        return [file for name in self.arguments.sets for file in sorted(self.data.glob(f"{name}/{part}_*.jsonl"))]

    def write_rows(self, file: Path, lines: Sequence[str], source: Path) -> Path:
        """A file with rows, beside the images of the file that they are from."""
        write_atomically(file, "".join(lines))
        images = file.parent / "images.zip"
        if (source.parent / images.name).is_file() and not images.is_symlink():
            images.symlink_to((source.parent / images.name).resolve())
        return file

    def drawn(self, source: Path, count: int) -> Path:
        """Rows drawn once for all runs: those of one class stand together in the source."""
        lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
        chosen = random.Random(0).sample(lines, min(count, len(lines)))
        return self.write_rows(self.work / "rows" / source.parent.name / source.name, chosen, source)

    def task(self, source: Path, count: int) -> Task:
        return load_task(self.drawn(source, count))

    @cached_property
    def text_tasks(self) -> list[Task]:
        return [self.task(self.data / name, self.arguments.pair_rows) for name in PAIRS]

    @cached_property
    def dev_tasks(self) -> list[Task]:
        return [self.task(self.data / f"{DEV}.jsonl", self.arguments.pair_rows)]

    @cached_property
    def picture_tasks(self) -> list[Task]:
        files = self.files("eval")
        tasks = [self.task(file, 10**6 if file.match(SUGARCREPE) else self.arguments.eval_rows) for file in files]
        return [*tasks, load_task(self.other_pictures())] if (self.data / SUGARCREPE) in files else tasks

    def other_pictures(self) -> Path:
        """SugarCrepe with the pictures of other rows, as a control: who looks at them is right half of the time.

        Whether both captions of a row end alike, in a full stop and without white space, is noted beside the results.
        """
        source = self.data / SUGARCREPE
        drawn = self.drawn(source, 10**6)  # in the order of the rows with their own pictures
        rows = [json.loads(line) for line in drawn.read_text(encoding="utf-8").splitlines()]
        ends = [[(text.rstrip().endswith("."), text != text.rstrip()) for text in row["tgt_text"]] for row in rows]
        write_atomically(Path(self.arguments.results, ENDS), json.dumps([one == other for one, other in ends]) + "\n")
        column = "qry_img_path"
        pictures = sorted({row[column] for row in rows})
        for row in rows:
            row[column] = pictures[(pictures.index(row[column]) + len(pictures) // 2) % len(pictures)]
        file = self.work / "rows" / source.parent.name / "eval_sugarcrepe_other_picture.jsonl"
        return self.write_rows(file, [json.dumps(row) + "\n" for row in rows], source)

    @cached_property
    def base(self) -> Path:
        """The backbone, aligned on pictures of the training rows and saved as a UniME model; made once."""
        folder = self.work / "base"
        if not (folder / "tokenizer_config.json").is_file():
            made = backbone.build(
                backbone.SmallRealArguments(
                    str(self.work / "backbone"),
                    [str(path) for path in self.files("train")],
                    num_layers=self.arguments.num_layers,
                )
            )
            UniMEModel.from_backbone(str(made), trust_remote_code=True).save_pretrained(folder)
            UniMEProcessor.from_backbone(str(made), trust_remote_code=True).save_pretrained(folder)
        return folder

    @cached_property
    def processor(self) -> UniMEProcessor:
        return UniMEProcessor.from_pretrained(self.base)

    def load(self, folder: Path) -> UniMEModel:
        return self.features.give_to(UniMEModel.from_pretrained(folder, trust_remote_code=True))

    @cached_property
    def rows(self):
        """The rows of stage 2."""
        return load_mmeb_train([str(self.drawn(file, self.arguments.rows)) for file in self.files("train")])

    def options(self, name: str, seed: int, **more: Any) -> dict[str, Any]:
        return {
            "output_dir": str(self.work / name),
            "save_strategy": "no",
            "logging_steps": 5,
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "bf16": True,
            "seed": seed,
            **more,
        }

    def text_model(self, method: str, rate: float, seed: int) -> tuple[Path, list[dict]]:
        """Folder of a model after stage 1 or E5-V on the same rows, and the log."""
        folder, arguments = self.work / f"{method}-lr{rate:g}-seed{seed}", self.arguments
        if (folder / "log.json").is_file():
            return folder, json.loads((folder / "log.json").read_text(encoding="utf-8"))
        sources = [str(self.data / name) for name in TRIPLETS]
        common = {"lora_rank": 16, "learning_rate": rate, "temperature": 0.05, "max_steps": arguments.text_steps}
        options = self.options(folder.name, seed, **common)
        parts = {"model": UniMEModel.from_pretrained(self.base, trust_remote_code=True)}
        parts["processing_class"] = self.processor
        if method == "stage1":
            vectors = str(self.work / "teacher_vectors")
            config = DistillationConfig(
                **options, per_device_train_batch_size=arguments.texts_per_step, teacher_cache=vectors
            )
            texts = load_texts(sources, max_rows=arguments.text_rows)
            teacher = TeacherArguments(teacher=arguments.teacher).load(vectors, "cpu")
            trainer = DistillationTrainer(args=config, train_dataset=texts, teacher=teacher, **parts)
        else:
            size = arguments.texts_per_step // 3
            config = HardNegativeConfig(**options, loss_type="info_nce", per_device_train_batch_size=size)
            triplets = load_mmeb_train(sources, max_rows_per_source=arguments.text_rows)
            trainer = HardNegativeTrainer(args=config, train_dataset=triplets, **parts)
        trainer.train()
        trainer.save_model()
        write_atomically(folder / "log.json", json.dumps(trainer.state.log_history))
        return folder, trainer.state.log_history

    def picture_model(self, name: str, start: Path, seed: int, **more: Any) -> tuple[UniMEModel, list[dict]]:
        """A model after stage 2, and the log."""
        arguments = self.arguments
        config = HardNegativeConfig(
            **self.options(name, seed, **more),
            lora_rank=0,
            use_row_negatives=False,
            temperature=arguments.temperature,
            learning_rate=arguments.learning_rate,
            max_steps=arguments.steps,
            per_device_train_batch_size=arguments.batch_size,
        )
        parts = {"model": self.load(start), "processing_class": self.processor}
        trainer = HardNegativeTrainer(args=config, train_dataset=self.rows, **parts)
        trainer.train()
        shutil.rmtree(config.output_dir, ignore_errors=True)
        return trainer.model, trainer.state.log_history

    def score(self, model: UniMEModel, tasks: Sequence[Task]) -> dict[str, dict[str, Any]]:
        """Each set's figure and the values of its rows."""
        vectors = Vectors(batch_size=64)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors.encode(lambda: [task.index for task in tasks], lambda: Encoder(model, self.processor))
        found = {}
        for task in tasks:
            score = task.score(vectors.take(task.index, task.name))
            (metric,) = task.headline
            found[task.name] = {
                "form": task.form,
                "metric": metric,
                "value": score.metrics[metric],
                "chance": score.chance[metric],
                "rows": {name: " ".join(f"{value:.5g}" for value in rows) for name, rows in score.values.items()},
            }
        return found

    def run(
        self,
        method: str,
        seed: int,
        make: Callable[[], tuple[Any, list[dict]]],
        tasks: Sequence[str],
        prefix: str = "",
    ) -> Result:
        """The result of a run, from its file or made now."""
        file = Path(self.arguments.results, f"{prefix}{method}-seed{seed}.json")
        if file.is_file():
            return json.loads(file.read_text(encoding="utf-8"))
        print(f"{datetime.now(UTC):%H:%M:%S} {method}, seed {seed}", flush=True)
        model, log = make()
        model = self.load(model) if isinstance(model, Path) else model
        scores = self.score(model.eval(), [task for name in tasks for task in getattr(self, name)])
        result = {
            "method": method,
            "seed": seed,
            "settings": self.arguments.settings(method in ("base", "stage1", "e5v") or "-lr" in method),
            "scores": scores,
            "losses": [[entry["step"], entry["loss"]] for entry in log if "loss" in entry],
            "training_seconds": next((entry["train_runtime"] for entry in log if "train_runtime" in entry), None),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **environment(torch.device("cpu")),
        }
        write_atomically(file, to_json(result))
        return result

    def run_texts(self) -> None:
        """E5-V and stage 1: their learning rates with the first seed, then the chosen ones with all."""
        first, *_ = self.arguments.seeds
        self.run("base", 0, lambda: (self.base, []), ["text_tasks", "dev_tasks"])
        for method in ("stage1", "e5v"):
            tried = {}
            for rate in self.arguments.learning_rates:
                make = lambda rate=rate: self.text_model(method, rate, first)  # noqa: B023, E731
                tried[rate] = self.run(f"{method}-lr{rate:g}", first, make, ["dev_tasks"])
            self.chosen_rates[method] = best_rate(tried)
        for seed in self.arguments.seeds:
            for method, rate in self.chosen_rates.items():
                make = lambda rate=rate: self.text_model(method, rate, seed)  # noqa: B023, E731
                self.run(method, seed, make, ["text_tasks"])

    def run_pictures(self) -> None:
        """Every row of the table of stage 2, those of the first question with all seeds before the others."""
        k, beta = self.arguments.num_hard_negatives, self.arguments.false_negative_margin
        own = {"num_hard_negatives": k, "false_negative_margin": beta}
        everything = ["text_tasks", "picture_tasks"]

        def stage1(seed: int) -> tuple[Path, list[dict]]:
            return self.text_model("stage1", self.chosen_rates["stage1"], seed)

        for seed in self.arguments.seeds:
            vlm2vec = lambda: self.picture_model("vlm2vec", self.base, seed, loss_type="info_nce")  # noqa: B023, E731
            self.run("vlm2vec", seed, vlm2vec, everything)
            unime = lambda: self.picture_model("unime", stage1(seed)[0], seed, **own)  # noqa: B023, E731
            self.run("unime", seed, unime, everything)
        self.run("base", 0, lambda: (self.base, []), ["picture_tasks"], "pictures_")
        for seed in self.arguments.seeds:
            self.run("stage1", seed, lambda: stage1(seed), ["picture_tasks"], "pictures_")  # noqa: B023
            for name, change in {
                "unime_stage2": {},
                "unime_all_negatives": {"num_hard_negatives": self.arguments.batch_size},
                "unime_no_filter": {"false_negative_margin": NO_FILTER},
            }.items():
                make = lambda: self.picture_model(name, self.base, seed, **own | change)  # noqa: B023, E731
                self.run(name, seed, make, everything)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, then make the tables; the last line printed is where they are."""
    (arguments,) = parse_dataclasses(
        (RealStudyArguments,), argv, prog="python -m benchmarks.real_study", description=__doc__.partition("\n")[0]
    )
    if arguments.data:
        read_results(
            Path(arguments.results), arguments.settings()
        )  # other settings are refused before anything is trained
        study = Study(arguments)
        study.run_texts()
        study.run_pictures()
    if arguments.report:
        write_report(Path(arguments.documents), Path(arguments.results))
    print(arguments.documents if arguments.report else arguments.results)


if __name__ == "__main__":
    main()
