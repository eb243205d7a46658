# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What a result depends on, as one short string: a finished data set is computed again only if it changes.

Model files and data files count by all their bytes; the digests of large weights are remembered. Archives of images, and all
files in folders of images, count by size and time of last change; vectors go by pixels, so that little is computed again.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import modeling_unime
import unime.data
from unime.data.data_files import source_digest
from unime.files import remembered_digest

MODEL_FILES = (
    "*.safetensors",
    "*.bin",
    "*config*.json",
    "modules.json",
    "*token*",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.jinja",
    "*.py",
)


def _stamp(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def stamps(folders: Iterable[str | Path]) -> dict[str, str]:
    """By folder, what changes when a file in it does."""

    def stamp(folder: str | Path) -> str:
        if not Path(folder).is_dir():
            return ""
        files = sorted((file.name, *_stamp(Path(file))) for file in os.scandir(folder) if file.is_file())
        return hashlib.sha256(repr(files).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    return {str(folder): stamp(folder) for folder in folders}


def model_identity(folder: Path) -> dict[str, Any]:
    """By relative path, digests of the files that a model is loaded from, with those of a SentenceTransformer's modules."""
    folders = [folder]
    if (folder / "modules.json").is_file():
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        folders += [folder / module["path"] for module in modules if module["path"]]
    identity: dict[str, Any] = {}
    for place in folders:
        for path in sorted({path for pattern in MODEL_FILES for path in place.glob(pattern) if path.is_file()}):
            identity[str(path.relative_to(folder))] = remembered_digest(path)
    return identity


def code_identity(*more: Path) -> str:
    """Digest of the Python files of `modeling_unime`, `unime.data`, `evaluation`, and of more folders."""
    digest = hashlib.sha256()
    for folder in (
        *(Path(package.__file__).parent for package in (modeling_unime, unime.data)),
        Path(__file__).parent,
        *more,
    ):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def fingerprint(data: Sequence[str], places: Iterable[Path], common: dict[str, Any]) -> str:
    """64 hexadecimal digits of files or `datasets` sources, of archives among places of images, and of what runs share."""
    content = [
        [source_digest(source) for source in data],
        [_stamp(place) for place in places if place.is_file()],
        common,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
