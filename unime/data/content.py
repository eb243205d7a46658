# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What examples hold: each image is looked at once, before any model is loaded, and equal contents get one number.

The number is what training and mining never take for a negative, what the tie rule of the evaluation compares, and what is
encoded once: a text apart from surrounding white space, an instruction, and the pixels of a picture. The pixels and not the
file: the same picture saved twice, or as PNG and as BMP, is one picture to the model.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from unime.data.example import Example
from unime.data.image_sizes import ImageSizes
from unime.data.images import ImageError

CHECKS = ("full", "exists")


class ContentIndex:
    """Numbers distinct contents in the order in which they are first seen.

    The check "full" decodes every image and knows it by its pixels; "exists" only asks whether the file is there and knows it
    by its path, size and time, so that the same picture under two paths counts as two. Only "full" asks about `sizes`.
    """

    def __init__(self, sizes: ImageSizes | None = None, check: str = "full"):
        if check not in CHECKS:
            raise ValueError(f"image_check is {check!r}. Use one of {', '.join(CHECKS)}.")
        self.sizes = sizes
        self.look = self._decode if check == "full" else self._locate
        self.examples: list[Example] = []  # the first of each content that was added
        self._numbers: dict[bytes, int] = {}
        self._identities: dict[tuple[object, str], bytes] = {}  # by store and path
        self._shapes: dict[tuple[object, str], tuple[int, int]] = {}  # width, height
        self._faults: dict[tuple[object, str], str] = {}

    def look_at(self, examples: Iterable[Example]) -> None:
        """Check the images of examples, several at a time, that have not been checked yet."""
        images = dict.fromkeys((example.store, example.image) for example in examples if example.image is not None)
        new = [image for image in images if image not in self._identities and image not in self._faults]
        if len(new) > 1:
            # Big pictures are decoded one at a time all the same (`unime.data.images`).
            with ThreadPoolExecutor(min(32, os.cpu_count() or 1), thread_name_prefix="image-check") as pool:
                list(pool.map(self._look, new))
        elif new:
            self._look(new[0])

    def fault(self, example: Example) -> str | None:
        """Why the image of an example that was looked at cannot be used; None if it can, or if there is none."""
        image = (example.store, example.image)
        if example.image is None or image in self._faults:
            return self._faults.get(image)
        if self.sizes is None or image not in self._shapes:
            return None
        fault = self.sizes.fault(*self._shapes[image], example.instruction)
        return fault and f"image {example.image!r}: {fault}"

    def picture(self, example: Example) -> bytes:
        """What identifies the picture of an example without fault; nothing where there is none."""
        return b"" if example.image is None else self._identities[example.store, example.image]

    @property
    def folders(self) -> set[Path]:
        """Plain folders with pictures that were looked at."""
        located = (store.locate(path) for store, path in self._identities)
        return {(root / name).parent for root, name in located if root.is_dir()}

    def image_tokens(self, example: Example) -> int | None:
        """Tokens that the picture of an example takes; None where that is not known."""
        shape = self._shapes.get((example.store, example.image))
        return None if shape is None or self.sizes is None else self.sizes.tokens(*shape)

    def number(self, example: Example, with_instruction: bool = True) -> int:
        """The number of the content of an example without fault."""
        return self._numbers.setdefault(example.key(self.picture(example), with_instruction), len(self._numbers))

    @property
    def keys(self) -> np.ndarray:
        """Keys of the numbered contents, (contents, 16) bytes."""
        return np.frombuffer(b"".join(self._numbers), np.uint8).reshape(-1, 16)

    def add(self, examples: Iterable[Example]) -> np.ndarray:
        """Numbers of examples, (N,) int32, which are places in `self.examples`; ImageError, and none added, if one is bad."""
        examples = list(examples)
        self.look_at(examples)
        for example in examples:
            if fault := self.fault(example):
                raise ImageError(fault)
        numbers = []
        for example in examples:
            numbers.append(self.number(example))
            if numbers[-1] == len(self.examples):
                self.examples.append(example)
        return np.array(numbers, "i4")

    def _look(self, image: tuple[object, str]) -> None:
        try:
            self._identities[image] = self.look(image)
        except ImageError as error:
            self._faults[image] = str(error)

    def _decode(self, image: tuple[object, str]) -> bytes:
        store, path = image
        picture = store.open(path)
        self._shapes[image] = picture.size
        pixels = hashlib.blake2b(f"{picture.width} x {picture.height}\n".encode(), digest_size=16)
        pixels.update(picture.tobytes())
        return pixels.digest()

    def _locate(self, image: tuple[object, str]) -> bytes:
        store, path = image
        located = store.locate(path)
        if located is None:
            raise ImageError(f"image {path!r} is missing in {store!r}")
        return "\n".join(map(str, (*located, *store.stamp(path)))).encode("utf-8", "surrogateescape")
