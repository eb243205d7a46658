# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import json
import os

import numpy as np
import pytest
import torch

from evaluation import encoders, run
from evaluation.arguments import EvaluationArguments
from evaluation.fingerprint import model_identity
from unime.data.bad_rows import DataError


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "toy"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def output(tmp_path):
    return tmp_path / "output"


@pytest.fixture
def start(tmp_path, model_folder, make_encoder):
    """Run an evaluation with the stand-in; returns the report and how many examples were encoded."""

    def start(*data, spoil=None, **options):
        made = []

        def encoder_maker(arguments):
            made.append(make_encoder(spoil))
            return made[-1]

        output = str(tmp_path / "output")
        arguments = EvaluationArguments(str(model_folder), list(map(str, data)), output, device="cpu", **options)
        path = run.evaluate(arguments, encoder_maker)
        encoded = sum(len(encoder.processor.calls) for encoder in made)
        return json.loads(path.read_text()), encoded

    return start


@pytest.fixture
def two_sets(write_rows, text_row):
    one = write_rows([text_row("q", "a", "b"), text_row("r", "b", "a", "c")], "one/eval_class.jsonl")
    rows = [{"sentence1": "a", "sentence2": text, "score": score} for text, score in (("b", 1), ("c", 2), ("d", 3))]
    return one, write_rows(rows, "two/test.jsonl")


def test_report(start, two_sets, tmp_path):
    report, encoded = start(*two_sets, kinds=["one/*=vqa"])
    assert encoded == 5 + 4
    first, second = report["data_sets"]
    assert (first["name"], first["form"], first["kind"], first["rows"]) == ("one/class", "mmeb", "vqa", 2)
    assert (second["name"], second["form"], second["kind"]) == ("two/test", "sts", "sts")
    assert first["chance"]["precision@1"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    overall = report["summary"]["mmeb"]["overall"]
    assert overall["metrics"]["precision@1"] == first["metrics"]["precision@1"] and overall["data_sets"] == 1
    assert report["versions"]["torch"] == torch.__version__
    assert report["hardware"]["device"] == "cpu" and report["dtype"] == "float32" and report["created"]
    page = (tmp_path / "output" / "results.md").read_text()
    assert "| one/class | vqa | 2 | 0 | 2-3 | 41.7 |" in page and "| two/test | sts | 3 | 0 |" in page
    assert not list((tmp_path / "output").rglob("*.part"))


def test_finished_sets_are_reused_until_something_changes(start, two_sets, model_folder, write_rows, text_row):
    first, encoded = start(*two_sets)
    assert encoded == 9 and first["reused"] == []
    again, encoded = start(*two_sets)
    assert encoded == 0 and again["reused"] == ["one/class", "two/test"]
    assert again["data_sets"] == first["data_sets"] and again["summary"] == first["summary"]
    assert start(*two_sets, batch_size=2)[1] == 0  # does not change the numbers
    write_rows([text_row("q", "a", "new")], "one/eval_class.jsonl")
    changed, encoded = start(*two_sets)
    assert encoded == 1 and changed["reused"] == ["two/test"] and changed["data_sets"][0]["rows"] == 1
    assert changed["vectors"] == {"found": 2, "computed": 1}
    limited, encoded = start(*two_sets, limit=3)
    assert encoded == 0 and limited["reused"] == [] and limited["vectors"]["found"] == 3 + 4
    (model_folder / "model.safetensors").write_bytes(b"other weights")
    assert start(*two_sets, limit=3)[1] == 7


def test_other_pixels_under_the_same_name_are_another_result(start, write_rows, write_image, text_row):
    row = {**text_row("", "a", "b"), "qry_img_path": "x.png"}
    data = write_rows([row], "one/eval_class.jsonl")
    write_image("one/x.png", "red")
    first, _ = start(data)
    assert start(data)[0]["reused"] == ["one/class"] and "image_folders" not in first["data_sets"][0]
    write_image("one/x.png", "blue")
    again, encoded = start(data)
    assert again["reused"] == [] and encoded == 1 and again["vectors"] == {"found": 2, "computed": 1}


def test_a_data_set_that_cannot_be_read_fails_and_the_others_go_on(start, two_sets, write_rows, output):
    bad = write_rows([{"what": 1}], "three/eval_bad.jsonl")
    with pytest.raises(run.FailedSets, match="1 of 3 data sets failed, the first: three/bad: .*unknown form"):
        start(*two_sets, bad)
    report = json.loads((output / "results.json").read_text())
    assert ["failed" in result for result in report["data_sets"]] == [False, False, True]
    assert report["summary"]["mmeb"]["overall"]["data_sets"] == 1
    assert "| three/bad | " in (output / "results.md").read_text()


def test_the_model_is_not_loaded_where_nothing_can_be_read(write_rows, model_folder, output):
    def must_not_load(arguments):
        raise AssertionError("the model was loaded")

    bad = write_rows([{"what": 1}], "three/eval_bad.jsonl")
    with pytest.raises(run.FailedSets, match="unknown form"):
        run.evaluate(EvaluationArguments(str(model_folder), [str(bad)], str(output)), must_not_load)


def test_skipped_rows_are_counted_and_listed(start, two_sets, write_rows, text_row):
    path = write_rows([text_row("q", "a", "b"), "{", text_row("r", "b", "a")], "four/eval_x.jsonl")
    report, _ = start(path, on_bad_row="skip")
    assert report["data_sets"][0]["rows"] == 2
    assert report["data_sets"][0]["skipped"]["count"] == 1
    assert report["data_sets"][0]["skipped"]["rows"][0]["row"] == "line 2"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(lambda x: x * float("nan"), "NaN"), (lambda x: x * 0, "all zero"), (torch.ones_like, "same embedding")],
)
def test_useless_embeddings_fail(start, two_sets, output, spoil, message):
    with pytest.raises(run.FailedSets, match=f"2 of 2 data sets failed.*{message}"):
        start(*two_sets, spoil=spoil)
    assert all(
        message in result["failed"] for result in json.loads((output / "results.json").read_text())["data_sets"]
    )
    assert not list((output / "results").rglob("*.json"))


def test_rows_stand_beside_the_results(start, two_sets, output):
    report, _ = start(*two_sets)
    for result in report["data_sets"]:
        rows = json.loads((output / "rows" / f"{result['name']}.json").read_text())
        for metric, value in result["metrics"].items():
            assert np.mean(rows["values"][metric]) == pytest.approx(value, abs=1e-12)
            low, high = result["intervals"][metric]
            assert -1 <= low <= value <= high <= 1 or result["form"] == "sts"
    rows = json.loads((output / "rows/one/class.json").read_text())
    wrong = [row for row, value in enumerate(rows["values"]["precision@1"]) if not value]
    assert sorted(failure["row"] for failure in rows["failures"]) == wrong
    for failure in rows["failures"]:
        assert failure["wrong_score"] >= failure["right_score"]
        assert failure["query"]["text"] == "qr"[failure["row"]] and failure["right"]["text"] == "ab"[failure["row"]]
    (output / "rows/one/class.json").unlink()
    assert start(*two_sets)[0]["reused"] == ["two/test"]


def test_model_folder(tmp_path, model_folder):
    assert encoders.find_model(str(model_folder)) == model_folder
    with pytest.raises(DataError, match="has no modules.json"):
        encoders.find_model(f"sentence-transformers:{model_folder}")
    (model_folder / "config.json").unlink()
    with pytest.raises(DataError, match="has no config.json"):
        encoders.find_model(str(model_folder))


def test_model_identity_ignores_what_is_not_loaded(model_folder):
    before = model_identity(model_folder)
    assert set(before) == {"config.json", "model.safetensors"}
    (model_folder / "results.json").write_text("{}")
    (model_folder / "trainer_state.json").write_text("{}")
    assert model_identity(model_folder) == before
    (model_folder / "config.json").write_text('{"model_type": "other"}')
    assert model_identity(model_folder) != before


def test_model_identity_goes_with_the_bytes_of_the_weights_and_not_with_their_time(model_folder):
    weights = model_folder / "model.safetensors"
    weights.write_bytes(bytes(1000))
    os.utime(weights, (1e9, 1e9))
    before = model_identity(model_folder)
    os.utime(weights, (1.1e9, 1.1e9))
    assert model_identity(model_folder) == before
    weights.write_bytes(bytes(500) + b"\x01" + bytes(499))
    os.utime(weights, (1e9, 1e9))
    assert model_identity(model_folder) != before


def test_command_line_with_a_real_model(tmp_path, capsys, write_rows, write_image):
    from tiny_models import make_llava_next, save_unime

    backbone = make_llava_next(tmp_path / "backbone")
    save_unime(backbone, tmp_path / "model")
    write_image("a.png", "red", tmp_path / "set")
    row = {"qry_text": "<|image_1|>\nWhich?\n", "tgt_text": ["red", "blue"], "tgt_img_path": ["", ""]}
    data = write_rows([row | {"qry_img_path": "a.png"}])
    config = tmp_path / "run.yaml"
    config.write_text(f"model: {tmp_path / 'model'}\ndata: {data}\noutput: {tmp_path / 'wrong'}\ndevice: cpu\n")
    run.main([str(config), "--output", str(tmp_path / "right")])
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "right" / "results.json")
    assert (tmp_path / "right" / "results" / "set" / "toy.json").is_file()
    data.write_text("")
    with pytest.raises(SystemExit) as stopped:
        run.main([str(config)])
    assert stopped.value.code == 1
    assert "error: 1 of 1 data sets failed, the first: set/toy: " in capsys.readouterr().err
