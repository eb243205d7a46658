# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The folder that a command writes: whether it can, and that no other run writes there at the same time."""

import contextlib
import errno
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from unime.options import CommandError

if os.name != "nt":
    import fcntl

LOCK_FILE = ".lock"
OPTIONS_FILE = (
    "training_options.json"  # of a training run, written first; a run with other options does not continue it
)
CONVERSION_FILE = "conversion_report.json"  # of `unime convert`
RECORD_FILE = "training_record.json"  # and last; its presence says that the model in the folder is complete
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # some network file systems have none


def check_writable(folder: str | os.PathLike, option: str) -> None:
    """See that files can be written into a folder, there or not, before anything long begins; nothing is made."""
    path = Path(folder).absolute()
    try:
        there = next(place for place in (path, *path.parents) if place.exists())
        with tempfile.TemporaryFile(dir=there):  # asks the disk, since rights alone say nothing of a read-only one
            pass
    except OSError as error:
        raise CommandError(
            f"{option} {folder} cannot be written ({error.strerror or error}); choose another folder"
        ) from error


@contextlib.contextmanager
def only_writer(folder: str | os.PathLike, option: str, active: bool = True) -> Iterator[None]:
    """Hold a folder for this run, however it ends; other processes of the run leave that to the first (`active`).

    The hold is a lock on a file in it, which worker processes do not inherit. On Windows, and where the file system knows
    no locks, nothing is locked. The folder is made if need be, and removed again if nothing is written into it.
    """
    if not active:
        yield
        return
    check_writable(folder, option)
    made = not Path(folder).exists()
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = Path(folder, LOCK_FILE)
    file = _open_locked(path, option)
    try:
        yield
    finally:
        if os.name != "nt":
            path.unlink(missing_ok=True)  # before it is unlocked: who opened it meanwhile sees that it is gone
        file.close()
        if made:
            with contextlib.suppress(OSError):  # it holds something
                Path(folder).rmdir()


def _open_locked(path: Path, option: str) -> IO[str]:
    """The lock file, open, locked, and still the one of that name."""
    while True:
        file = open(path, "a+", encoding="utf-8")
        if os.name == "nt":
            return file
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                print(f"{path.parent}: this file system has no locks; start no second run there", file=sys.stderr)
                return file
            file.seek(0)
            holder = file.read().strip()
            file.close()
            raise CommandError(
                f"{option} {path.parent} is in use by another run{f' ({holder})' if holder else ''}; wait for it to end "
                "or choose another folder"
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {platform.node()}")
                file.flush()
                return file
        file.close()  # its last holder removed it between our two steps
