# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Weights that others may read where the user's umask lets them.

safetensors writes every file readable by its owner alone, whatever the umask, so that a colleague or a server could not
load a finished model.
"""

import stat
import uuid
from pathlib import Path

_OWNER_ALONE = stat.S_IRUSR | stat.S_IWUSR


def give_weights_the_usual_mode(folder: str | Path) -> None:
    """Give the weights in a folder, not below it, the mode that any new file there has."""
    files = [file for file in Path(folder).glob("*.safetensors") if stat.S_IMODE(file.stat().st_mode) == _OWNER_ALONE]
    if not files:
        return
    new = Path(folder, f".mode-{uuid.uuid4().hex}")  # asking the system for its umask would change it for a moment
    new.touch()
    mode = stat.S_IMODE(new.stat().st_mode)
    new.unlink()
    for file in files:
        file.chmod(mode)
