# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 1 against its baseline and against its own other readings: real text, a tiny backbone, several seeds.

    python -m benchmarks.stage1_study --data DATA      # trains what is not trained yet, then writes the tables
    python -m benchmarks.stage1_study --report True    # the tables only, from the result files

`DATA` is a folder with `multi30k_en/triplets_train.jsonl.gz`, `nli_triplets/train.jsonl`, `sick/pairs_train.jsonl`,
`sick/pairs_test.jsonl` and `stsb_en/{train,dev,test}.jsonl`.

Design decisions:

- Equal compute: all runs of a seed start from one pre-trained backbone, encode the same number of texts in a step (E5-V:
  a third of it as triplets) and make the same number of steps.
- The same texts for stage 1 and E5-V, so that a difference is the loss's. What unpaired sentences add is a run of its own.
- What one run needs to know of others (the temperature at which directions are compared) is chosen on STS-B dev; the
  two test sets are read and never chosen by. E5-V is shown at several learning rates, stage 1 at one.
- A finished run is one JSON file, written whole. Killed at any time, the program goes on with the run it was at.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.stage1_report import BASE, DEV, DIRECTION, E5V, SENTENCES, TESTS, Results, Variant, write_report
from evaluation.arguments import EvaluationArguments
from evaluation.atomic import write_atomically
from evaluation.command_line import parse_dataclasses
from evaluation.report import to_json
from evaluation.run import evaluate
from examples import tiny_backbone
from modeling_unime import UniMEModel, UniMEProcessor
from trainers import train_stage1

RECIPES = Path(__file__).resolve().parent.parent / "examples" / "recipes" / "tiny-cpu"
TRIPLETS = ("multi30k_en/triplets_train.jsonl.gz", "nli_triplets/train.jsonl")
UNPAIRED = ("sick/pairs_train.jsonl::sentence1,sentence2", "stsb_en/train.jsonl::sentence1,sentence2")
RUN_OPTIONS = (
    "data",
    "work",
    "results",
    "document",
    "report",
    "seeds",
)  # say where and how many, not what is computed


@dataclass
class StudyArguments:
    """What is trained, on what, and where the results go."""

    data: str | None = field(default=None, metadata={"help": "Folder of the data sets. Not needed for --report."})
    work: str = field(
        default="outputs/stage1_study", metadata={"help": "Folder for backbones, teacher vectors and models."}
    )
    results: str = field(
        default="benchmarks/results/stage1_study", metadata={"help": "Folder with one file per finished run."}
    )
    document: str = field(default="docs/stage1.md", metadata={"help": "Markdown file that gets the tables."})
    report: bool = field(default=False, metadata={"help": "Train nothing; write the tables from the result files."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of backbone and training."})
    steps: int = field(default=100, metadata={"help": "Optimiser steps of every run."})
    texts_per_step: int = field(default=384, metadata={"help": "Texts encoded in a step; a third of it in triplets."})
    rows_per_source: int = field(default=12500, metadata={"help": "Rows used of each file of triplets."})
    learning_rate: float = field(default=2e-3, metadata={"help": "Peak learning rate of stage 1."})
    e5v_learning_rates: list[float] = field(
        default_factory=lambda: [1e-3, 2e-3, 4e-3], metadata={"help": "Peak learning rates at which E5-V is tried."}
    )
    temperatures: list[float] = field(
        default_factory=lambda: [0.02, 0.05, 0.1, 0.2], metadata={"help": "Temperatures of stage 1."}
    )
    teacher_factors: list[float] = field(
        default_factory=lambda: [0.5],
        metadata={"help": "Temperatures of the teacher alone, as multiples of the student's."},
    )
    teacher: str = field(default="all-MiniLM-L6-v2", metadata={"help": "Text-embedding teacher."})
    vocab_size: int = field(default=8192, metadata={"help": "Tokens of the backbone's lower-case vocabulary."})
    hidden_size: int = field(default=128, metadata={"help": "Width of the backbone's LLM."})
    num_layers: int = field(default=2, metadata={"help": "Layers of the backbone's LLM."})
    pretraining_steps: int = field(default=100, metadata={"help": "Steps in which the backbone learns to read."})

    def __post_init__(self):
        if self.texts_per_step % 3:
            raise ValueError(f"texts_per_step must be a multiple of 3, got {self.texts_per_step}")
        if not self.report and self.data is None:
            raise ValueError("data is needed: the folder of the data sets (or --report True for the tables alone)")

    @property
    def settings(self) -> dict:
        """What the numbers depend on, for the record."""
        return {name: value for name, value in asdict(self).items() if name not in RUN_OPTIONS}


def stage1(arguments: StudyArguments, name: str, label: str, sentences: bool = False, **options) -> Variant:
    """A variant of stage 1."""
    batch = {"per_device_train_batch_size": arguments.texts_per_step, "learning_rate": arguments.learning_rate}
    return Variant(name, label, {**batch, "teacher": arguments.teacher, **options}, sentences)


def stage1_at(arguments: StudyArguments, temperature: float, include_self: bool = False) -> Variant:
    """Stage 1 at a temperature, with or without the diagonal."""
    name = f"temperature-{temperature:g}{'-diagonal' if include_self else ''}"
    label = f"{temperature:g}, diagonal {'kept' if include_self else 'left out'}"
    return stage1(arguments, name, label, temperature=temperature, include_self=include_self)


def first_variants(arguments: StudyArguments) -> list[Variant]:
    """Those that depend on no result: the backbone, E5-V, stage 1 at each temperature."""
    variants = [Variant(BASE, "backbone, not trained", None)]
    for rate in arguments.e5v_learning_rates:
        options = {"loss_type": "contrastive", "learning_rate": rate}
        options["per_device_train_batch_size"] = arguments.texts_per_step // 3
        variants.append(Variant(f"{E5V}{rate:g}", f"E5-V, learning rate {rate:g}", options))
    variants += [stage1_at(arguments, temperature) for temperature in arguments.temperatures]
    return variants + [stage1_at(arguments, temperature, True) for temperature in arguments.temperatures]


def second_variants(arguments: StudyArguments, temperature: float) -> list[Variant]:
    """Those at the best temperature: other directions, other temperatures of the teacher, more texts."""
    changes = {"student_to_teacher": {"direction": "student_to_teacher"}, "symmetric": {"direction": "symmetric"}}
    for factor in arguments.teacher_factors:
        changes[f"teacher_to_student, teacher at {factor * temperature:g}"] = {
            "teacher_temperature": factor * temperature
        }
    variants = [
        stage1(arguments, f"{DIRECTION}{number}-at-{temperature:g}", label, temperature=temperature, **options)
        for number, (label, options) in enumerate(changes.items(), start=1)
    ]
    label = f"stage 1, temperature {temperature:g}, with unpaired sentences"
    return [*variants, stage1(arguments, f"{SENTENCES}{temperature:g}", label, True, temperature=temperature)]


def result_file(arguments: StudyArguments, variant: Variant, seed: int) -> Path:
    """Where a finished run is kept."""
    return Path(arguments.results, f"{variant.name}-seed{seed}.json")


def read_results(arguments: StudyArguments, variants: Sequence[Variant]) -> Results:
    """Finished runs by the variant's name, in the order of the seeds.

    Raises:
        ValueError: a file was made with other settings; names it and them.
    """
    found: Results = {variant.name: [] for variant in variants}
    for variant in variants:
        for file in (result_file(arguments, variant, seed) for seed in arguments.seeds):
            if not file.exists():
                continue
            result = json.loads(file.read_text(encoding="utf-8"))
            for name, value in arguments.settings.items():
                if result["settings"].get(name) != value:
                    raise ValueError(
                        f"{file} was made with {name} {result['settings'].get(name)!r}, not {value!r}. Give its settings, "
                        "or another folder as results."
                    )
            found[variant.name].append(result)
    return found


def best_temperature(arguments: StudyArguments) -> float | None:
    """The temperature without the diagonal that is best on STS-B dev; None before all its runs are finished."""
    variants = [stage1_at(arguments, temperature) for temperature in arguments.temperatures]
    results = read_results(arguments, variants)
    if any(len(runs) < len(arguments.seeds) for runs in results.values()):
        return None
    best = max(variants, key=lambda variant: sum(run["scores"][DEV] for run in results[variant.name]))
    return best.options["temperature"]


def make_backbone(arguments: StudyArguments, seed: int) -> Path:
    """The backbone of a seed, pre-trained on the texts alone and saved as a UniME model; made once."""
    folder = Path(arguments.work, f"base-seed{seed}")
    if (folder / "model.safetensors").exists() and (folder / "tokenizer_config.json").exists():
        return folder
    texts = [f"{arguments.data}/{name}::sent0,sent1,hard_neg" for name in TRIPLETS]
    texts += [f"{arguments.data}/{name}" for name in UNPAIRED]
    sizes = {"hidden_size": arguments.hidden_size, "intermediate_size": 2 * arguments.hidden_size}
    tower = {"image_size": 32, "patch_size": 32, "vision_hidden_size": 64, "vision_layers": 2}  # it sees nothing here
    backbone = tiny_backbone.BackboneArguments(
        texts=texts,
        output=str(Path(arguments.work, f"backbone-seed{seed}")),
        vocab_size=arguments.vocab_size,
        lowercase=True,
        num_layers=arguments.num_layers,
        steps=arguments.pretraining_steps,
        seed=seed,
        **sizes,
        **tower,
    )
    made = tiny_backbone.build(backbone)
    UniMEProcessor.from_backbone(made).save_pretrained(folder)
    UniMEModel.from_backbone(made).save_pretrained(folder)
    return folder


def train(arguments: StudyArguments, variant: Variant, seed: int, backbone: Path) -> Path:
    """Train one variant, through the command that a user would start; returns the model's folder."""
    folder = Path(arguments.work, f"{variant.name}-seed{seed}")
    contrastive = variant.options.get("loss_type") == "contrastive"
    texts = [f"{arguments.data}/{name}" for name in TRIPLETS]
    texts += [f"{arguments.data}/{name}" for name in UNPAIRED if variant.sentences]
    options = {
        "model": backbone,
        "output_dir": folder,
        "max_rows_per_source": arguments.rows_per_source,
        "max_steps": arguments.steps,
        "teacher_cache": Path(arguments.work, "teacher_vectors"),
        "teacher_device": "cpu",
        "save_strategy": "no",
        "logging_steps": max(arguments.steps // 10, 1),
        "report_to": "none",
        "disable_tqdm": True,
        "seed": seed,
        **variant.options,
    }
    recipe = RECIPES / ("e5v_stage1.yaml" if contrastive else "stage1.yaml")
    train_stage1.main([str(recipe), *(f"--{name}={value}" for name, value in options.items()), "--texts", *texts])
    return folder


def run(arguments: StudyArguments, variant: Variant, seed: int) -> None:
    """Train, evaluate and write down one run; do nothing if that is done."""
    file = result_file(arguments, variant, seed)
    if file.exists():
        return
    print(f"\n=== {variant.name}, seed {seed}", flush=True)
    backbone = make_backbone(arguments, seed)
    model = backbone if variant.options is None else train(arguments, variant, seed, backbone)
    evaluation = EvaluationArguments(
        model=str(model),
        data=[f"{arguments.data}/{name}.jsonl" for name in (DEV, *TESTS)],
        output=str(Path(arguments.work, "evaluation", file.stem)),
        batch_size=128,
        device="cpu",
    )
    scores = json.loads(evaluate(evaluation).read_text(encoding="utf-8"))
    record = Path(model, "training_record.json")
    record = json.loads(record.read_text(encoding="utf-8")) if variant.options is not None else {}
    history = [entry for entry in record.get("log_history", []) if "loss" in entry]
    result = {
        "variant": variant.name,
        "seed": seed,
        "options": variant.options,
        "settings": arguments.settings,
        "scores": {entry["name"]: entry["metrics"]["spearman"] for entry in scores["data_sets"]},
        "training_seconds": record.get("seconds_since_start_or_resumption"),
        "last": history[-1] if history else None,
        "losses": [[entry["step"], entry["loss"]] for entry in history],
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": scores["versions"],
        "hardware": scores["hardware"],
    }
    write_atomically(file, to_json(result))
    if variant.options is not None:
        shutil.rmtree(model)


def run_all(arguments: StudyArguments, variants: Sequence[Variant]) -> None:
    """Every variant with every seed; what is finished is not repeated."""
    for seed in arguments.seeds:
        for variant in variants:
            run(arguments, variant, seed)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is left, then write the tables; the last line printed is the document."""
    (arguments,) = parse_dataclasses(
        (StudyArguments,), argv, prog="python -m benchmarks.stage1_study", description=__doc__.partition("\n")[0]
    )
    variants = first_variants(arguments)
    read_results(arguments, variants)  # other settings are refused before anything is trained
    if not arguments.report:
        run_all(arguments, variants)
    temperature = best_temperature(arguments)
    if temperature is not None:
        variants += second_variants(arguments, temperature)
        if not arguments.report:
            run_all(arguments, variants)
    write_report(Path(arguments.document), variants, read_results(arguments, variants), temperature)
    print(arguments.document)


if __name__ == "__main__":
    main()
