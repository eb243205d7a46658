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
- Both methods are tried at the same learning rates. What later runs need to know of earlier ones (learning rate and
  temperature of stage 1) is chosen on STS-B dev; the two test sets are read and never chosen by.
- A finished run is one JSON file, written whole. Killed at any time, the program goes on with the run it was at.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.stage1_report import DEV, TESTS, Choice, Results, Variant, write_report
from evaluation.arguments import EvaluationArguments
from evaluation.report import to_json
from evaluation.run import evaluate
from examples import tiny_backbone
from modeling_unime import UniMEModel, UniMEProcessor
from trainers import train_stage1, train_stage2
from trainers.distillation_config import DistillationConfig
from unime.files import write_atomically
from unime.options import parse_dataclasses

RECIPES = Path(__file__).resolve().parent.parent / "examples" / "recipes" / "tiny-cpu"
TRIPLETS = ("multi30k_en/triplets_train.jsonl.gz", "nli_triplets/train.jsonl")
UNPAIRED = ("sick/pairs_train.jsonl::sentence1,sentence2", "stsb_en/train.jsonl::sentence1,sentence2")
DEFAULT_TEMPERATURE = DistillationConfig.temperature
# They say where the study reads and writes and which runs it has, not how a run goes: more of them can be added later.
STUDY_OPTIONS = frozenset(
    "data work results document report seeds learning_rates temperatures teacher_factors".split()
)


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
    learning_rates: list[float] = field(
        default_factory=lambda: [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3],
        metadata={"help": "Peak learning rates at which both are tried."},
    )
    temperatures: list[float] = field(
        default_factory=lambda: [0.02, 0.05, 0.1], metadata={"help": "Temperatures of stage 1."}
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
        """What the numbers of every run depend on."""
        return {name: value for name, value in asdict(self).items() if name not in STUDY_OPTIONS}


def e5v(arguments: StudyArguments, rate: float) -> Variant:
    """E5-V at a learning rate."""
    options = {"loss_type": "info_nce", "per_device_train_batch_size": arguments.texts_per_step // 3}
    return Variant("e5v", f"e5v-lr{rate:g}", f"E5-V, learning rate {rate:g}", {**options, "learning_rate": rate})


def stage1(arguments: StudyArguments, rate: float, temperature: float, include_self: bool = False) -> Variant:
    """Stage 1 as it is, at a learning rate and a temperature."""
    options = {
        "per_device_train_batch_size": arguments.texts_per_step,
        "teacher": arguments.teacher,
        "learning_rate": rate,
        "temperature": temperature,
        "include_self": include_self,
    }
    name = f"stage1-lr{rate:g}-t{temperature:g}{'-diagonal' if include_self else ''}"
    return Variant("stage1", name, f"stage 1, learning rate {rate:g}, temperature {temperature:g}", options)


def other_readings(arguments: StudyArguments, base: Variant) -> list[Variant]:
    """Stage 1 with another direction or temperature of the teacher, or with more texts."""
    changes = [(name, name, {"direction": name}) for name in ("student_to_teacher", "symmetric")]
    for factor in arguments.teacher_factors:
        teacher = factor * base.options["temperature"]
        label = f"teacher_to_student, teacher at {teacher:g}"
        changes.append((f"teacher{teacher:g}", label, {"teacher_temperature": teacher}))
    variants = [
        Variant("direction", f"{base.name}-{suffix}", label, {**base.options, **change})
        for suffix, label, change in changes
    ]
    label = f"{base.label}, with unpaired sentences"
    return [*variants, Variant("sentences", f"{base.name}-sentences", label, base.options)]


def make_plan(arguments: StudyArguments) -> tuple[list[Variant], Choice]:
    """All variants that can be named so far, in the order of the tables, and what STS-B dev has chosen so far."""
    at_rates = [stage1(arguments, rate, DEFAULT_TEMPERATURE) for rate in arguments.learning_rates]
    variants = [Variant("base", "base", "backbone, not trained", None)]
    variants += [e5v(arguments, rate) for rate in arguments.learning_rates] + at_rates
    best = best_on_dev(arguments, at_rates)
    if best is None:
        return variants, Choice(None, None)
    rate = best.options["learning_rate"]
    at_temperatures = [stage1(arguments, rate, temperature) for temperature in arguments.temperatures]
    variants += at_temperatures + [
        stage1(arguments, rate, temperature, True) for temperature in arguments.temperatures
    ]
    best = best_on_dev(arguments, at_temperatures)
    if best is not None:
        variants += other_readings(arguments, best)
    distinct = {variant.name: variant for variant in variants}
    return list(distinct.values()), Choice(rate, best.options["temperature"] if best else None)


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


def best_on_dev(arguments: StudyArguments, variants: Sequence[Variant]) -> Variant | None:
    """The variant that is best on STS-B dev, over all seeds; None before all its runs are finished."""
    results = read_results(arguments, variants)
    if any(len(runs) < len(arguments.seeds) for runs in results.values()):
        return None
    return max(variants, key=lambda variant: sum(run["scores"][DEV] for run in results[variant.name]))


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
    texts = [f"{arguments.data}/{name}" for name in TRIPLETS]
    texts += [f"{arguments.data}/{name}" for name in UNPAIRED if variant.kind == "sentences"]
    options = {
        "model": backbone,
        "output_dir": folder,
        "max_rows_per_source": arguments.rows_per_source,
        "max_steps": arguments.steps,
        "save_strategy": "no",
        "logging_steps": max(arguments.steps // 10, 1),
        "report_to": "none",
        "disable_tqdm": True,
        "seed": seed,
        **variant.options,
    }
    recipe = RECIPES / ("e5v_stage1.yaml" if variant.kind == "e5v" else "stage1.yaml")
    if variant.kind == "e5v":
        main, data = train_stage2.main, "--data"
    else:
        main, data = train_stage1.main, "--texts"
        options |= {"teacher_cache": Path(arguments.work, "teacher_vectors"), "teacher_device": "cpu"}
    main([str(recipe), *(f"--{name}={value}" for name, value in options.items()), data, *texts])
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
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
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
    variants, choice = make_plan(arguments)
    read_results(arguments, variants)  # other settings are refused before anything is trained
    finished: list[Variant] = []
    while not arguments.report and variants != finished:
        run_all(arguments, variants)
        finished = variants
        variants, choice = make_plan(arguments)  # results may have named more
    write_report(Path(arguments.document), variants, read_results(arguments, variants), choice)
    print(arguments.document)


if __name__ == "__main__":
    main()
