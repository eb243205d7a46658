# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A folder says what it needs: versions of libraries, and of Python."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sentence_transformers
import transformers
from sentence_transformers import SentenceTransformer
from tiny_models import save_unime
from transformers.dynamic_module_utils import get_relative_imports

from modeling_unime.needed_versions import NEEDED, check_version

ENTRIES = ("configuration_unime", "modeling_unime", "processing_unime")  # what transformers opens
PYTHONS = ("3.11", "3.12", "3.13")


def find_pythons() -> list[str]:
    """An interpreter of each version that is here, below the home folder where version managers keep them, too."""
    found = {f"3.{sys.version_info.minor}": sys.executable}
    for version in PYTHONS:
        kept = sorted(Path.home().glob(f".*/versions/{version}*/bin/python{version}"))
        for candidate in filter(None, (shutil.which(f"python{version}"), *map(str, kept))):
            if version not in found and not subprocess.run([candidate, "-c", ""], capture_output=True).returncode:
                found[version] = candidate
    return list(found.values())


@pytest.fixture(scope="module")
def folder(backbones, tmp_path_factory):
    path = tmp_path_factory.mktemp("needed") / "saved"
    save_unime(backbones["llava"], path)
    return path


@pytest.mark.parametrize("entry", [*ENTRIES, "__init__"])
def test_too_old_transformers_is_one_sentence(folder, repository, tmp_path, entry):
    """With a library that has the old version's number, and nothing that the files import."""
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").write_text("__version__ = '4.57.1'\n")
    shutil.copytree(repository / "modeling_unime" if entry == "__init__" else folder, tmp_path / "saved")
    module = "saved" if entry == "__init__" else f"saved.{entry}"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", f"import {module}"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode and result.stderr.splitlines()[-1] == (
        "ImportError: this UniME model needs transformers>=5.23, but 4.57.1 is installed; run: pip install -U "
        '"transformers>=5.23"'
    )


@pytest.mark.parametrize("entry", ["configuration_unime", "processing_unime"])
def test_files_opened_first_name_all_others(folder, entry):
    """transformers 4 copies what such a file names, and no further: it would say that another file is not there."""
    files = {file.stem for file in folder.glob("*.py")}
    assert {*get_relative_imports(folder / f"{entry}.py"), entry} == files


@pytest.mark.parametrize("version", ["5.22.9", "5.4.0", "4.99.0.dev0"])
def test_too_old_versions(version):
    with pytest.raises(ImportError, match=re.escape(f"transformers>=5.23, but {version} is installed")):
        check_version("transformers", version)


@pytest.mark.parametrize("version", ["5.23.0", "5.23.0.dev0", "5.100", "6.0.0rc1", transformers.__version__])
def test_versions_that_do(version):
    check_version("transformers", version)


def test_sentence_transformers_that_gives_wrong_vectors_is_refused(folder, tmp_path, monkeypatch):
    """5.4 and 5.5 load the folder and hand pictures over otherwise: their vectors are off by 0.24."""
    other = shutil.copytree(folder, tmp_path / "other")
    file = other / "config_sentence_transformers.json"
    config = json.loads(file.read_text())
    del config["requirements"]  # which they do not look at
    file.write_text(json.dumps(config))
    monkeypatch.setattr(sentence_transformers, "__version__", "5.4.0")
    with pytest.raises(ImportError, match="needs sentence-transformers>=6.0, but 5.4.0 is installed"):
        SentenceTransformer(str(other), trust_remote_code=True)


def test_sentence_transformers_reads_what_the_folder_needs(folder, tmp_path):
    """Its own check, before anything of the folder runs."""
    config = json.loads((folder / "config_sentence_transformers.json").read_text())
    assert config["requirements"] == {"transformers": ">=5.23", "sentence-transformers": ">=6.0"}
    other = shutil.copytree(folder, tmp_path / "other")
    config["requirements"]["transformers"] = ">=99"
    (other / "config_sentence_transformers.json").write_text(json.dumps(config))
    with pytest.raises(
        ImportError, match=f"transformers>=99, but transformers=={re.escape(transformers.__version__)}"
    ):
        SentenceTransformer(str(other), trust_remote_code=True)


def test_the_same_is_said_everywhere(repository):
    setup, card = ((repository / name).read_text() for name in ("setup.py", "model_card.md"))
    assert f'"transformers>={NEEDED["transformers"]},' in setup
    for package, version in NEEDED.items():  # the card names what is tested, which may be newer than what is needed
        named = re.search(rf"{package}>=([\d.]+)", card)[1]
        assert tuple(map(int, named.split("."))) >= tuple(map(int, version.split(".")))


@pytest.mark.parametrize("python", find_pythons())
def test_every_source_is_of_the_language_of(python, repository):
    script = (
        "import pathlib, sys\n"
        "files = [f for p in sys.argv[1:] for f in sorted(pathlib.Path(p).rglob('*.py'))]\n"
        "[compile(f.read_text(encoding='utf-8'), str(f), 'exec', dont_inherit=True) for f in files]\n"
        "print(len(files), '%d.%d' % sys.version_info[:2])"
    )
    parts = ("modeling_unime", "trainers", "evaluation", "examples", "benchmarks", "tests")
    arguments = [str(repository / part) for part in parts]
    result = subprocess.run([python, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert not result.returncode, result.stderr[-2000:]
    files, version = result.stdout.split()
    assert int(files) > 100 and version in PYTHONS
