# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What a model is called in files that are published with another one."""

from pathlib import Path


def is_local(name: str) -> bool:
    """Whether a name is that of a folder or file on this machine, not a Hub id or a word."""
    return bool(name) and (Path(name).is_absolute() or Path(name).exists())


def public_name(name: str) -> str:
    """A Hub id or a word as it is; of a folder or file on this machine the last part alone, since its path is private."""
    return Path(name).resolve().name if is_local(name) else name
