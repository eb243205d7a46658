# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Long work in pieces that are kept: each a file, named by a digest of everything it depends on.

A file appears whole or not at all, so that a killed run loses one piece of work per process; started again, the run does
only what is missing, whatever the number of processes. A run with other options asks for other names, so it can share the
folder. Processes share the work: they need the same folder.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from unime.distributed import LongWaitGroup
from unime.files import remove_unfinished, write_atomically

Arrays = dict[str, np.ndarray]


class ShardError(ValueError):
    """A piece of long work is damaged or missing; the message says what to do."""


def digest(*parts: object) -> str:
    """32 hexadecimal digits of bytes, and of anything that JSON can hold."""
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        total.update(b"%d:%s" % (len(content), content))
    return total.hexdigest()


class Shards:
    """Pieces of work in a folder; `counts` says by kind how many this run found and computed, over all processes."""

    suffix = ".npz"

    def __init__(self, folder: Path):
        self.folder = folder
        self.counts: dict[str, dict[str, int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder)

    def path(self, kind: str, key: str) -> Path:
        """Where a piece is, or will be."""
        return self.folder / f"{kind}-{key}{self.suffix}"

    def ensure(self, kind: str, keys: Sequence[str], compute: Callable[[int], Arrays]) -> None:
        """Compute the pieces that are missing, by their place in `keys`, and wait until all processes have done theirs."""
        with LongWaitGroup() as ranks:
            # One process looks, so that all share out the same list however long they took to get here.
            missing = ranks.broadcast_from_main(
                lambda: [number for number, key in enumerate(keys) if not self.path(kind, key).exists()]
            )
            counts = self.counts.setdefault(kind, {"found": 0, "computed": 0})
            counts["found"] += len(keys) - len(missing)
            counts["computed"] += len(missing)
            mine = missing[ranks.rank :: ranks.size]
            for number in tqdm(mine, desc=kind, unit="shard", disable=None if ranks.rank == 0 else True):
                self.write(self.path(kind, keys[number]), compute(number))
            ranks.wait()
        absent = [self.path(kind, keys[number]) for number in missing if not self.path(kind, keys[number]).exists()]
        if absent:
            raise ShardError(f"{absent[0]} is not there, but was written: all processes must see the same folder")

    def write(self, path: Path, arrays: Arrays) -> None:
        """Make the file of a piece, whole or not at all."""
        content = io.BytesIO()
        np.savez(content, **arrays)
        write_atomically(path, content.getbuffer())

    def read(self, kind: str, keys: Iterable[str]) -> Iterable[Arrays]:
        """The arrays of pieces, one after the other."""
        for key in keys:
            path = self.path(kind, key)
            try:
                with np.load(path) as content:
                    yield {name: content[name] for name in content.files}
            except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
                raise ShardError(f"{path} is damaged ({error}); delete it, and it is computed again") from error


def in_pieces(
    shards: Shards | None,
    kind: str,
    identity: object,
    order: Sequence[int],
    name: Callable[[int], str],
    compute: Callable[[Sequence[int]], np.ndarray],
    size: int,
) -> np.ndarray:
    """What `compute` gives for each of N items, (N, ...) float32, in pieces of `size`; at once where `shards` is None.

    Args:
        shards: keeps the pieces.
        kind: what they hold, for the names of their files.
        identity: what the values depend on beside the items, ready for JSON.
        order: all items, as they come into pieces.
        name: what an item holds, as a short string.
        compute: gives the values of some items.
        size: items of a piece.
    """
    if shards is None:
        return compute(range(len(order)))
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    keys = [digest(identity, [name(i) for i in part]) for part in parts]
    shards.ensure(kind, keys, lambda number: {"values": compute(parts[number])})
    values = None
    for part, arrays in zip(parts, shards.read(kind, keys), strict=True):
        if values is None:
            values = np.empty((len(order), *arrays["values"].shape[1:]), np.float32)
        values[part] = arrays["values"]
    return values
