# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which checkpoint a run starts from."""

import json
from pathlib import Path

from transformers import TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from unime.distributed import world_size


def find_fault(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be continued, None if it was written to its end by as many processes as run now.

    `trainer_state.json` is the last file the Trainer writes into a checkpoint; a process killed while saving leaves a
    folder without it or with a part of it. Each rank saves its random state beside it. Private: both files' names.
    """
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return (
            "is no complete checkpoint (trainer_state.json cannot be read): give a folder named checkpoint-STEP, or leave "
            "the option out to continue from the newest one in output_dir"
        )
    ranks = len(list(checkpoint.glob("rng_state*.pth")))
    if ranks != world_size():
        return f"was written by {ranks} process(es), and {world_size()} run: start as many"
    return None


def last_complete_checkpoint(output_dir: str) -> str | None:
    """Newest checkpoint of a run that can be continued."""
    steps = [folder.name.rpartition("-")[2] for folder in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*")]
    for step in sorted((int(step) for step in steps if step.isdigit()), reverse=True):
        folder = Path(output_dir, f"{PREFIX_CHECKPOINT_DIR}-{step}")
        if find_fault(folder) is None:
            return str(folder)
    return None


def checkpoint_to_continue(config: TrainingArguments) -> str | None:
    """The checkpoint that training starts from, or None.

    It is the newest one in the run's own folder. Where there is none it is the one that `resume_from_checkpoint` names,
    and also where that lies in the run's own folder: the run then goes back to it.
    """
    own, named = last_complete_checkpoint(config.output_dir), config.resume_from_checkpoint
    if named is None:
        return own
    goes_back = Path(named).resolve().parent == Path(config.output_dir).resolve()
    if own is not None and not goes_back:
        return own
    fault = find_fault(Path(named))
    if fault is not None:
        raise ValueError(f"resume_from_checkpoint {named} {fault}")
    return named
