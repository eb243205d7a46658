# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the documents show is true: their commands are taken by the real parsers, their Python runs."""

import importlib
import re
import runpy

import documented
import numpy as np
import pytest
import torch
from tiny_models import save_unime

ROOT = documented.ROOT
README = (ROOT / "README.md").read_text(encoding="utf-8")


def collect(find) -> list:
    """What a function finds in every document, as parameters of a test."""
    found = [(document, entry) for document in documented.DOCUMENTS for entry in find(document)]
    return [
        pytest.param(entry, id=f"{document.stem}: {entry if isinstance(entry, str) else ' '.join(entry)}"[:100])
        for document, entry in found
    ]


@pytest.mark.parametrize("words", collect(documented.commands))
def test_command_is_accepted(words):
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        return
    if words[0].startswith("examples/"):
        assert (ROOT / words[0]).stat().st_mode & 0o111, f"{words[0]} cannot be executed"
    command = documented.python_command(words)
    if command is None:
        assert words[0] in ("python3", "pip") or re.fullmatch(r"\w+=.*", words[0]), f"unknown program {words[0]}"
        return
    documented.parse(*command)


@pytest.mark.parametrize("words", collect(documented.mentioned_commands))
def test_mentioned_command_has_its_options(words, capsys):
    module, argv = documented.python_command(words)
    if argv:
        with pytest.raises(SystemExit):
            importlib.import_module(module).main(["--help"])
        known = capsys.readouterr().out
        assert all(re.search(rf"{word}\b", known) for word in argv if word.startswith("--"))
    else:
        assert importlib.util.find_spec(module)


@pytest.mark.parametrize("code", collect(lambda document: documented.blocks(document, "python")))
def test_python_runs(code, backbones, pictures, tmp_path, monkeypatch):
    """As it stands, with tiny models under the names of the published ones; vectors go on to numpy as users take them."""
    monkeypatch.chdir(tmp_path)
    save_unime(backbones["llava_next"], "model")
    (tmp_path / "photos").mkdir()
    pictures[0].save(tmp_path / "photos" / "dog.jpg")
    code = code.replace("path/or/repo", str(tmp_path / "model"))
    code = code.replace("llava-hf/llava-v1.6-mistral-7b-hf", str(backbones["llava_next"]))
    names = {"image": pictures[0], "pil_image": pictures[0]}
    exec(code, names)
    if "trainers.losses import" in code:
        assert names["loss"].statistics
        return
    for name in {"vectors", "embeddings", "queries"} & names.keys():
        vectors = torch.as_tensor(names[name]).numpy()
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-4


def test_tables_are_generated():
    """Every table of figures stands between markers that evaluation.table fills."""
    for marker in ("demo", "real"):
        begin, end = README.index(f"<!-- {marker}:begin -->"), README.index(f"<!-- {marker}:end -->")
        assert begin < end


def test_tables_of_options_are_those_of_the_parsers():
    made = runpy.run_path(str(ROOT / "docs/make_options.py"))["page"]()
    assert made == (ROOT / "docs/options.md").read_text(encoding="utf-8"), (
        "run `make docs`, or python docs/make_options.py"
    )
