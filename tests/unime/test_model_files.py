# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Models that are not there, or whose configuration is no configuration, end every command with one sentence."""

import pytest

from evaluation.encoder import Encoder
from evaluation.run import main as evaluate
from trainers.mine_negatives import main as mine_negatives
from trainers.teachers import NVEmbedModel, load_teacher
from trainers.train_stage1 import main as train_stage1
from trainers.train_stage2 import main as train_stage2
from unime.model_files import find_model_folder, read_json_object, read_model_type
from unime.options import run_command

WRONG = {
    "[]": "config.json holds a list, not a JSON object",
    "3": "config.json holds a int, not a JSON object",
    "null": "config.json holds a NoneType, not a JSON object",
    '"model_type"': "config.json holds a str, not a JSON object",
    "": "config.json cannot be read as JSON: Expecting value",
    '{"model_type": ["clip"]}': "config.json: model_type is ['clip'], not a name",
}


def test_model_type(tmp_path):
    assert read_model_type(tmp_path) is None
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    assert read_model_type(tmp_path) == "clip"
    assert find_model_folder(str(tmp_path)) == tmp_path
    with pytest.raises(ValueError, match="cannot be read as JSON: .*No such file"):
        read_json_object(tmp_path / "absent.json")


@pytest.mark.parametrize("content", WRONG)
@pytest.mark.parametrize("load", [Encoder.from_pretrained, load_teacher])
def test_wrong_configurations_are_named(load, content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError) as error:
        load(tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/{WRONG[content]}")


def test_a_teacher_of_another_kind_is_named(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="holds a list"):
        NVEmbedModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("load", [read_model_type, find_model_folder, Encoder.from_pretrained, load_teacher])
def test_unknown_names_are_named(load):
    with pytest.raises(
        FileNotFoundError, match="^model 'no-such/model' is neither a folder nor can it be had from the Hub"
    ):
        load("no-such/model")


COMMANDS = {
    train_stage1: lambda model, out: ["--model", model, "--texts", "absent.jsonl", "--output_dir", out, "--use_cpu"],
    train_stage2: lambda model, out: ["--model", model, "--data", "absent.jsonl", "--output_dir", out, "--use_cpu"],
    mine_negatives: lambda model, out: ["--model", model, "--data", "absent.jsonl", "--output", out],
    evaluate: lambda model, out: ["--model", model, "--data", "absent.jsonl", "--output", out],
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__module__)
def test_commands_end_with_one_sentence(command, tmp_path, backbones, capsys):
    def end_of(model, data):
        options = COMMANDS[command](str(model), str(tmp_path / "out"))
        options[options.index("absent.jsonl")] = data
        with pytest.raises(SystemExit) as end:
            run_command(command, options)
        assert end.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    (tmp_path / "config.json").write_text("[]")
    assert end_of(tmp_path, "absent.jsonl") == f"error: {tmp_path}/config.json holds a list, not a JSON object"
    assert end_of(backbones["llava_next"], "").startswith("error: a source of data has an empty name; give")
