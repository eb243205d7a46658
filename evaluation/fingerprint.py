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
from unime.data.images import ImageStore
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
    """Identity of the files that a model is loaded from.

    Args:
        folder: Model folder; for a SentenceTransformer its module folders are looked into as well.

    Returns:
        Relative path to a digest of the file's bytes.
    """
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
    """Digest of the Python files of `modeling_unime`, `unime.data` and `evaluation`.

    Args:
        *more: Further folders whose Python files count.
    """
    digest = hashlib.sha256()
    for folder in (
        *(Path(package.__file__).parent for package in (modeling_unime, unime.data)),
        Path(__file__).parent,
        *more,
    ):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def fingerprint(
    data: str | Path | Sequence[str], image_root: str | None, common: dict[str, Any], places: Sequence[Path] = ()
) -> str:
    """Fingerprint of one result.

    Args:
        data: The data set, or its files; the bytes of a file count, or the rows of a `datasets` source.
        image_root: The `image_root` option; archives count by size and time.
        common: What all data sets of a run share: model, code, options.
        places: Folders and archives of images, where that is no matter of `image_root`.

    Returns:
        64 hexadecimal digits.
    """
    files = [data] if isinstance(data, str | Path) else data
    has_store = image_root is not None or Path(files[0]).exists()
    roots = places or (ImageStore.find(files[0], image_root).roots if has_store else [])
    archives = [_stamp(root) for root in roots if root.is_file()]
    digests = [source_digest(file) for file in files]
    content = {"data": digests[0] if len(digests) == 1 else digests, "archives": archives, **common}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
