# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Digests of large files, over all their bytes, computed once and remembered by the file's size and times.

They are kept in `$HF_HOME/unime/digests`, one small file each. Where that cannot be written, they are computed each time.
"""

import hashlib
import json
import logging
import time
from pathlib import Path

from huggingface_hub.constants import HF_HOME

from unime.data.data_files import file_digest
from unime.files import write_atomically

logger = logging.getLogger(__name__)

MEMORY = Path(HF_HOME, "unime", "digests")
REMEMBERED_FROM = 1 << 26  # bytes; smaller files are read in a moment
SETTLED = 2.0  # seconds after a change, within which another one might leave the same time


def remembered_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits.

    Args:
        path: The file. The time at which its entry changed counts as well, which nobody can set back.
    """
    before = path.stat()
    if before.st_size < REMEMBERED_FROM:
        return file_digest(path)
    place = str(path.resolve())
    stamp = [place, before.st_size, before.st_mtime_ns, before.st_ctime_ns, before.st_ino]
    memory = MEMORY / f"{hashlib.blake2b(place.encode('utf-8', 'surrogateescape'), digest_size=16).hexdigest()}.json"
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
