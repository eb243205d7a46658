# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What can be known at start is said at start: before data are read, a model is loaded or a teacher encodes."""

import importlib.util

import pytest
import torch
from tiny_models import write_pairs

import trainers.embedding_trainer
import trainers.encode_texts
import trainers.train_stage1
import trainers.train_stage2
from trainers.hard_negative_config import HardNegativeConfig

REAL_FIND_SPEC = importlib.util.find_spec


@pytest.fixture
def nothing_is_read(monkeypatch):
    """Reading data, loading a model and encoding all come too late."""
    for module, names in (
        (trainers.train_stage1, ("load_texts", "DistillationTrainer")),
        (trainers.train_stage2, ("load_data", "HardNegativeTrainer")),
        (trainers.encode_texts, ("load_texts", "encode_teacher")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("too late"))


def without(monkeypatch, package: str) -> None:
    """As on a machine where a package is not installed."""

    def find_spec(name, *args):
        return None if name.split(".")[0] == package else REAL_FIND_SPEC(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    for module in ("trainers.embedding_config", "trainers.teachers.load"):
        monkeypatch.setattr(f"{module}.find_spec", find_spec)


@pytest.fixture
def command(backbones, tmp_path):
    """A command line of each stage that would run."""
    options = ["--model", str(backbones["llava_next"]), "--output_dir", str(tmp_path / "out"), "--use_cpu", "true"]
    return {
        "stage1": (trainers.train_stage1.main, [*options, "--texts", str(tmp_path / "texts.jsonl")]),
        "stage2": (trainers.train_stage2.main, [*options, "--data", str(tmp_path)]),
    }


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.parametrize(
    "options, error, words",
    [
        (["--report_to", "wandb"], ImportError, "report_to: wandb needs the package wandb; .*--report_to none"),
        (["--report_to", "tensorbord"], ValueError, "report_to: tensorbord is not one of .*tensorboard"),
        (["--model", "/no/such/model"], OSError, "model /no/such/model: no such folder"),
    ],
)
def test_refused_before_anything_is_read(stage, options, error, words, command, nothing_is_read, tmp_path):
    main, argv = command[stage]
    with pytest.raises(error, match=words):
        main([*argv, *options])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_an_output_folder_is_named_and_usable(stage, command, nothing_is_read, tmp_path, monkeypatch, capsys):
    main, argv = command[stage]
    monkeypatch.chdir(tmp_path)
    at = argv.index("--output_dir")
    with pytest.raises(SystemExit) as end:
        main([*argv[:at], *argv[at + 2 :]])
    assert end.value.code == 2 and "required: --output_dir" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeError, match="output_dir .*file/out cannot be written"):
        main([*argv, "--output_dir", str(tmp_path / "file/out")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"], "trainer_output, or the like"


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_missing_deepspeed_is_one_sentence(stage, command, nothing_is_read, monkeypatch):
    without(monkeypatch, "deepspeed")
    main, argv = command[stage]
    with pytest.raises(ImportError, match=r'needs the package deepspeed: pip install .* "\.\[deepspeed\]"') as error:
        main([*argv, "--deepspeed", "examples/recipes/deepspeed_zero2.json"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["bf16", "fp16"])
def test_a_recipe_for_gpus_says_what_to_do_without_one(option, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"{option}: true is for a GPU.*--use_cpu true --{option} false"):
        HardNegativeConfig(output_dir="out", **{option: True})


def test_missing_teacher_or_its_package(command, nothing_is_read, monkeypatch, tmp_path):
    main, argv = command["stage1"]
    with pytest.raises(FileNotFoundError, match="'/no/such/teacher' is neither a folder"):
        main([*argv, "--teacher", "/no/such/teacher"])
    with pytest.raises(FileNotFoundError, match="absent.parquet: no such file of vectors"):
        main([*argv, "--teacher", str(tmp_path / "absent.parquet")])
    without(monkeypatch, "sentence_transformers")
    with pytest.raises(ImportError, match=r'needs the package sentence-transformers: pip install .*"\.\[st\]"'):
        main(argv)
    texts = ["--texts", "t.jsonl", "--teacher_cache", str(tmp_path / "cache")]
    with pytest.raises(ImportError, match="needs the package sentence-transformers"):
        trainers.encode_texts.main(texts)
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeError, match="teacher_cache .*file cannot be written"):
        trainers.encode_texts.main([*texts[:3], str(tmp_path / "file")])


def test_vectors_that_are_there_need_no_package(command, monkeypatch, tmp_path):
    """They may have been computed elsewhere; reading goes on."""
    without(monkeypatch, "sentence_transformers")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "something").write_text("")
    main, argv = command["stage1"]
    with pytest.raises(Exception, match="texts.jsonl"):
        main([*argv, "--teacher_cache", str(tmp_path / "cache")])


def test_a_batch_larger_than_the_data(command, monkeypatch, tmp_path):
    monkeypatch.setattr(trainers.embedding_trainer, "prepare_model", lambda *a, **k: pytest.fail("too late"))
    (tmp_path / "texts.jsonl").write_text('{"sent0": "a dog", "sent1": "a cat", "hard_neg": "a car"}\n')
    main, argv = command["stage1"]
    size = ["--per_device_train_batch_size", "500"]
    with pytest.raises(ValueError, match="a batch takes 500 rows, and there are 3"):
        main([*argv, *size])
    write_pairs(tmp_path)
    main, argv = command["stage2"]
    with pytest.raises(ValueError, match="a batch takes 500 rows"):
        main([*argv, *size])


def test_a_baseline_without_sentence_transformers(monkeypatch, tmp_path):
    import evaluation.encoders
    import evaluation.run

    monkeypatch.setattr(evaluation.encoders, "find_spec", lambda name: None)
    monkeypatch.setattr(evaluation.run, "find_data_sets", lambda *a: pytest.fail("too late"))
    argv = ["--model", f"sentence-transformers:{tmp_path}", "--data", str(tmp_path), "--output", str(tmp_path / "out")]
    with pytest.raises(ValueError, match=r'needs the package sentence-transformers: pip install .*"\.\[st\]"'):
        evaluation.run.main(argv)


def test_every_recipe_reports_to_what_the_core_installs(repository):
    """So that a plain installation can run them."""
    import yaml

    setup = (repository / "setup.py").read_text(encoding="utf-8")
    core = setup[setup.index("CORE = [") : setup.index("EXTRAS = {")]
    for path in (repository / "examples/recipes").glob("*/*.yaml"):
        reports = yaml.safe_load(path.read_text(encoding="utf-8")).get("report_to", "none")
        assert reports == "none" or f'"{reports}>=' in core, path
