# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Writing a file so that a reader sees either the whole of it or nothing, whenever the writer is killed; digests of files."""

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub.constants import HF_HOME

logger = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".unfinished-"
DIGESTS = Path(HF_HOME, "unime", "digests")  # of large files, one small file each
REMEMBERED_FROM = 1 << 26  # bytes; smaller files are read in a moment
SETTLED = 2.0  # seconds after a change, within which another one might leave the same time


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary name beside a file, which is flushed and becomes the file when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{uuid.uuid4().hex}"
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name != "nt":  # Windows cannot open folders, and there the rename itself is written through
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_atomically(path: str | os.PathLike, content: str | bytes | memoryview) -> Path:
    """Write a file, text as UTF-8, so that it appears whole or not at all."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def remove_unfinished(folder: str | os.PathLike, older_than: float = 3600.0) -> None:
    """Remove what killed writers left in a folder: files whose writer does not live here and that are so many seconds old."""
    files = list(Path(folder).glob(f"{TEMPORARY_PREFIX}*"))
    if not files:
        return
    # By the clock of the file system: this machine's may differ from that of the machine which wrote the file.
    with tempfile.NamedTemporaryFile(dir=folder) as probe:
        now = os.stat(probe.name).st_mtime
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # its writer has just renamed it
            if now - file.stat().st_mtime > older_than and not _writer_lives(file.name):
                file.unlink()


def _writer_lives(name: str) -> bool:
    """Whether a process runs here that may have made a temporary file; another machine's cannot be asked."""
    process = name.removeprefix(TEMPORARY_PREFIX).partition("-")[0]
    if not process.isdigit() or os.name == "nt":
        return False
    try:
        os.kill(int(process), 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered_digest(path: Path) -> str:
    """`file_digest`, of a large file computed once and remembered by its size and times, where that can be written.

    The time at which its entry changed counts as well, which nobody can set back.
    """
    before = path.stat()
    if before.st_size < REMEMBERED_FROM:
        return file_digest(path)
    place = str(path.resolve())
    stamp = [place, before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino]
    memory = DIGESTS / f"{hashlib.blake2b(place.encode('utf-8', 'surrogateescape'), digest_size=16).hexdigest()}.json"
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        if known["file"] == stamp:
            return known["sha256"]
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or not one of ours
        pass
    logger.info("Reading %s (%.1f GB) for its digest; it is remembered.", path, before.st_size / 1e9)
    digest = file_digest(path)
    after = path.stat()
    if after.st_mtime_ns == before.st_mtime_ns and time.time() - after.st_mtime > SETTLED:
        try:
            write_atomically(memory, json.dumps({"file": stamp, "sha256": digest}))
        except OSError as error:
            logger.warning(f"The digest of {path} cannot be remembered: {error}")
    return digest
