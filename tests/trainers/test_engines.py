# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Every engine, on two processes: the losses of one process, an exact continuation, the same finished model.

All runs of an engine share one pair of processes. What a combination of options is compared with is the run of one
process with the batch of both.
"""

import copy
import gc
import itertools
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import write_pairs

import trainers.train_stage2
from modeling_unime import UniMEModel
from modeling_unime.saved_folder import digest_weights, read_digest
from trainers.engines import ENGINES, engine_of, find_conflict

sys.path.insert(0, str(Path(__file__).parent))
from training_worker import Run, do, make_texts, stop_and_continue  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("stage1", "stage2")
CHUNKS = {"stage1": 3, "stage2": 7}  # several chunks for each of the two processes, the last one smaller
PRECISIONS = ("float32", "bf16", "fp16")
TESTED = ("float32", "bf16")  # fp16 does not exist on the CPUs that the tests run on
TOLERANCE = {"float32": 1e-5, "bf16": 0.05}  # of a loss, relative to it; DeepSpeed and FSDP2 have all weights in bf16


def zero_config(stage: int) -> dict:
    """The shipped file. ZeRO-3 keeps weights as small as those of a tiny model whole, unless it is told not to."""
    config = json.loads((ROOT / f"examples/recipes/deepspeed_zero{stage}.json").read_text())
    if stage == 3:
        names = ("stage3_param_persistence_threshold", "stage3_max_live_parameters", "stage3_max_reuse_distance")
        config["zero_optimization"] |= dict.fromkeys(names, 0)
    return config


OPTIONS = {"ddp": {}, "zero2": {"deepspeed": zero_config(2)}, "zero3": {"deepspeed": zero_config(3)}}
OPTIONS["fsdp2"] = {"fsdp": True}
CLASSES = {
    "ddp": "DistributedDataParallel",
    "zero2": "DeepSpeedEngine 2",
    "zero3": "DeepSpeedEngine 3",
    "fsdp2": "FSDP",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("engines")
    lines = write_pairs(path).read_text().splitlines(keepends=True)
    rows = [json.dumps({"qry": f"Find {text}", "pos_text": f"a {text}"}) for text in make_texts(39)]
    (path / "one_image.jsonl").write_text("\n".join([lines[0].strip(), *rows]))
    queries = [
        {"qry": f"Find text {n % 3}", "pos_text": f"text {n}", "neg_text": f"text {(n + 3) % 12}"} for n in range(12)
    ]
    (path / "many_positives.jsonl").write_text("\n".join(map(json.dumps, queries)))
    # Three images and four texts, in passes of three or six: another number of passes for each rank.
    labels = {"tgt_text": ["red", "green cat", "a dog runs", "tree"], "tgt_img_path": [""] * 4}
    tasks = [{"qry_text": "<|image_1|>\n", "qry_img_path": f"images/{n}.png", **labels} for n in range(3)]
    (path / "task.jsonl").write_text("\n".join(map(json.dumps, tasks)))
    return path


def cell_runs(folder: Path, backbone: str) -> dict[tuple, Run]:
    """By (stage, LoRA, gradient cache, precision), a run of every combination."""
    runs = {}
    for stage, lora, cache, precision in itertools.product(STAGES, (False, True), (False, True), TESTED):
        run = Run(stage, backbone, str(folder), chunk=CHUNKS[stage] if cache else 0, lora_rank=4 * lora)
        if precision == "bf16":  # after one, which negatives are the hardest is a matter of rounding
            run.steps, run.options = 1, {"bf16": True}
        runs[stage, lora, cache, precision] = run
    return runs


def special_runs(folder: Path, backbone: str) -> dict[str, Run]:
    """Runs beyond the table: what else could bring ranks out of step."""
    stage1, stage2 = (Run(stage, backbone, str(folder), chunk=CHUNKS[stage]) for stage in STAGES)
    unequal = Run("stage2", backbone, str(folder), batch=40, pairs="one_image.jsonl")
    return {
        "accumulation": replace(stage1, options={"gradient_accumulation_steps": 2}),
        "checkpointing": replace(stage2, lora_rank=4, options={"gradient_checkpointing": True}),
        "many_positives": replace(stage2, pairs="many_positives.jsonl"),
        "matryoshka": replace(stage2, options={"matryoshka_dims": [8, 32], "matryoshka_weights": [0.5, 1.0]}),
        # One picture among 40 rows: one rank has a chunk that the other has not.
        "unequal": replace(unequal, padded_together=4),
        "unequal_cached": replace(unequal, chunk=4),
        # One rank has a single chunk, which is not embedded twice; without unused weights to look for, DDP agrees on its
        # buckets in the second step's first forward with a graph.
        "single_chunk": replace(unequal, chunk=100, options={"ddp_find_unused_parameters": False}),
        "evaluated1": replace(stage1, lora_rank=4, evaluates=True),
        # The last of the batches that are evaluated is smaller, and most have images for some ranks only.
        "evaluated2": replace(unequal, batch=8, evaluates=True, options={"eval_tasks": [str(folder / "task.jsonl")]}),
        "finish1": replace(stage1, lora_rank=4, steps=4, finish=str(folder / "finish1")),
        "finish2": replace(stage2, chunk=0, steps=4, finish=str(folder / "finish2")),
    }


@pytest.fixture(scope="module")
def alone(folder, backbones) -> dict:
    """Results of one process. The gradient cache changes nothing (test_training.py), so it is left out."""
    backbone = str(backbones["llava_next"])
    gc.freeze()
    results = {}
    for key, run in cell_runs(folder, backbone).items():
        if not key[2]:
            results[key] = do(run, 1)["history"]
    for name, run in special_runs(folder, backbone).items():
        result = (stop_and_continue if run.finish else do)(run, 1)
        results[name], results[name, "evaluations"] = result["history"], result["evaluations"]
    gc.unfreeze()
    return results


def run_together(engine: str, runs: list[Run], folder: Path, processes: int = 2) -> list[dict]:
    """The results of runs on several processes."""
    runs = copy.deepcopy(runs)
    for run in runs:
        run.options |= OPTIONS[engine]
        run.finish = run.finish and f"{run.finish}-{engine}"
    plan, results = folder / f"{engine}{processes}-runs.json", folder / f"{engine}{processes}-results.json"
    plan.write_text(json.dumps([asdict(run) for run in runs]))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes)]
    command += [
        "--rdzv_backend",
        "c10d",
        "--rdzv_endpoint",
        "localhost:0",
        str(ROOT / "tests/trainers/training_worker.py"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [*command, str(plan), str(results)], env=environment, timeout=900, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-6000:]
    content = json.loads(results.read_text())
    assert content["processes"] == processes, "a launcher that starts one process would make these tests say nothing"
    return content["results"]


def assert_same(first: list[dict], second: list[dict], precision: str = "float32") -> None:
    tolerance = TOLERANCE[precision]
    assert [entry["step"] for entry in first] == [entry["step"] for entry in second]
    for a, b in zip(first, second, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=tolerance)
        assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=max(tolerance, 1e-4))
        assert b["effective_batch"] == a["effective_batch"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_two_processes_equal_one(engine, folder, backbones, alone):
    if engine.startswith("zero"):
        pytest.importorskip("deepspeed", reason="deepspeed is an optional extra")
    backbone = str(backbones["llava_next"])
    cells = cell_runs(folder, backbone)
    assert len(cells) == 16
    special = special_runs(folder, backbone)
    results = run_together(engine, [*cells.values(), *special.values()], folder)
    results, more = results[: len(cells)], dict(zip(special, results[len(cells) :], strict=True))
    for (stage, lora, _, precision), result in zip(cells, results, strict=True):
        assert result["engine"].startswith(CLASSES[engine]), "another engine than the one that is asked for"
        expected = alone[stage, lora, False, precision]
        assert_same(expected, result["history"], precision)
        exact = alone[stage, lora, False, "float32"]
        assert (precision == "bf16") == (abs(result["history"][0]["loss"] - exact[0]["loss"]) > 1e-5)
    for name, result in more.items():
        assert_same(alone[name], result["history"])
    first = more["many_positives"]["history"][0]
    assert first["other_positives"] == alone["many_positives"][0]["other_positives"] > 0
    for name in ("evaluated1", "evaluated2"):
        found, expected = more[name]["evaluations"], alone[name, "evaluations"]
        assert [entry["step"] for entry in found] == [entry["step"] for entry in expected] == [1, 2, 2]
        for entry, other in zip(found, expected, strict=True):
            for key in ("eval_loss", "eval_mrr", "eval_accuracy@1"):
                assert entry[key] == pytest.approx(other[key], rel=1e-4)
            assert entry.get(task := f"eval_{folder.name}/task_precision@1") == other.get(task)
            assert (task in entry) == (name == "evaluated2")
    for name in ("unequal", "unequal_cached", "single_chunk"):
        assert True in sum(more[name]["fillers"], []), "no rank was without an image, so the run proves nothing"
    source = UniMEModel.from_backbone(backbone).state_dict()
    for name in ("finish1", "finish2"):
        result = more[name]
        assert [entry["loss"] for entry in result["continued"]] == [entry["loss"] for entry in result["history"]]
        one, two = (load_file(folder / f"{name}{end}" / "model.safetensors") for end in ("", f"-{engine}"))
        assert one.keys() == two.keys() == source.keys()
        for key, weight in one.items():
            if "language_model" in key:
                torch.testing.assert_close(two[key], weight, atol=2e-5, rtol=0)
            else:
                assert torch.equal(two[key], source[key])
        assert max((one[key] - source[key]).abs().max() for key in one) > 1e-3, "a model that did not learn"
        UniMEModel.from_pretrained(folder / f"{name}-{engine}")
    checkpoint = folder / f"finish2-{engine}" / "checkpoint-2"
    loaded = UniMEModel.from_pretrained(checkpoint)
    assert read_digest(checkpoint) == digest_weights(loaded.state_dict()), "a digest of parts, or of nothing"
    assert json.loads((checkpoint / "config.json").read_text())["auto_map"]["AutoModel"] == "modeling_unime.UniMEModel"
    assert (checkpoint / "modeling_unime.py").is_file()


@pytest.mark.slow
def test_four_processes_equal_one(folder, backbones, alone):
    """One step, before any update can carry a difference of rounding further."""
    keys = [(stage, False, True, "float32") for stage in STAGES]
    cells = cell_runs(folder, str(backbones["llava_next"]))
    results = run_together("ddp", [replace(cells[key], steps=1) for key in keys], folder, processes=4)
    for (stage, *_), result in zip(keys, results, strict=True):
        one, four = alone[stage, False, False, "float32"][0], result["history"][0]
        assert four["loss"] == pytest.approx(one["loss"], rel=1e-6)
        assert four["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-5)
        assert four["effective_batch"] == one["effective_batch"] == 8


def test_exactly_what_the_tests_run_is_allowed_on_this_machine():
    """It has no GPU. Every other combination is refused with what to change."""
    for engine, lora, precision, quantization in itertools.product(
        ENGINES, (False, True), PRECISIONS, ("none", "4bit")
    ):
        conflict = find_conflict(engine, lora, precision, quantization, on_gpu=False)
        if precision in TESTED and quantization == "none":
            assert conflict is None and engine in CLASSES
        else:
            assert re.fullmatch("[^:]+: (use|set) .+", conflict)


def test_command_refuses_before_anything_is_read(tmp_path):
    options = ["--model", "none", "--data", "none", "--output_dir", str(tmp_path / "out"), "--use_cpu", "True"]
    with pytest.raises(ValueError, match="use bf16"):
        trainers.train_stage2.main([*options, "--fp16"])
    assert not (tmp_path / "out").exists()


def test_other_stages_and_versions_are_refused():
    with pytest.raises(ValueError, match="zero1.json asks for ZeRO stage 1; use stage 2 or 3"):
        engine_of(SimpleNamespace(fsdp=None, deepspeed="zero1.json", deepspeed_plugin=SimpleNamespace(zero_stage=1)))
    with pytest.raises(ValueError, match="asks for version 1; only version 2"):
        engine_of(SimpleNamespace(fsdp=True, fsdp_plugin_args={"fsdp_version": 1}))


TITLES = {"ddp": "DDP", "zero2": "DeepSpeed ZeRO-2", "zero3": "DeepSpeed ZeRO-3", "fsdp2": "FSDP2"}


def make_table() -> str:
    """What goes together, as docs/scale.md shows it."""
    lines = [
        "| method | trained | gradient cache | float32 | bf16 | fp16 | 4 bits |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    reasons = []
    for engine, lora, cache in itertools.product(ENGINES, (False, True), ("off", "on")):
        words = [TITLES[engine], "LoRA" if lora else "the LLM", cache]
        for precision, quantization in [*((precision, "none") for precision in PRECISIONS), ("bf16", "4bit")]:
            conflict = find_conflict(engine, lora, precision, quantization, on_gpu=True)
            if conflict is None:
                words.append("tested" if precision in TESTED and quantization == "none" else "GPU only")
                continue
            if conflict not in reasons:
                reasons.append(conflict)
            words.append(f"no ({reasons.index(conflict) + 1})")
        lines.append(f"| {' | '.join(words)} |")
    return "\n".join([*lines, "", *(f"{number}. {reason}." for number, reason in enumerate(reasons, start=1))])


def test_table_in_the_documentation_is_this_one():
    text = (ROOT / "docs/scale.md").read_text(encoding="utf-8")
    assert make_table() in text, f"put this into docs/scale.md:\n{make_table()}"
