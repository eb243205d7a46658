# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Values of long work, one for each item, kept in a folder by a key of what the item holds.

    FOLDER/<digest of what all values depend on>/<digest of the file>.safetensors    keys (n, 16), values (n, ...)

The work is done in pieces, each of which becomes a file that appears whole or not at all: a killed run loses the pieces
at hand, and goes on with what is missing. Who plans pieces over all items, those that are there included, makes the same
files whatever the number of processes and however often it was killed.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from tqdm.auto import tqdm

from unime.distributed import LongWaitGroup
from unime.files import file_digest, remove_unfinished, write_atomically


class StoreError(ValueError):
    """A file of kept values is damaged or missing; the message says what to do."""


def digest(*parts: object) -> str:
    """32 hexadecimal digits of bytes, and of anything that JSON can hold."""
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        content = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        total.update(b"%d:%s" % (len(content), content))
    return total.hexdigest()


def key_of(*parts: object) -> bytes:
    """The 16 bytes of `digest`."""
    return bytes.fromhex(digest(*parts))


class Store:
    """Kept values in a folder that several runs may share, and that all processes of a run must see; None: in memory.

    A folder may hold any number of stores, told apart by what their values depend on beside the items, ready for JSON.
    """

    def __init__(self, folder: str | Path | None = None, identity: object = None):
        self.folder = None if folder is None else Path(folder, digest(identity))
        self.counts = {"found": 0, "computed": 0}  # items that this run asked for, over all processes
        self._places: dict[bytes, tuple[Path, int]] = {}
        self._in_memory: dict[bytes, np.ndarray] = {}
        self._files: set[Path] = set()
        self._sound: set[Path] = set()

    def missing(self, keys: Sequence[bytes]) -> set[bytes]:
        """Which keys have no value yet, on disk and not as this process remembers it; counts those asked for."""
        self._look()
        missing = {key for key in keys if key not in self._places and key not in self._in_memory}
        self.counts["found"] += len(keys) - len(missing)
        self.counts["computed"] += len(missing)
        return missing

    def ensure(
        self,
        keys: Sequence[bytes],
        order: Sequence[int],
        size: int,
        compute: Callable[[Sequence[int]], np.ndarray],
        what: str,
        spread: bool = False,
    ) -> None:
        """Compute the values (n, ...) float32 that are missing; the processes of a run share them, and wait for each other.

        Items, by number, come into pieces of some size in this order, or with `spread` in turn, so that all pieces are alike.
        """
        with LongWaitGroup() as ranks:
            # One process looks, so that all share out the same work however long they took to get here.
            missing = ranks.broadcast_from_main(lambda: self.missing(keys))
            count = math.ceil(len(order) / size)
            pieces = [order[number::count] for number in range(count)] if spread else _cut(order, size)
            pieces = [piece for piece in pieces if all(keys[number] in missing for number in piece)]
            # Where other work has left some of a piece here, what is missing of all such pieces goes together.
            planned = set(chain.from_iterable(pieces))
            rest = [number for number in order if keys[number] in missing and number not in planned]
            own = [*pieces, *_cut(rest, size)][ranks.rank :: ranks.size]
            for piece in tqdm(own, desc=what, unit="piece", disable=None if ranks.rank == 0 else True):
                self.write([keys[number] for number in piece], compute(piece))
            self.share(ranks)

    def write(self, keys: Sequence[bytes], values: np.ndarray) -> None:
        """Keep the values (n, ...) of n items, as one file."""
        if self.folder is None:
            self._in_memory |= zip(keys, values, strict=True)
            return
        content = save({"keys": np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1), "values": values})
        write_atomically(self.folder / f"{hashlib.sha256(content).hexdigest()}.safetensors", content)

    def share(self, ranks: LongWaitGroup) -> None:
        """Wait until all processes have written; what is in memory is sent to all."""
        for values in ranks.gather(self._in_memory):
            self._in_memory |= values

    def read(self, keys: Sequence[bytes], make_array: Callable[..., np.ndarray] = np.empty) -> np.ndarray:
        """The values of items that have one, (len(keys), ...) float32, in an array made by `make_array(shape, dtype)`."""
        if self.folder is None:
            return np.stack([self._in_memory[key] for key in keys])
        self._look()
        numbers: dict[Path, list[int]] = {}
        for number, key in enumerate(keys):
            if key not in self._places:
                raise StoreError(
                    f"{self.folder} lacks a value that was written: all processes must see the same folder"
                )
            numbers.setdefault(self._places[key][0], []).append(number)
        array = None
        for path, here in numbers.items():
            if path not in self._sound and file_digest(path) != path.stem:
                raise StoreError(f"{path} is damaged; delete it, and it is computed again")
            self._sound.add(path)
            with safe_open(path, "np") as file:
                values = file.get_tensor("values")
            if array is None:
                array = make_array((len(keys), *values.shape[1:]), np.float32)
            if values.shape[1:] != array.shape[1:]:
                raise StoreError(
                    f"{path} holds values of shape {values.shape[1:]}, where others have {array.shape[1:]}; delete it"
                )
            array[here] = values[[self._places[keys[number]][1] for number in here]]
        return array

    def _look(self) -> None:
        """Take note of files that were written since the last look, by whatever process."""
        if self.folder is None or not self.folder.is_dir():
            return
        remove_unfinished(self.folder)
        for path in sorted(set(self.folder.glob("*.safetensors")) - self._files):
            try:
                with safe_open(path, "np") as file:
                    keys = file.get_tensor("keys")
            except (OSError, SafetensorError) as error:
                raise StoreError(f"{path} is damaged ({error}); delete it, and it is computed again") from error
            self._files.add(path)
            for row, key in enumerate(keys):
                self._places.setdefault(key.tobytes(), (path, row))


def _cut(items: Sequence[int], size: int) -> list[Sequence[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
