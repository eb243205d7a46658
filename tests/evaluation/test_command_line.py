# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
from dataclasses import fields

import pytest

from evaluation.arguments import EvaluationArguments
from evaluation.command_line import parse_dataclasses


def parse(*argv):
    return parse_dataclasses([EvaluationArguments], list(argv))[0]


def test_command_line_alone():
    arguments = parse("--model", "m", "--data", "a", "b", "--output", "o", "--batch-size", "4")
    assert (arguments.data, arguments.batch_size, arguments.limit) == (["a", "b"], 4, None)


def test_options_win_over_the_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: m\ndata: [a, b]\noutput: o\nbatch_size: 8\nlimit: null\nkinds: []\ntrust_remote_code: true\n"
    )
    arguments = parse(str(path), "--batch_size", "2", "--data", "c")
    assert (arguments.model, arguments.batch_size, arguments.data) == ("m", 2, ["c"])
    assert arguments.trust_remote_code is True and arguments.kinds == []
    assert parse(str(path)).data == ["a", "b"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("model: m\ndata: a\noutput: o\nbatchsize: 8\n", "unknown option 'batchsize'; did you mean 'batch_size'?"),
        ("model: m\ndata: a\noutput: o\nbatch_size: many\n", "invalid int value: 'many'"),
        ("model: m\ndata: a\noutput: o\non_bad_row: ignore\n", "invalid choice: 'ignore'"),
        ("model: m\ndata: a\noutput: o\nbatch_size: 0\n", "batch_size must be at least 1"),
        ("model: m\ndata: a\noutput: o\nkinds: ['*=animals']\n", "GLOB=KIND"),
        ("model: m\ndata: {a: b}\noutput: o\n", "'data' must be a value or a list"),
        ("data: a\noutput: o\n", "required: --model"),
        ("just text\n", "expected 'option: value' lines"),
        ("a: [\n", "cannot be read as YAML"),
    ],
)
def test_wrong_files_are_explained(tmp_path, capsys, content, message):
    path = tmp_path / "run.yaml"
    path.write_text(content)
    with pytest.raises(SystemExit):
        parse(str(path))
    assert message in capsys.readouterr().err


def test_unknown_options_and_missing_files(capsys):
    for argv in (["--model", "m", "--data", "a", "--output", "o", "--modle", "x"], ["missing.yaml"]):
        with pytest.raises(SystemExit):
            parse(*argv)
        assert ("--modle" if len(argv) > 1 else "missing.yaml") in capsys.readouterr().err


def test_every_option_has_help():
    assert all(len(entry.metadata["help"]) > 20 for entry in fields(EvaluationArguments))
