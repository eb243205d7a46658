# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Every option of the library's Trainer has an effect here, or is refused before anything is read."""

import dataclasses
import json
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
from accelerate import ParallelismConfig
from tiny_models import write_pairs
from transformers import TrainingArguments

import trainers.train_stage1
import trainers.train_stage2
from trainers.distillation_config import DistillationConfig
from trainers.hard_negative_config import HardNegativeConfig
from trainers.inherited_options import REFUSED, REFUSED_VALUES, WORKS

sys.path.insert(0, str(Path(__file__).parent))
from training_worker import Run, build, history_of  # noqa: E402

# A value other than the default of each refused option, as it is written on the command line.
OTHER_VALUES = {
    "eval_strategy": "steps",
    "eval_steps": "5",
    "eval_delay": "1",
    "per_device_eval_batch_size": "4",
    "eval_accumulation_steps": "2",
    "eval_do_concat_batches": "false",
    "include_for_metrics": "loss",
    "metric_for_best_model": "accuracy",
    "train_sampling_strategy": "group_by_length",
    "length_column_name": "words",
    "dataloader_drop_last": "false",
    "dataloader_in_order": "false",
    "label_smoothing_factor": "0.1",
    "label_names": "labels",
    "torch_compile_backend": "inductor",
    "torch_compile_mode": "default",
    "accelerator_config": '{"split_batches": true}',
    "average_tokens_across_devices": "false",
    "optim_target_modules": "all-linear",
    "torch_empty_cache_steps": "5",
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    write_pairs(folder)
    return folder


def start(main, *options: str) -> None:
    main(["--model", "absent", "--output_dir", "absent", "--use_cpu", "true", *options])


def test_every_option_of_the_library_is_decided_on():
    names = {entry.name for entry in fields(TrainingArguments)}
    assert names - WORKS - set(REFUSED) == set(), "decide on these in trainers/inherited_options.py"
    assert (WORKS | set(REFUSED)) - names == set(), "the library no longer has these"
    assert WORKS & set(REFUSED) == set() and set(REFUSED_VALUES) <= WORKS


@pytest.mark.parametrize("name", sorted(set(REFUSED) - {"parallelism_config", "liger_kernel_config"}))
def test_an_option_without_effect_is_refused_by_name(name, capsys):
    with pytest.raises(SystemExit) as ended:
        start(trainers.train_stage2.main, "--data", "absent", f"--{name}", OTHER_VALUES.get(name, "true"))
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"error: {name} " in said and "does not work here: " in said


def test_an_option_that_the_command_line_cannot_give_is_refused_too(tmp_path):
    for name, value in (("liger_kernel_config", {"rope": True}), ("parallelism_config", ParallelismConfig())):
        with pytest.raises(ValueError, match=f"^{name} does not work here"):
            HardNegativeConfig(output_dir=str(tmp_path), use_cpu=True, **{name: value})


@pytest.mark.parametrize(
    "name, value, why",
    [
        ("do_train", "false", "this command trains"),
        ("hub_strategy", "every_save", "pushed once, at the end"),
        ("optim", "lomo", "gradient cache does not allow"),
        ("optim", "galore_adamw", "gradient cache does not allow"),
    ],
)
def test_a_value_without_effect_is_refused(name, value, why, capsys):
    with pytest.raises(SystemExit):
        start(trainers.train_stage1.main, "--texts", "absent", f"--{name}", value)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"error: {name} " in said and why in said


@pytest.mark.parametrize("options", [("--eval_strategy", "steps"), ("--eval_on_start", "true")])
def test_a_command_has_nothing_to_evaluate(options):
    with pytest.raises(ValueError, match="eval_strategy and eval_tasks go together"):
        start(trainers.train_stage2.main, "--data", "absent", "--eval_steps", "5", *options)


@pytest.mark.parametrize("kind", [HardNegativeConfig, DistillationConfig])
def test_options_left_alone_are_not_refused(kind, tmp_path):
    config = kind(output_dir=str(tmp_path), use_cpu=True)
    assert dataclasses.replace(config, seed=7).seed == 7, "also as the library has put them once"


def test_a_recipe_that_saves_nothing(tmp_path, backbones, pairs):
    """YAML reads a bare `no` as false."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("save_strategy: no\nfsdp: no\nbf16: no\nuse_cpu: yes\nreport_to: none\ndisable_tqdm: yes\n")
    options = ["--model", str(backbones["llava_next"]), "--data", str(pairs), "--output_dir", str(tmp_path / "out")]
    trainers.train_stage2.main([str(recipe), *options, "--max_steps", "1", "--per_device_train_batch_size", "4"])
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_a_log_that_is_switched_off(backbones, pairs):
    run = Run("stage2", str(backbones["llava_next"]), str(pairs), steps=2, options={"logging_strategy": "no"})
    trainer = build(run)
    trainer.train()
    assert history_of(trainer) == []


def test_noise_on_the_embeddings_changes_the_loss(backbones, pairs):
    run = Run("stage2", str(backbones["llava_next"]), str(pairs), steps=1, chunk=3)
    losses = []
    for options in ({}, {"neftune_noise_alpha": 5.0}):
        trainer = build(replace(run, options=options))
        trainer.train()
        losses.append(history_of(trainer)[0]["loss"])
    assert abs(losses[0] - losses[1]) > 1e-3


def test_a_way_to_start_workers_that_does_not_exist(backbones, pairs):
    options = {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "teleport"}
    trainer = build(Run("stage2", str(backbones["llava_next"]), str(pairs), steps=1, options=options))
    with pytest.raises(ValueError, match="teleport"):
        trainer.train()


@pytest.fixture(scope="module")
def first_run(tmp_path_factory, backbones, pairs) -> tuple[Path, list[str]]:
    """A finished run of six steps with its checkpoints of steps 2, 4 and 6, and its options."""
    output = tmp_path_factory.mktemp("runs") / "first"
    options = ["--model", str(backbones["llava_next"]), "--data", str(pairs), "--max_steps", "6", "--save_steps", "2"]
    options += ["--save_total_limit", "9", "--per_device_train_batch_size", "4", "--use_cpu", "true"]
    options += ["--logging_steps", "1", "--learning_rate", "1e-2", "--report_to", "none", "--disable_tqdm", "true"]
    trainers.train_stage2.main([*options, "--output_dir", str(output)])
    return output, options


def losses_of(folder: Path) -> list[float]:
    record = json.loads((folder / "training_record.json").read_text())
    return [entry["loss"] for entry in record["log_history"] if "loss" in entry]


def test_resumption_from_a_named_checkpoint(first_run, tmp_path, caplog):
    output, options = first_run
    named = str(output / "checkpoint-4")
    trainers.train_stage2.main([*options, "--output_dir", str(tmp_path), "--resume_from_checkpoint", named])
    assert f"continuing from {named}" in caplog.text
    assert losses_of(tmp_path) == losses_of(output)
    assert not (tmp_path / "checkpoint-2").exists() and not (tmp_path / "checkpoint-4").exists()
    # Stopped and started again with the same command, it goes on from its own.
    (tmp_path / "training_record.json").unlink()
    caplog.clear()
    trainers.train_stage2.main([*options, "--output_dir", str(tmp_path), "--resume_from_checkpoint", named])
    assert f"continuing from {tmp_path / 'checkpoint-6'}" in caplog.text


def test_a_checkpoint_that_is_not_there_is_refused_before_anything_is_read(first_run, tmp_path):
    output, options = first_run
    for named in (tmp_path / "absent", output):
        with pytest.raises(ValueError, match="is no complete checkpoint"):
            trainers.train_stage2.main(
                [*options, "--output_dir", str(tmp_path / "out"), "--resume_from_checkpoint", str(named)]
                + ["--data", "absent"]
            )
