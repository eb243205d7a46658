# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The Matryoshka study: both methods run alike but for the option, nothing is run twice, and the table says what halving costs."""

import json

import benchmarks.matryoshka_study as module
from benchmarks.matryoshka_study import METHODS, main


def test_study_runs_once_and_reports(tmp_path, monkeypatch):
    started = []

    def run_command(program: str, *words: object, **options: object) -> None:
        started.append((program, options))
        if program == "evaluation.run":
            lost = 0.05 if options["model"].name == "matryoshka" else 0.2

            def summary(value: float) -> dict:
                overall = {"metrics": {"precision@1": value}}
                return {"mmeb": {"overall": overall}, "sts": {"metrics": {"spearman": value}}}

            options["output"].mkdir(parents=True)
            scores = {"summary": summary(0.5), "dimensions": {"96": summary(0.5 - lost)}}
            (options["output"] / "results.json").write_text(json.dumps(scores))

    monkeypatch.setattr(module, "run_command", run_command)
    monkeypatch.setattr(module, "write_dataset", lambda folder, size, seed: folder)
    document = tmp_path / "doc.md"
    document.write_text("<!-- matryoshka:begin -->\n<!-- matryoshka:end -->\n")
    command = ["--run", "true", "--work", str(tmp_path / "work"), "--results", str(tmp_path / "results")]
    command += ["--report", str(document), "--seeds", "0", "1"]
    main(command)
    trained = [options for program, options in started if program.startswith("trainers")]
    assert [options.pop("matryoshka_dims", None) for options in trained] == [None, None, [96, 192], [96, 192]] * 2
    for plain, nested in zip(trained[:2], trained[2:4], strict=True):
        differ = {name for name in plain if plain[name] != nested[name]}
        assert differ <= {"output_dir", "model"}, "another difference than the widths"
    rows = [line for line in document.read_text().splitlines() if line.startswith("| full")]
    assert rows[0].startswith(f"| {METHODS['plain']} | 2 | 50.0 ± 0.0 | 30.0 ± 0.0 |") and "20.0 ± 0.0" in rows[0]
    assert rows[1].startswith(f"| {METHODS['matryoshka']} | 2 | 50.0 ± 0.0 | 45.0 ± 0.0 |") and "5.0 ± 0.0" in rows[1]
    started.clear()
    main(command)
    assert not started
