# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Writing a file so that a reader sees either the whole of it or nothing, whenever the writer is killed."""

import os
import time
import uuid
from pathlib import Path

TEMPORARY_PREFIX = ".unfinished-"


def _sync_folder(folder: Path) -> None:
    """Make a rename durable. Windows cannot open folders, and there the rename itself is written through."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: str | os.PathLike, content: str | bytes | memoryview) -> Path:
    """Write a file under a temporary name beside its goal, flush it to the disk, then rename it into place.

    Args:
        path: the file to make or replace; its folder is made if need be.
        content: what it holds; text is written as UTF-8.

    Returns:
        The path written.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return path


def remove_unfinished(folder: str | os.PathLike, older_than: float = 3600.0) -> None:
    """Remove what killed writers left behind.

    Args:
        folder: where to look, not below it.
        older_than: age in seconds below which a file may still belong to a living writer and is kept.
    """
    for file in Path(folder).glob(f"{TEMPORARY_PREFIX}*"):
        try:
            age = time.time() - file.stat().st_mtime
        except FileNotFoundError:  # its writer has just renamed it
            continue
        if age > older_than:
            file.unlink(missing_ok=True)
