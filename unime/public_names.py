# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What a model is called in files that are published with another one."""

import re
from pathlib import Path


def is_local(name: str) -> bool:
    """Whether a name is that of a folder or file on a machine, there or not, and no Hub id or word."""
    path = Path(name)
    written_as_path = path.is_absolute() or name.startswith((".", "~")) or "\\" in name or name.count("/") > 1
    return bool(name) and (written_as_path or path.exists())


def public_name(name: str) -> str:
    """A Hub id or a word as it is; of a folder or file the last part alone, since its path is private."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if is_local(name) else name
