# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Benchmark tasks during training: the figures of the evaluation, in the log, and for the choice of the best checkpoint."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from tiny_models import trainer_options

import trainers.train_stage2
from evaluation.encoder import Encoder
from evaluation.load import load_task
from trainers import HardNegativeConfig, HardNegativeTrainer

ROOT = Path(__file__).resolve().parents[2]
WORDS = "red green blue dog cat tree runs sleeps under over".split()
PAIRS = [{"query": f"{first} {second}", "positive": f"{second} {first}"} for first in WORDS for second in WORDS[:3]]


@pytest.fixture
def tasks(tmp_path, write_image) -> Path:
    """A folder with sentence pairs, and with rows of pictures and labels."""
    folder = tmp_path / "tasks"
    numbers = np.random.default_rng(0).permutation(24)
    pairs = [
        {"sentence1": f"{WORDS[i % 10]} {i}", "sentence2": f"{WORDS[i % 7]}", "score": int(numbers[i])}
        for i in range(24)
    ]
    labels = {"tgt_text": WORDS, "tgt_img_path": [""] * 10}
    rows = []
    for number in range(5):
        write_image(f"tasks/{number}.png", f"#{50 * number:02x}00ff")
        rows.append({"qry_text": "<|image_1|>\nWhich?", "qry_img_path": f"{number}.png", **labels})
    for name, content in (("eval_sts", pairs), ("eval_mmeb", rows)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return folder


def options(tmp_path, **more) -> dict:
    own = {
        "per_device_train_batch_size": 6,
        "per_device_eval_batch_size": 3,
        "num_hard_negatives": 2,
        "lora_dropout": 0.1,
    }
    return trainer_options(tmp_path, **own | more)


def make_trainer(backbones, args: dict, **more) -> HardNegativeTrainer:
    data = Dataset.from_list(PAIRS)
    return HardNegativeTrainer(str(backbones["llava_next"]), HardNegativeConfig(**args), train_dataset=data, **more)


def expected(trainer, file: Path, metric: str) -> float:
    encoder = Encoder(trainer.evaluation_model(), trainer.processing_class, batch_size=3)
    return load_task(file).evaluate(encoder).metrics[metric]


def test_the_best_checkpoint_is_that_of_a_tasks_figure(backbones, tmp_path, tasks):
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_tasks/sts_spearman", "save_total_limit": 4}
    steps = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1}
    sts, mmeb = tasks / "eval_sts.jsonl", tasks / "eval_mmeb.jsonl"
    trainer = make_trainer(backbones, options(tmp_path, **steps, **best), eval_tasks=[sts, load_task(mmeb)])
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "eval_tasks/sts_spearman" in entry]
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4]
    chosen = max(entries, key=lambda entry: entry["eval_tasks/sts_spearman"])
    assert trainer.state.best_metric == chosen["eval_tasks/sts_spearman"]
    assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{chosen['step']}")
    assert expected(trainer, sts, "spearman") == pytest.approx(chosen["eval_tasks/sts_spearman"], abs=1e-9)
    assert expected(trainer, mmeb, "precision@1") == chosen["eval_tasks/mmeb_precision@1"]

    plain = make_trainer(backbones, options(tmp_path, save_strategy="no"))
    plain.train()
    losses, others = (
        [entry["loss"] for entry in one.state.log_history if "loss" in entry] for one in (trainer, plain)
    )
    assert losses == others, "an evaluation changes nothing of the training"


def test_figures_stand_beside_those_of_rows_and_means_over_tasks(backbones, tmp_path, tasks):
    rows = Dataset.from_list(PAIRS[:7])
    trainer = make_trainer(backbones, options(tmp_path, eval_tasks=[str(tasks)]), eval_dataset=rows)
    copy = tasks / "eval_again.jsonl"
    found = trainer.evaluate()
    assert {"eval_loss", "eval_tasks/sts_spearman", "eval_tasks/mmeb_precision@1", "eval_runtime"} <= found.keys()
    assert "eval_tasks_spearman" not in found, "of one task"
    assert trainer.state.log_history[-1]["eval_tasks/sts_spearman"] == found["eval_tasks/sts_spearman"], "one entry"
    assert "eval_tasks/sts_spearman" not in trainer.evaluate(rows), "rows that are given are evaluated by themselves"
    copy.write_text((tasks / "eval_sts.jsonl").read_text().replace("dog", "other"))
    found = make_trainer(backbones, options(tmp_path, eval_tasks=[str(tasks)])).evaluate()
    assert found["eval_tasks_spearman"] == pytest.approx(
        (found["eval_tasks/sts_spearman"] + found["eval_tasks/again_spearman"]) / 2
    )
    assert "eval_loss" not in found
    (tasks / "eval_more.jsonl").write_text((tasks / "eval_mmeb.jsonl").read_text())
    suite = make_trainer(backbones, options(tmp_path, eval_tasks=["mmeb-mini", str(tasks)])).evaluate()
    assert suite["eval_mmeb-mini/tasks/more_precision@1"] == found["eval_tasks/mmeb_precision@1"]
    assert suite["eval_mmeb-mini_precision@1"] == suite["eval_tasks_precision@1"]
    assert suite["eval_tasks/sts_spearman"] == found["eval_tasks/sts_spearman"], "a file of no suite's form"


def test_a_collapsed_model_has_no_figures_and_goes_on(backbones, tmp_path, tasks, monkeypatch, caplog):
    trainer = make_trainer(backbones, options(tmp_path, eval_tasks=[str(tasks / "eval_sts.jsonl")]))
    embed = type(trainer).embed
    monkeypatch.setattr(type(trainer), "embed", lambda self, model, chunk: embed(self, model, chunk) * float("nan"))
    assert np.isnan(trainer.evaluate()["eval_tasks/sts_spearman"])


def test_two_ranks_give_the_figures_of_one_process(backbones, folder, tmp_path, tasks):
    def command(output: str, size: int) -> list[str]:
        values = {
            "model": backbones["llava_next"],
            "data": folder / "train_pairs.jsonl",
            "lora_rank": 0,
            **{name: value for name, value in options(tmp_path).items() if name != "lora_dropout"},
            "per_device_train_batch_size": 6 // size,
            "max_steps": 2,
            "eval_tasks": tasks,
            "eval_strategy": "steps",
            "eval_steps": 1,
            "eval_on_start": True,
            "output_dir": tmp_path / output,
        }
        return [f"--{name}={value}" for name, value in values.items()]

    trainers.train_stage2.main(command("alone", 1))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launcher += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", "-m", "trainers.train_stage2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, *command("both", 2)], check=True, env=environment, timeout=300, cwd=ROOT)
    alone, both = (
        [
            {name: value for name, value in entry.items() if "tasks/" in name}
            for entry in json.loads((tmp_path / output / "training_record.json").read_text())["log_history"]
            if "eval_tasks/sts_spearman" in entry
        ]
        for output in ("alone", "both")
    )
    assert len(alone) == 3 and alone[0] == both[0]
    for entry, other in zip(alone, both, strict=True):
        assert entry == pytest.approx(other, abs=0.02), "training itself rounds otherwise"
