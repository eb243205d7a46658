# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The study of stage 2: which runs are made of what, that none is repeated, and the tables made from their files."""

import json
from pathlib import Path

import pytest

import benchmarks.stage2_study as module
from benchmarks.stage2_study import COLUMNS, METHODS, SWEPT_K, SWEPT_MARGINS, main

KIND_OF_SET = {"classification": 0.1, "vqa": 0.2, "retrieval": 0.3, "grounding": 0.6}


@pytest.fixture
def data(tmp_path):
    """Evaluation files of two rows each; nothing reads the images."""
    for name in ("birds", "maps"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "eval_a.jsonl").write_text('{"row": 1}\n{"row": 2}\n')
    return tmp_path


@pytest.fixture
def commands(monkeypatch):
    """The commands that the study would start; an evaluation writes scores that depend on the model's name."""
    started = []

    def run_command(program: str, *words: object, **options: object) -> None:
        started.append((program, options))
        if program != "evaluation.run":
            return
        bonus = 0.25 if Path(options["model"]).name == "unime" else 0.0
        sets = [
            {"name": kind, "form": "mmeb", "kind": kind, "headline": ["precision@1"], "chance": {"precision@1": 0.05}}
            | {"metrics": {"precision@1": value + bonus}}
            for kind, value in KIND_OF_SET.items()
        ]
        sets.append({"name": "s", "form": "sts", "headline": ["spearman"], "chance": {"spearman": 0.0}})
        sets[-1]["metrics"] = {"spearman": 0.5}
        names = ("replace_obj", "replace_att", "replace_rel", "swap_obj", "swap_att", "add_obj", "add_att")
        subsets = {name: {"rows": 4, "accuracy": 0.75} for name in names}
        sets.append({"name": "x/sugarcrepe", "form": "sugarcrepe", "headline": ["accuracy"], "subsets": subsets})
        sets[-1] |= {"metrics": {"accuracy": 0.75}, "chance": {"accuracy": 0.5}, "rows": 28}
        options["output"].mkdir(parents=True, exist_ok=True)
        (options["output"] / "results.json").write_text(json.dumps({"data_sets": sets}))

    monkeypatch.setattr(module, "run_command", run_command)
    return started


def test_study_runs_once_and_reports(tmp_path, data, commands):
    document = tmp_path / "doc.md"
    markers = [f"<!-- {name}:{end} -->" for name in ("methods", "k", "beta") for end in ("begin", "end")]
    document.write_text("\n".join(markers) + "\n")
    options = ["--data", str(data), "--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    command = [*options, "--report", str(document), "--seeds", "0", "1", "--eval_rows", "1"]
    main(command)

    trained = {options["output_dir"].name: options for name, options in commands if name == "trainers.train_stage2"}
    assert trained["vlm2vec"]["loss_type"] == "info_nce" and trained["vlm2vec"]["model"].name == "backbone"
    assert trained["unime_stage2"]["model"].name == "backbone" and trained["unime"]["model"].name == "stage1"
    assert trained["k8"]["num_hard_negatives"] == 8 and trained["k8"]["model"].name == "stage1"
    assert trained["beta-0.1"]["false_negative_margin"] == -0.1
    files = list((tmp_path / "results").iterdir())
    assert len(files) == 2 * len(METHODS) + len(SWEPT_K) - 1 + len(SWEPT_MARGINS) - 1
    sampled = list((tmp_path / "work" / "eval").glob("*/*.jsonl"))
    assert len(sampled) == 2 and all(len(file.read_text().splitlines()) == 1 for file in sampled)

    text = document.read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == ["method", "runs", *COLUMNS]
    found = {row[0]: row[1:] for row in rows}
    assert found[METHODS["vlm2vec"]][:3] == ["2", "10.0 ± 0.0", "20.0 ± 0.0"]
    assert found[METHODS["unime"]][1] == "35.0 ± 0.0" and found["8"][:2] == ["1", "10.0"]
    assert found["64"][:2] == ["1", "35.0"], "UniME's own run is a row of the sweep, with the sweep's seeds alone"
    assert "By chance: classification 5.0" in text and "Seeds 0, 1;" in text

    commands.clear()
    main(command)
    assert commands == [] and document.read_text() == text
