# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The console script: what it says of itself and of wrong words."""

import importlib
import json
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from tiny_models import save_unime, write_pairs

from unime.cli import COMMANDS, main


def test_version(capsys):
    main(["--version"])
    assert re.fullmatch(
        r"unime \S+( \S+)? \(Python 3\.\d+\.\d+, torch 2\.\S+, transformers 5\.\S+\)\n", capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "argv, fault",
    [
        (["bogus"], "error: unknown command 'bogus'"),
        (["evalute"], "error: unknown command 'evalute'; did you mean 'evaluate'?"),
        ([], "error: no command is given"),
    ],
)
def test_a_wrong_command_is_named_on_standard_error(argv, fault, capsys):
    with pytest.raises(SystemExit) as end:
        main(argv)
    output, errors = capsys.readouterr()
    assert end.value.code == 2 and output == ""
    assert errors.splitlines()[-1] == fault


def test_help_is_no_error(capsys):
    main(["--help"])
    output, errors = capsys.readouterr()
    assert errors == "" and all(name in output for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name, capsys):
    """It speaks of the program that was started, and gives each default once."""
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0
    assert text.startswith(f"usage: unime {name} ") and "python -m" not in text
    assert "(default: None)" not in text and "<factory>" not in text
    # An option's entry begins at two blanks and a dash.
    for entry in re.split(r"\n(?=  -)", text):
        assert len(re.findall(r"\(default: |Default: ", entry)) <= 1, entry


@pytest.mark.parametrize("name", COMMANDS)
def test_help_without_unime(name, capsys):
    module = COMMANDS[name][0]
    with pytest.raises(SystemExit):
        importlib.import_module(module).main(["--help"])
    assert capsys.readouterr().out.startswith(f"usage: python -m {module} ")


def test_module_names_are_commands_too(capsys):
    with pytest.raises(SystemExit):
        main(["train_stage1", "--help"])
    assert capsys.readouterr().out.startswith("usage: unime train-stage1 ")


def test_recipes_are_listed_and_printed(capsys, repository):
    main(["recipe"])
    names = capsys.readouterr().out.split()
    assert names == sorted(
        f"{path.parent.name}/{path.stem}" for path in (repository / "examples/recipes").glob("*/*.yaml")
    )
    main(["recipe", "tiny-cpu/stage1"])
    printed = capsys.readouterr().out
    assert printed == (repository / "examples/recipes/tiny-cpu/stage1.yaml").read_text()
    with pytest.raises(SystemExit):
        main(["recipe", "tiny-cpu/stage9"])
    assert "did you mean 'tiny-cpu/stage" in capsys.readouterr().err


# What each command refuses, in a word of its message. None needs a model or data.
KNOWN_ERRORS = {
    "train-stage1": (["--model", "no/such/model/x", "--texts", "t.csv", "--use_cpu", "true"], "no/such/model/x"),
    "train-stage2": (["--model", "no/such/model/x", "--data", "d", "--use_cpu", "true"], "no/such/model/x"),
    "encode-teacher": (
        ["--texts", "t.csv", "--teacher", "/no/such", "--teacher_cache", "cache"],
        "'/no/such' is neither",
    ),
    "mine-negatives": (["--model", "no/such/model/x", "--data", "d", "--output", "out"], "no/such/model/x"),
    "launch": (["train-stage1", "absent.yaml"], "absent.yaml: neither a file nor a recipe"),
    "evaluate": (["--model", "no/such/model/x", "--data", "d", "--output", "out"], "no/such/model/x"),
    "convert": (["no/such/model/x", "out"], "no/such/model/x"),
    "check": (["/no/such/model", "--output", "/proc/x/findings.json"], "folder of output, /proc/x cannot be written"),
    "export": (["--model", "/no/such/model", "--output", "out"], "/no/such/model"),
    "push": (["/no/such/model", "org/name"], "/no/such/model"),
    "table": (["absent.json", "--output", "t.md"], "absent.json"),
    "index": (["absent", "--model", "no/such/model/x", "--output", "out"], "no/such/model/x"),
    "search": (["a dog", "--index", "absent"], "there is no index in absent"),
    "serve-page": (["absent"], "there is no index in absent"),
    "recipe": (["absent"], "absent: neither a file nor a recipe"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_known_errors_end_with_one_line_and_code_2(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv, word = KNOWN_ERRORS[name]
    output = ["--output_dir", "out"] if name.startswith("train") else []
    with pytest.raises(SystemExit) as end:
        main([name, *argv, *output])
    errors = capsys.readouterr().err
    assert end.value.code == 2
    assert "error: " in errors and word in errors and "Traceback" not in errors
    assert not (tmp_path / "out").exists(), "something is left of a run that never began"


def unusable(folder, fault):
    """A saved model with one file that is not what it should be."""
    if fault == "weights cut off":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    if fault == "a processor that is a list":
        (folder / "processor_config.json").write_text("[]")
    if fault == "a backbone that is a number":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"backbone": 3}))


@pytest.mark.parametrize("fault", ["weights cut off", "a processor that is a list", "a backbone that is a number"])
def test_damaged_files_of_a_model_end_with_one_line(fault, backbones, tmp_path, capsys):
    folder = tmp_path / "model"
    save_unime(backbones["llava_next"], folder)
    unusable(folder, fault)
    row = {"qry_text": "a", "qry_img_path": "", "tgt_text": ["a", "b"], "tgt_img_path": ["", ""]}
    (tmp_path / "eval_toy.jsonl").write_text(json.dumps(row))
    data = ["--data", str(tmp_path / "eval_toy.jsonl"), "--output", str(tmp_path / "results")]
    for argv in (["evaluate", "--model", str(folder), *data], ["convert", str(folder), str(tmp_path / "converted")]):
        with pytest.raises(SystemExit) as end:
            main(argv)
        errors = capsys.readouterr().err
        assert end.value.code == 2 and errors.splitlines()[-1].startswith("error: ") and "Traceback" not in errors


@pytest.mark.parametrize(
    "argv, words",
    [
        (["launch", "train-stage2", "--nproc_per_node", "0"], "nproc_per_node must be at least 1"),
        (["launch", "train-stage2", "--expected_world_size", "-3"], "expected_world_size must be at least 0"),
        (["launch", "fly"], "argument command: invalid choice: 'fly'"),
        (["convert", "m", "o", "--image_resolution", "0"], "image_resolution must be at least 1"),
        (["evaluate", "bad.yaml"], "bad.yaml: cannot be read as YAML (while parsing"),
        (
            ["train-stage2", "--model", "m", "--data", "d", "--output_dir", "o", "--deepspeed", "list.json"],
            "list.json",
        ),
        (["train-stage2", "--model", "m", "--data", "d"], "required: --output_dir"),
        (["table", "a.json"], "give --output, --insert or --html"),
        (["check", "absent"], "absent: no such folder"),
    ],
)
def test_wrong_options_end_with_one_line(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("a: [\n")
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(SystemExit) as end:
        main(argv)
    errors = capsys.readouterr().err
    assert end.value.code == 2
    assert errors.startswith("error: ") and len(errors.splitlines()) == 1 and words in errors


def test_the_same_under_python_m(tmp_path, repository):
    command = [sys.executable, "-m", "evaluation.table", str(tmp_path / "absent.json"), "--output", "t.md"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_several_processes_end_like_one(tmp_path, repository):
    """With the first one's exit code, and without a trace of the launcher."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "unime.launch", "train-stage2", "tiny-cpu/stage2", "--nproc_per_node", "2"]
    command += [
        "--master_port",
        port,
        "--model",
        "/no/such/model",
        "--data",
        "d",
        "--output_dir",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2
    assert "error: model /no/such/model: no such folder" in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_ends_a_run_with_one_line(tmp_path, repository, backbones):
    write_pairs(tmp_path)
    command = [sys.executable, "-m", "unime.cli", "train-stage2", "tiny-cpu/stage2", "--data", str(tmp_path)]
    command += ["--model", str(backbones["llava_next"]), "--output_dir", str(tmp_path / "out")]
    command += ["--per_device_train_batch_size", "4", "--max_steps", "100000", "--num_hard_negatives", "2"]
    with open(tmp_path / "log", "w+") as log:
        process = subprocess.Popen(command, cwd=repository, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 120
            while not (tmp_path / "out" / "training_options.json").exists():
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        finally:
            process.kill()
    text = (tmp_path / "log").read_text()
    assert text.rstrip().endswith("interrupted") and "Traceback" not in text
    assert not (tmp_path / "out" / ".lock").exists()
