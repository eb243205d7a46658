# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Names of models in files that others will read: no paths of this machine."""

import re
from pathlib import Path


def is_local(name: str) -> bool:
    """Whether a model's name is a path of this machine and not a name on the Hub."""
    path = Path(name).expanduser()
    return path.is_absolute() or name.startswith((".", "~")) or "\\" in name or path.exists() or name.count("/") > 1


def published_name(name: str) -> str:
    """A model's name as others may read it: on the Hub, or the last part of a path."""
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if is_local(name) else name
