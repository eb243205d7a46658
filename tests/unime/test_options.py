# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import json
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest

from evaluation.arguments import EvaluationArguments
from unime.options import CommandError, parse_dataclasses, run_command


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


@pytest.mark.parametrize(
    "error, line",
    [
        (ValueError("row 3 is empty"), "error: row 3 is empty"),
        (CommandError("start 4 processes"), "error: start 4 processes"),
        (ImportError("deepspeed is missing"), "error: deepspeed is missing"),
        (
            FileNotFoundError(2, "No such file or directory", "x.csv"),
            "error: [Errno 2] No such file or directory: 'x.csv'",
        ),
    ],
)
def test_known_errors_are_one_line(error, line, capsys, monkeypatch):
    def main():
        raise error

    # As if the command raised it itself, not this file.
    monkeypatch.setattr("unime.options.OWN_FILES", (Path(__file__).resolve().parent,))
    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == 2 and capsys.readouterr().err == line + "\n"
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(SystemExit):
        run_command(main)
    assert capsys.readouterr().err == line.replace("error:", "error in process 3:") + "\n"


def test_an_error_of_a_library_says_where_it_comes_from(capsys):
    with pytest.raises(SystemExit):
        run_command(json.loads, "{")
    assert capsys.readouterr().err.startswith("error: Expecting property name enclosed in double quotes")
    with pytest.raises(SystemExit):
        run_command(json.loads, "{")
    assert "(JSONDecodeError of decoder.py, line " in capsys.readouterr().err


def test_faults_of_the_program_keep_their_trace():
    def main():
        raise KeyError("a mistake of ours")

    with pytest.raises(KeyError):
        run_command(main)


def test_interruption_is_one_line_and_130(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == 130 and capsys.readouterr().err == "interrupted\n"


def test_defaults_are_said_once(capsys):
    @dataclass
    class Options:
        """Three kinds of help."""

        plain: int = field(default=3, metadata={"help": "How many of them."})
        spoken: int = field(default=4, metadata={"help": "How many. Default: as the model has."})
        none: str | None = field(default=None, metadata={"help": "A name."})

    with pytest.raises(SystemExit):
        parse_dataclasses([Options], ["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "How many of them. (default: 3)" in text
    assert "(default: 4)" not in text and "(default: None)" not in text


def test_a_recipe_goes_by_its_name(tmp_path, monkeypatch, repository):
    from unime.shipped_files import find_recipe

    recipe = repository / "examples" / "recipes" / "tiny-cpu" / "stage1.yaml"
    monkeypatch.chdir(tmp_path)
    for name in ("tiny-cpu/stage1", "tiny-cpu/stage1.yaml", "examples/recipes/tiny-cpu/stage1.yaml"):
        assert find_recipe(name) == recipe
    assert find_recipe("tiny-cpu", "stage1") == find_recipe("examples/recipes/tiny-cpu", "stage1") == recipe
    (tmp_path / "tiny-cpu").mkdir()
    (tmp_path / "tiny-cpu" / "stage1.yaml").write_text("seed: 1\n")
    assert find_recipe("tiny-cpu/stage1.yaml").resolve() == (tmp_path / "tiny-cpu/stage1.yaml").resolve(), "one's own"
    with pytest.raises(FileNotFoundError, match="did you mean 'tiny-cpu/stage2'"):
        find_recipe("tiny-cpu/stage3")
    for name in ("../../setup.py", "tiny-cpu", "recipes"):
        with pytest.raises(FileNotFoundError):
            find_recipe(name)
