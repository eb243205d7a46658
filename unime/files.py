# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Writing a file so that a reader sees either the whole of it or nothing, whenever the writer is killed."""

import contextlib
import os
import platform
import tempfile
import uuid
import zlib
from collections.abc import Iterator
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


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary name beside a file, which becomes the file when the block ends without an error.

    Args:
        path: the file to make or replace; its folder is made if need be.

    Yields:
        The name to write to. What is there at the end is flushed to the disk, then renamed into place; after an error
        it is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{_machine()}-{os.getpid()}-{uuid.uuid4().hex}"
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_atomically(path: str | os.PathLike, content: str | bytes | memoryview) -> Path:
    """Write a file so that it appears whole or not at all.

    Args:
        path: the file to make or replace; its folder is made if need be.
        content: what it holds; text is written as UTF-8.

    Returns:
        The path written.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def remove_unfinished(folder: str | os.PathLike, older_than: float = 3600.0) -> None:
    """Remove what killed writers left behind.

    A file goes when its writer does not live on this machine and it is old by the clock of the file system. This
    machine's own clock is not asked: it may differ from that of the machine which wrote the file.

    Args:
        folder: where to look, not below it.
        older_than: age in seconds below which a file may still belong to a living writer and is kept.
    """
    files = list(Path(folder).glob(f"{TEMPORARY_PREFIX}*"))
    if not files:
        return
    with tempfile.NamedTemporaryFile(dir=folder) as probe:
        now = os.stat(probe.name).st_mtime
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # its writer has just renamed it
            if now - file.stat().st_mtime > older_than and not _writer_lives(file.name):
                file.unlink()


def _machine() -> str:
    """A name of this machine that can stand in a file's."""
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _writer_lives(name: str) -> bool:
    """Whether the process that made a temporary file is known to run; one of another machine cannot be asked."""
    machine, _, rest = name.removeprefix(TEMPORARY_PREFIX).partition("-")
    process = rest.partition("-")[0]
    if machine != _machine() or not process.isdigit() or os.name == "nt":
        return False
    try:
        os.kill(int(process), 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
