# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The Python code that a model folder brings along: whether it is this package's own, and where it may run."""

from __future__ import annotations

import hashlib
import json
import os
import site
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import modeling_unime

LIBRARY = "sentence_transformers."  # whose modules a folder may name
# What a process needs to find its libraries and its hardware. Everything else, tokens and keys above all, stays here.
KEPT_VARIABLES = (
    "CUDA_HOME", "CUDA_VISIBLE_DEVICES", "DYLD_LIBRARY_PATH", "HIP_VISIBLE_DEVICES", "LANG", "LC_ALL", "LC_CTYPE",
    "LD_LIBRARY_PATH", "LOGNAME", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR",
    "TZ", "USER", "USERNAME", "VIRTUAL_ENV",
)  # fmt: skip


def package_code() -> dict[str, bytes]:
    """The files that a folder saved by this package may hold, by name."""
    return {path.name: path.read_bytes() for path in Path(modeling_unime.__file__).parent.glob("*.py")}


def code_digest(folder: str | Path) -> str:
    """Digest of the Python files of a folder, 16 hexadecimal digits, for comparison by eye."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}:{len(content)}:".encode() + content)
    return digest.hexdigest()[:16]


def _references(content: Any) -> Iterator[str]:
    """The classes that a JSON file asks to be loaded from Python files."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "auto_map":
                classes = value.values() if isinstance(value, dict) else [value]
                for entry in classes:
                    yield from (str(name) for name in (entry if isinstance(entry, list) else [entry]) if name)
            else:
                yield from _references(value)
    elif isinstance(content, list):
        for value in content:
            yield from _references(value)


def foreign_code(folder: str | Path) -> list[str]:
    """What a folder would run that is not this package's own code: one note on each Python file and on each class.

    Empty when loading the folder runs this package's code and nothing else.
    """
    folder, own = Path(folder), package_code()
    notes = []
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if name not in own:
            notes.append(f"{name} is no file of this package")
        elif path.read_bytes() != own[name]:
            notes.append(f"{name} differs from this package's")
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # loading the folder says so
            continue
        for name in _references(content):
            if f"{name.partition('.')[0]}.py" not in own:
                notes.append(f"{path.name} loads {name}")
        if path.name == "modules.json":
            types = [str(entry.get("type")) for entry in content if isinstance(entry, dict)]
            notes += [f"{path.name} loads {name}" for name in types if not name.startswith(LIBRARY)]
    return notes


def bare_environment(scratch: str | Path) -> dict[str, str]:
    """Environment of a process that runs a folder's code: no tokens, no stored logins, no Hub; an empty folder as home."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    home = {name: str(scratch) for name in ("HOME", "USERPROFILE", "HF_HOME")}
    return {**kept, **home, "HF_HUB_OFFLINE": "1", "PYTHONUSERBASE": site.getuserbase()}
