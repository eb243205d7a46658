# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A picture that the model's processor cannot take is a bad row of training, mining and evaluation alike.

Qwen2-VL refuses pictures that are 200 times as wide as high; the tiny one gives a picture at most 12 tokens.
"""

import json

import pytest
from PIL import Image

import evaluation.run
import trainers.mine_negatives
import trainers.train_stage2
from evaluation.arguments import EvaluationArguments
from unime.data.bad_rows import BadRowError, DataError

SIZES = {"small.png": (56, 56), "thin.png": (401, 2), "twelve.png": (84, 112)}
# Options, and what is said of the second and the third row; None: nothing.
CASES = {
    "thin": ([], "image 'thin.png': .*401 x 2 pixels cannot be processed.*aspect ratio", None),
    "long": (
        ["--max_length", "14"],
        "image 'thin.png'",
        "image 'twelve.png': .*84 x 112.* 12 tokens.* max_length is 14",
    ),
}


@pytest.fixture
def folder(tmp_path):
    for seed, (name, size) in enumerate(SIZES.items()):
        Image.effect_noise(size, 50 + seed).convert("RGB").save(tmp_path / name)
    train, test = [], []
    for name in SIZES:
        query = {"qry": "<|image_1|> ?", "pos_text": f"the picture {name}", "qry_image_path": name}
        train.append(query | {"neg_text": ["one", "two"]})
        test.append(
            {"qry_text": "<|image_1|> ?", "qry_img_path": name, "tgt_text": ["a", "b"], "tgt_img_path": [""] * 2}
        )
    train += [{"qry": f"query {number}", "pos_text": f"text {number}"} for number in range(7)]
    test += [{"qry_text": "q", "qry_img_path": "", "tgt_text": ["b", "a"], "tgt_img_path": ["", ""]}]
    for name, rows in (("train_x.jsonl", train), ("eval_x.jsonl", test)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return tmp_path


def must_not_load(*args, **kwargs):
    raise AssertionError("the model was loaded")


def train_command(model, folder, *more):
    command = ["--model", str(model), "--data", str(folder / "train_x.jsonl"), "--output_dir", str(folder / "out")]
    command += ["--max_steps", "2", "--per_device_train_batch_size", "4", "--lora_rank", "2", "--use_cpu", "True"]
    return [*command, "--report_to", "none", "--disable_tqdm", "True", *more]


def assert_bad(listed, case):
    """The second row is bad, and the third one in the second case."""
    _, second, third = CASES[case]
    reasons = [reason for reason in (second, third) if reason]
    assert [place for place, _ in listed] == [2, 3][: len(reasons)]
    for (_, reason), expected in zip(listed, reasons, strict=True):
        pytest.raises(ValueError, int, reason).match(expected)


@pytest.mark.parametrize("case", list(CASES))
def test_training(backbones, folder, monkeypatch, case):
    options, second, _ = CASES[case]
    monkeypatch.setattr("trainers.embedding_trainer.prepare_model", must_not_load)
    command = train_command(backbones["qwen2_vl"], folder, *options)
    with pytest.raises(BadRowError, match=f"train_x.jsonl line 2: {second}"):
        trainers.train_stage2.main(command)
    with pytest.raises(AssertionError, match="was loaded"):
        trainers.train_stage2.main([*command, "--on_bad_row", "skip"])
    listed = json.loads((folder / "out" / "bad_rows.json").read_text(encoding="utf-8"))
    assert_bad([(row["line"], row["reason"]) for row in listed], case)


def test_the_size_after_resizing_counts(backbones, folder, monkeypatch):
    monkeypatch.setattr("trainers.embedding_trainer.prepare_model", must_not_load)
    with pytest.raises(AssertionError, match="was loaded"):
        trainers.train_stage2.main(train_command(backbones["qwen2_vl"], folder, "--image_resolution", "56"))


def test_a_run_with_such_rows_left_out(backbones, folder, caplog):
    command = train_command(backbones["qwen2_vl"], folder, "--on_bad_row", "skip", "--use_row_negatives", "False")
    trainers.train_stage2.main(command)
    record = json.loads((folder / "out" / "training_record.json").read_text(encoding="utf-8"))
    assert (record["steps"], record["skipped_rows"]) == (2, 1)
    assert "use_row_negatives is false: 4 negatives that 2 of 9 rows carry are not used" in caplog.text
    # Which contents are equal depends on how images are looked at, so that a run keeps to its way.
    with pytest.raises(ValueError, match="image_check: 'full' there, 'exists' now"):
        trainers.train_stage2.main([*command, "--image_check", "exists"])


def test_images_that_were_not_looked_at_are_named_during_training(backbones, folder):
    command = train_command(backbones["qwen2_vl"], folder, "--image_check", "exists")
    with pytest.raises(BadRowError, match="train_x.jsonl line 2: image 'thin.png': .*cannot be processed"):
        trainers.train_stage2.main([*command, "--per_device_train_batch_size", "10"])


@pytest.mark.parametrize("case", list(CASES))
def test_mining(backbones, folder, monkeypatch, case):
    options, second, _ = CASES[case]
    monkeypatch.setattr("trainers.mine_negatives.make_encoder", must_not_load)
    command = ["--model", str(backbones["qwen2_vl"]), "--data", str(folder / "train_x.jsonl"), "--device", "cpu"]
    command += ["--num_negatives", "2", "--output", str(folder / "mined"), *options]
    with pytest.raises(BadRowError, match=f"train_x.jsonl line 2: {second}"):
        trainers.mine_negatives.main(command)
    with pytest.raises(AssertionError, match="was loaded"):
        trainers.mine_negatives.main([*command, "--on_bad_row", "skip"])
    listed = json.loads((folder / "mined" / "bad_rows.json").read_text(encoding="utf-8"))
    assert_bad([(row["line"], row["reason"]) for row in listed], case)


def test_the_judge_has_to_read_the_images_too(backbones, folder, monkeypatch):
    monkeypatch.setattr("trainers.mine_negatives.make_encoder", must_not_load)
    command = ["--model", str(backbones["llava_next"]), "--data", str(folder / "train_x.jsonl"), "--device", "cpu"]
    command += ["--num_negatives", "2", "--output", str(folder / "mined")]
    with pytest.raises(AssertionError, match="was loaded"):
        trainers.mine_negatives.main(command)
    command[-1] = str(folder / "judged")
    with pytest.raises(BadRowError, match="train_x.jsonl line 2: image 'thin.png'.*cannot be processed"):
        trainers.mine_negatives.main([*command, "--judge", str(backbones["qwen2_vl"])])


@pytest.mark.parametrize("case", list(CASES))
def test_evaluation(backbones, folder, case):
    options, second, _ = CASES[case]
    length = int(options[1]) if options else None
    places = (str(backbones["qwen2_vl"]), [str(folder / "eval_x.jsonl")], str(folder / "scores"))
    arguments = EvaluationArguments(*places, device="cpu", max_length=length)
    with pytest.raises(DataError, match=f"eval_x.jsonl line 2: {second}"):
        evaluation.run.evaluate(arguments, must_not_load)
    arguments = EvaluationArguments(*places, device="cpu", max_length=length, on_bad_row="skip")
    result = json.loads(evaluation.run.evaluate(arguments).read_text(encoding="utf-8"))
    skipped = result["data_sets"][0]["skipped"]["rows"]
    assert_bad([(int(row["row"].removeprefix("line ")), row["reason"]) for row in skipped], case)


def test_the_prompt_of_the_form_counts_in_evaluation(backbones, folder):
    """Captions stand under the summary prompt, which takes more tokens than MMEB's raw strings."""
    rows = [{"image": name, "captions": [name]} for name in ("small.png", "twelve.png")]
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = EvaluationArguments(
        str(backbones["qwen2_vl"]), [str(folder / "captions.jsonl")], str(folder / "o"), device="cpu", max_length=20
    )
    with pytest.raises(DataError, match="captions.jsonl line [12]: image .* max_length is 20"):
        evaluation.run.evaluate(arguments, must_not_load)


@pytest.mark.parametrize("command", ["train", "mine", "evaluate"])
def test_the_limit_of_pixels_is_an_option(backbones, folder, command, capsys):
    model = str(backbones["qwen2_vl"])
    limit = ["--max_image_pixels", "3000"]
    train = train_command(model, folder, *limit)
    mine = ["--model", model, "--data", str(folder / "train_x.jsonl"), "--output", str(folder / "mined"), *limit]
    evaluate = ["--model", model, "--data", str(folder / "eval_x.jsonl"), "--output", str(folder / "o"), *limit]
    main, argv = {
        "train": (trainers.train_stage2.main, train),
        "mine": (trainers.mine_negatives.main, mine),
        "evaluate": (evaluation.run.main, evaluate),
    }[command]
    with pytest.raises((BadRowError, SystemExit)) as stopped:
        main(argv)
    said = f"{stopped.value} {capsys.readouterr().err}"
    assert "line 1: image 'small.png'" in said and "56 x 56 pixels are more than the allowed" in said
    argv[argv.index("3000")] = "200000000"
    with pytest.raises(SystemExit):
        main(argv)
    assert "max_image_pixels must be from 1 to 178956970" in capsys.readouterr().err
