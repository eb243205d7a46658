# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The model card says what records and results say, and its snippets run as they stand."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from tiny_models import save_unime

from release.card import CardArguments, write_card
from release.export import ExportArguments, export
from unime.card import license_of, strictness
from unime.hub import files_to_upload

RECORD = {
    "stage": "stage2",
    "steps": 7,
    "seed": 3,
    "world_size": 2,
    "hardware": {"cpu": "x"},
    "versions": {"torch": "2"},
}
SECONDS = {"seconds_since_start_or_resumption": 1800.0}


def write_run(folder: Path, record: dict, options: dict) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "training_record.json").write_text(json.dumps({**RECORD, **record}))
    (folder / "training_options.json").write_text(json.dumps(options))
    return folder


def result(name: str, value: float, **more) -> dict:
    figures = {"metrics": {"precision@1": value}, "intervals": {"precision@1": [value - 0.05, value + 0.05]}}
    plain = {"form": "mmeb", "kind": "vqa", "split": None, "rows": 1000, "headline": ["precision@1"]}
    plain |= {"chance": {"precision@1": 0.001}, "candidates": {"min": 1000, "max": 1000}, "skipped": {"count": 0}}
    return {"name": name, **figures, **plain, **more}


def write_results(file: Path, model: Path, *results: dict, averages: list[dict] = ()) -> Path:
    suites = {
        "mmeb": {"form": "mmeb", "averages": [{"data_sets": 2, "of": 2, "complete": True, **one} for one in averages]}
    }
    run = {
        "model": str(model),
        "created": "2026-11-25T10:00:00+00:00",
        "wall_seconds": 1.0,
        "dtype": "float32",
        "reused": [],
    }
    run |= {
        "hardware": {"cpu": "x", "threads": 1, "device": "cpu"},
        "summary": {"suites": suites},
        "data_sets": [*results],
    }
    file.write_text(json.dumps(run))
    return file


def card_of(folder: Path, source: Path, form: str = "unime", **options) -> str:
    folder.mkdir(exist_ok=True)
    facts = (
        {}
        if form == "adapter"
        else {"family": "llava_next", "dimension": 32, "max_length": 80, "image_resolution": 336}
    )
    write_card(folder, source, CardArguments(**options), "me/my-unime", form, **facts)
    return (folder / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def trained(tmp_path) -> Path:
    """Records of both stages, the second of which began with the first."""
    hub = "llava-hf/llava-v1.6-mistral-7b-hf"
    first = {"stage": "stage1", "texts": 12345, "skipped_rows": 1, "teacher": "NV-Embed-v2", "model": hub, **SECONDS}
    options = {"model": hub, "teacher": "nvidia/NV-Embed-v2", "texts": [f"{tmp_path}/nli.csv"], "learning_rate": 5e-4}
    write_run(tmp_path / "stage1", first, options)
    second = {"rows": {f"{tmp_path}/train_a": 1000}, "skipped_rows": 0, "model": "stage1", **SECONDS}
    second["hardware"] = {"cpu": "x", "accelerator": "NVIDIA H100"}
    options = {"model": str(tmp_path / "stage1"), "data": ["TIGER-Lab/MMEB-train:all:original"], "temperature": 0.02}
    options |= {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4, "image_resolution": None}
    return write_run(tmp_path / "stage2", second, options)


def test_what_the_records_say(trained, tmp_path):
    card = card_of(tmp_path / "out", trained)
    for line in (
        "stage1, 7 steps, seed 3, 2 process(es)", "data: nli.csv (12,345 rows)", "teacher: NV-Embed-v2",
        "rows left out: 1", "learning_rate: 0.0005", "data: train_a (1,000 rows)", "batch: 64 rows", "temperature: 0.02",
        "time since the start, or the last resumption: 1 hours of processes on the CPU; energy: not measured",
        "time since the start, or the last resumption: 1 GPU-hours; energy: not measured",
        "started from: stage1", "hardware: cpu x, accelerator NVIDIA H100", "versions: torch 2",
        "licence of nvidia/NV-Embed-v2: cc-by-nc-4.0", "licence of TIGER-Lab/MMEB-train: not known",
        "tokens of an input, image included: 80; what is too long loses the end of its text",
        "pictures: each is resized to a square of 336 pixels first",
    ):  # fmt: skip
        assert f"- {line}\n" in card, line
    assert card.index("(stage 1)\n") < card.index("(stage 2)\n\n- stage2") and str(tmp_path) not in card
    data = ModelCard(card).data
    assert (data.library_name, data.pipeline_tag) == ("sentence-transformers", "feature-extraction")
    assert (data.base_model, data.base_model_relation) == ("llava-hf/llava-v1.6-mistral-7b-hf", "finetune")
    assert (data.license, data.datasets) == ("cc-by-nc-4.0", ["TIGER-Lab/MMEB-train"])


def test_what_is_not_known_is_said_to_be_unknown(tmp_path):
    """A card that said "stage 2" of a model that was only converted would be wrong."""
    (tmp_path / "model").mkdir()
    card = card_of(tmp_path / "out", tmp_path / "model")
    for words in ("how it was trained is not recorded", "- training: not recorded", "Not evaluated.", "not examined"):
        assert words in card
    assert "family llava_next, whose name is not recorded" in card and "stage 2" not in card
    assert not re.search(r"\{\{|\}\}|\{%|: None|TODO|More Information Needed", card)
    data = ModelCard(card).data
    assert (data.license, data.base_model, data.datasets, data.eval_results) == ("other", None, None, None)
    (tmp_path / "model" / "conversion_report.json").write_text(json.dumps({"source": "a/b", "base": "c/d"}))
    assert "family llava_next, c/d\n" in card_of(tmp_path / "out", tmp_path / "model")


def test_slots_are_filled_once_and_the_user_has_the_last_word(trained, tmp_path):
    card = card_of(tmp_path / "out", trained, limits="{{ results }}", license="mit", base_model="me/base")
    assert "# my-unime" in card.splitlines() and card.splitlines()[-1] == "{{ results }}"
    assert (ModelCard(card).data.license, ModelCard(card).data.base_model) == ("mit", "me/base")


def test_the_baseline_has_no_teacher(tmp_path):
    card = card_of(tmp_path / "out", write_run(tmp_path / "model", {"stage": "stage1 (E5-V)"}, {}))
    assert "### Contrastive training on text alone, the recipe of E5-V (arXiv 2407.12580)" in card
    assert "teacher:" not in card and "not recorded; energy: not measured" in card


def test_an_adapter_has_the_facts_too(trained, tmp_path):
    card = card_of(tmp_path / "out", trained, form="adapter", base_model="me/base")
    assert (
        "stage2, 7 steps" in card and "unime convert adapter model --base me/base" in card and "```python" not in card
    )
    data = ModelCard(card).data
    assert (data.base_model, data.base_model_relation, data.library_name) == ("me/base", "adapter", "peft")


def test_licences(tmp_path):
    assert sorted(["cc-by-nc-4.0", "mit", "llama3", "cc-by-sa-4.0"], key=strictness) == [
        *("mit", "cc-by-sa-4.0", "llama3", "cc-by-nc-4.0")
    ]
    (tmp_path / "README.md").write_text("---\nlicense: gemma\n---\n")
    assert (license_of(str(tmp_path)), license_of("all-MiniLM-L6-v2"), license_of("a/b")) == (
        "gemma",
        "apache-2.0",
        None,
    )


def test_results_are_those_of_the_files(trained, tmp_path):
    """Every figure with its interval, both averages, and the scores in the Hub's two forms; of this model alone."""
    place = {"suite": "mmeb"}
    names = ("mmeb/GQA", "mmeb/DocVQA", "mmeb/VizWiz")
    own = [
        result(names[0], 0.4321, **place),
        result(names[1], 0.6, **place),
        result(names[2], 0.5, **place, partial="5"),
    ]
    other = [result(name, 0.1234, **place) for name in names]
    figures = {
        "metrics": {"precision@1": 0.5161},
        "chance": {"precision@1": 0.001},
        "intervals": {"precision@1": [0.5, 0.53]},
    }
    averages = [{"name": "mean of the 2 data sets", **figures}, {"name": "mean of the 2 meta-tasks", **figures}]
    base = write_results(tmp_path / "base.json", tmp_path / "base", *other)
    mine = write_results(tmp_path / "mine.json", trained, *own, averages=averages)
    card = card_of(tmp_path / "out", trained, results=[f"base={base}", f"mine={mine}"])
    for line in (
        "mmeb/GQA | vqa | 1000 | 0 | 1000 | 0.1 | 43.2 (38.2 to 48.2)",
        "mean of the 2 data sets",
        "51.6 (50.0 to 53.0)",
    ):
        assert line in card
    assert "mean of the 2 meta-tasks" in card and "| mmeb/GQA | vqa, P@1 | 1000 | 0.1 | 12.3 | 43.2 |" in card
    assert "#### Ranking of each row's candidates" in card and str(tmp_path) not in card
    scores = {
        score.dataset_name: (score.metric_value, score.dataset_type) for score in ModelCard(card).data.eval_results
    }
    hub = "TIGER-Lab/MMEB-eval"
    assert scores == {names[0]: (43.21, hub), names[1]: (60.0, hub)}, "one of five rows is no score of the set"
    assert files_to_upload(tmp_path / "out") == [".eval_results/mmeb.yaml", "README.md"]
    entries = parse_eval_result_entries(yaml.safe_load((tmp_path / "out/.eval_results/mmeb.yaml").read_text()))
    assert [(one.dataset_id, one.task_id, one.value) for one in entries] == [
        (hub, "GQA", 43.21),
        (hub, "DocVQA", 60.0),
    ]
    assert entries[0].notes == "precision@1 in %, 1000 rows, float32, 95 % interval 38.2 to 48.2"


@pytest.mark.parametrize("form", ["unime", "native"])
def test_snippets_run_as_they_stand(backbones, tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    save_unime(backbones["llava_next"], "trained")
    export(ExportArguments("trained", "me/tiny", repository="me/tiny", format=form, check=False))
    card = Path("me/tiny/README.md").read_text(encoding="utf-8")
    assert ("trust_remote_code" in card) == (form == "unime")
    sentence, search, transformers, *vllm = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = {}
    exec(sentence, names)
    expected = torch.as_tensor(names["vectors"])[-1]
    exec(search, names)
    assert [hit["corpus_id"] in range(3) for hit in names["hits"]] == [True, True]
    exec(transformers, names)
    torch.testing.assert_close(names["vectors"][-1], expected, rtol=0, atol=1e-5)
    assert len(vllm) == (form == "native")
    for code in vllm:  # parsed, not run, as the card says
        ast.parse(code)
        assert [shlex.split(line) for line in re.findall(r"```bash\n(.*)\n```", card)] == [
            ["vllm", "serve", "me/tiny"]
        ]
        assert "written after its sources and not run" in card
    assert "torchvision" not in card


def test_a_part_without_a_known_licence_counts_as_one_with_its_own_terms(tmp_path):
    record = {"stage": "stage1", "texts": 3, "teacher": "all-MiniLM-L6-v2"}
    card = card_of(tmp_path / "out", write_run(tmp_path / "model", record, {"model": "me/backbone"}))
    assert ModelCard(card).data.license == "other" and "- licence of me/backbone: not known\n" in card
