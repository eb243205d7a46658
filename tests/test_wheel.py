# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The package as people install it: a wheel, in a fresh environment, away from the checkout."""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from tiny_models import write_pairs

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("modeling_unime", "unime", "trainers", "evaluation", "release")
SOURCES = (*PACKAGES, "examples", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "model_card.md")


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed; nothing of the checkout can be imported."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing old in `build` gets in and nothing new appears in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip, "--wheel-dir", folder / "dist", folder / "source", cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Folder of the programs of a fresh environment, which sees the libraries of this one but not this package."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    places = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", vars=places))
    # A path in a .pth file is searched, but the .pth files found there, an editable installation's, are not read.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    programs = Path(sysconfig.get_path("scripts", vars=places))
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        programs / "python",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
    ]
    run(*pip, "--ignore-installed", wheel, cwd=folder)
    return programs


def test_what_the_wheel_holds(wheel):
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(metadata_name).decode())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert "unime/shipped/model_card.md" in names
    recipes = [*ROOT.glob("examples/recipes/*/*.yaml"), *ROOT.glob("examples/recipes/*.json")]
    assert len(recipes) > 20
    assert {f"unime/shipped/{path.relative_to(ROOT).as_posix()}" for path in recipes} <= names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {*PACKAGES, "unime"}, "a stray top-level name"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
    versions = [entry.rpartition(":: ")[2] for entry in metadata.get_all("Classifier") if ":: Python :: 3." in entry]
    assert versions == ["3.11", "3.12", "3.13"]
    assert metadata.get_all("Project-URL") and metadata["License"] == "Apache-2.0"
    torchvision = [entry for entry in metadata.get_all("Requires-Dist") if "torchvision" in entry]
    assert all('extra == "vision"' in entry for entry in torchvision), "it would replace a CPU torch"


def test_the_test_extra_has_all_that_is_called_tested():
    """docs/scale.md calls DeepSpeed and 4 bits tested."""
    names: dict = {}
    source = (ROOT / "setup.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if isinstance(node, ast.Assign) and "EXTRAS" in ast.dump(node.targets[0])]
    exec(compile(tree, "setup.py", "exec"), names)
    extras = names["EXTRAS"]
    for extra in ("st", "deepspeed", "quant", "demo"):
        assert set(extras[extra]) <= set(extras["test"]), extra
    assert "eval" not in extras, "an extra whose package nothing imports"
    every = {entry for group in extras.values() for entry in group}
    assert [entry for entry in every if "torchvision" in entry] == extras["vision"]


def test_sources_are_of_every_python_that_is_promised():
    """By the grammar of the oldest, and by each interpreter of this machine."""
    files = [path for package in (*PACKAGES, "examples") for path in (ROOT / package).rglob("*.py")]
    for path in files:
        ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 11))
    program = "import pathlib, sys; [compile(open(p, encoding='utf-8').read(), p, 'exec') for p in sys.argv[1:]]"
    for minor in (11, 12, 13):
        interpreter = shutil.which(f"python3.{minor}")
        starts = interpreter and subprocess.run([interpreter, "-c", ""], capture_output=True).returncode == 0
        if starts:  # a version manager has programs for versions that are switched off
            subprocess.run([interpreter, "-W", "error", "-c", program, *map(str, files)], check=True)


@pytest.mark.slow
def test_train_export_and_evaluate_from_the_wheel(installed, backbones, tmp_path):
    unime = installed / "unime"
    data = write_pairs(tmp_path / "data")
    where = run(installed / "python", "-c", "import trainers, evaluation; print(trainers.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert run(unime, "--version", cwd=tmp_path).startswith("unime 0.")
    assert "tiny-cpu/stage2" in run(unime, "recipe", cwd=tmp_path).split()
    zero = yaml.safe_load(run(unime, "recipe", "llava-1.6-7b/stage1", cwd=tmp_path))["deepspeed"]
    program = f"from unime.shipped_files import find_recipe; print(find_recipe({zero!r}))"
    found = run(installed / "python", "-c", program, cwd=tmp_path)
    assert json.loads(Path(found.strip()).read_text())["zero_optimization"]["stage"] == 2

    options = ["--max_steps", "2", "--per_device_train_batch_size", "4", "--gradient_cache_chunk_size", "0"]
    options += ["--num_hard_negatives", "2", "--disable_tqdm", "true"]
    paths = ["--model", backbones["llava_next"], "--data", data, "--output_dir", "out"]
    assert run(unime, "train-stage2", "tiny-cpu", *paths, *options, cwd=tmp_path).splitlines()[-1] == "out"
    assert list((tmp_path / "out").rglob("events.out.tfevents.*")), "the recipe reports to TensorBoard"

    run(unime, "export", "--model", "out", "--output", "hub", "--check", "false", cwd=tmp_path)
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    assert "hard negative enhanced instruction tuning (stage 2)" in card and "{" not in card.partition("---")[0]

    row = {"qry_text": "a dog", "qry_img_path": "", "tgt_text": ["a dog", "a car"], "tgt_img_path": ["", ""]}
    (tmp_path / "eval_toy.jsonl").write_text(json.dumps(row) + "\n")
    run(unime, "evaluate", "--model", "hub", "--data", "eval_toy.jsonl", "--output", "results", cwd=tmp_path)
    (result,) = json.loads((tmp_path / "results" / "results.json").read_text())["data_sets"]
    assert result["metrics"]["precision@1"] == 1.0, "the same text is not the most similar one"
