# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which checkpoint a run starts from."""

import json
from pathlib import Path

from transformers import TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from unime.distributed import world_size


def last_complete_checkpoint(output_dir: str) -> str | None:
    """Newest checkpoint of a run that was written to its end, or None.

    `trainer_state.json` is the last file the Trainer writes into a checkpoint; a process killed while saving leaves a
    folder without it or with a part of it. Other ranks save their random state beside it.
    """
    found = []
    for folder in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        number = folder.name.rsplit("-", 1)[1]
        if not number.isdigit():
            continue
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            continue
        ranks = len(list(folder.glob("rng_state*.pth")))
        if ranks == world_size():
            found.append((int(number), str(folder)))
    return max(found)[1] if found else None


def check_processes(config: TrainingArguments, before: int | None) -> None:
    """Refuse to continue a run with another number of processes: its checkpoints would not be found, and overwritten.

    Args:
        config: the stage's training options.
        before: how many processes the run in the folder had; None where that is not on record.

    Raises:
        ValueError: names both numbers.
    """
    if before not in (None, config.world_size):
        raise ValueError(
            f"{config.output_dir} holds checkpoints of a run of {before} process(es), and {config.world_size} run now: "
            f"start {before}, or choose another output_dir"
        )


def check_checkpoint(folder: str) -> None:
    """Make sure that a folder is a checkpoint that was written to its end by as many processes as run now.

    Raises:
        ValueError: says what is missing.
    """
    try:
        json.loads(Path(folder, "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"resume_from_checkpoint {folder} is no complete checkpoint (trainer_state.json cannot be read): give a "
            "folder named checkpoint-STEP, or leave the option out to continue from the newest one in output_dir"
        ) from error
    ranks = len(list(Path(folder).glob("rng_state*.pth")))
    if ranks != world_size():
        raise ValueError(
            f"resume_from_checkpoint {folder} was written by {ranks} process(es), and {world_size()} run: start as many"
        )


def checkpoint_to_continue(config: TrainingArguments) -> str | None:
    """The checkpoint that training starts from, or None.

    It is the newest one in the run's own folder. Where there is none it is the one that `resume_from_checkpoint` names,
    and also where that lies in the run's own folder: the run then goes back to it.

    Raises:
        ValueError: `resume_from_checkpoint` is no complete checkpoint.
    """
    own, named = last_complete_checkpoint(config.output_dir), config.resume_from_checkpoint
    if named is None:
        return own
    goes_back = Path(named).resolve().parent == Path(config.output_dir).resolve()
    if own is not None and not goes_back:
        return own
    check_checkpoint(named)
    return named
