# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Values of long work, one for each item, kept in a folder by a key of what the item holds.

    FOLDER/<digest of what all values depend on>/<digest of the file>.safetensors    keys (n, 16), values (n, ...)

The work is done in pieces, each of which becomes a file that appears whole or not at all: a killed run loses the pieces
at hand, and goes on with what is missing. Who plans pieces over all items, those that are there included, makes the same
files whatever the number of processes and however often it was killed.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
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
    """Kept values in a folder that several runs may share, and that all processes of a run must see.

    Args:
        folder: of any number of stores.
        identity: what the values depend on beside their items, ready for JSON.
    """

    def __init__(self, folder: str | Path, identity: object = None):
        self.folder = Path(folder, digest(identity))
        self.counts = {"found": 0, "computed": 0}  # items that this run asked for, over all processes
        self._places: dict[bytes, tuple[Path, int]] = {}
        self._files: set[Path] = set()
        self._sound: set[Path] = set()

    def missing(self, keys: Sequence[bytes]) -> set[bytes]:
        """Which keys have no value yet, on disk and not as this process remembers it; counts those asked for."""
        self._look()
        missing = {key for key in keys if key not in self._places}
        self.counts["found"] += len(keys) - len(missing)
        self.counts["computed"] += len(missing)
        return missing

    def ensure(
        self,
        keys: Sequence[bytes],
        pieces: Sequence[Sequence[int]],
        compute: Callable[[Sequence[int]], np.ndarray],
        what: str,
    ) -> None:
        """Compute the values that are missing; the processes of a run share the pieces, and wait for each other.

        Args:
            keys: one for each item.
            pieces: numbers of items that are computed together.
            compute: gives the values of some items, (n, ...) float32.
            what: at the progress bar.
        """
        with LongWaitGroup() as ranks:
            # One process looks, so that all share out the same work however long they took to get here.
            missing = ranks.broadcast_from_main(lambda: self.missing(keys))
            left = [[number for number in piece if keys[number] in missing] for piece in pieces]
            own = list(filter(None, left))[ranks.rank :: ranks.size]
            for piece in tqdm(own, desc=what, unit="piece", disable=None if ranks.rank == 0 else True):
                self.write([keys[number] for number in piece], compute(piece))
            ranks.wait()

    def write(self, keys: Sequence[bytes], values: np.ndarray) -> None:
        """Keep the values (n, ...) of n items, as one file."""
        content = save({"keys": np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1), "values": values})
        write_atomically(self.folder / f"{hashlib.sha256(content).hexdigest()}.safetensors", content)

    def read(self, keys: Sequence[bytes], make_array: Callable[..., np.ndarray] = np.empty) -> np.ndarray:
        """The values of items that have one, (len(keys), ...) float32, in an array made by `make_array(shape, dtype)`.

        Raises:
            StoreError: a file is damaged, values differ in shape, or one is not there.
        """
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
        if not self.folder.is_dir():
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
