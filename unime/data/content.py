# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What an example holds: its images are checked, and equal contents get one number.

Two examples are identical in content when text and instruction are equal and the images have the same bytes, under
whatever path. The number is what the tie rule compares and what is encoded once.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from unime.data.example import Example
from unime.data.image_sizes import ImageSizes
from unime.data.images import ImageError, ImageStore


class ImageCheck:
    """Decode each image once, before any model is loaded, and remember its digest or its fault.

    Args:
        store: Where the images lie.
        threads: Images decoded at the same time (PIL lets other threads run meanwhile).
        sizes: Knows which sizes the model's processor can take. Default: all are taken.
    """

    def __init__(self, store: ImageStore, threads: int = 4, sizes: ImageSizes | None = None):
        self.store = store
        self.sizes = sizes
        self._pool = ThreadPoolExecutor(threads)
        self._digests: dict[str, str] = {}
        self._shapes: dict[str, tuple[int, int]] = {}  # width, height
        self._faults: dict[str, str] = {}

    def look_at(self, paths: Iterable[str]) -> None:
        """Check images that have not been checked yet.

        Args:
            paths: Relative paths.
        """
        new = [path for path in dict.fromkeys(paths) if path not in self._digests and path not in self._faults]
        list(self._pool.map(self._check, new))

    def _check(self, path: str) -> None:
        try:
            content = self.store.read_bytes(path)
            image = self.store.decode(content, path)
        except ImageError as error:
            self._faults[path] = str(error)
            return
        self._digests[path] = hashlib.blake2b(content, digest_size=16).hexdigest()
        self._shapes[path] = image.size

    def digest(self, path: str) -> str:
        """Digest of the bytes of an image.

        Args:
            path: Relative path.

        Returns:
            Hexadecimal digits.

        Raises:
            ImageError: If the image is missing or unreadable.
        """
        self.look_at([path])
        if path in self._faults:
            raise ImageError(self._faults[path])
        return self._digests[path]

    def check_size(self, path: str, instruction: str | None) -> None:
        """Ask whether an image can be processed under an instruction.

        Args:
            path: Relative path of an image whose digest is known.
            instruction: As in `Example`.

        Raises:
            ImageError: If it cannot; says why.
        """
        fault = None if self.sizes is None else self.sizes.fault(*self._shapes[path], instruction)
        if fault is not None:
            raise ImageError(f"image {path!r}: {fault}")


class ContentIndex:
    """Number distinct contents in the order in which they are first seen.

    Args:
        images: Gives the digests of the images.
    """

    def __init__(self, images: ImageCheck):
        self.images = images
        self.examples: list[Example] = []  # the first example of each content
        self._numbers: dict[tuple[str | None, str | None, str | None], int] = {}

    def add(self, examples: Iterable[Example]) -> np.ndarray:
        """Numbers of the contents of some examples; none is added if one of them has a bad image.

        Args:
            examples: The examples.

        Returns:
            (N,) int32 indices into `examples`, equal for equal contents.

        Raises:
            ImageError: If an image is missing, unreadable, or of a size that cannot be processed.
        """
        examples = list(examples)
        self.images.look_at(example.image for example in examples if example.image is not None)
        digests = [None if example.image is None else self.images.digest(example.image) for example in examples]
        for example in examples:
            if example.image is not None:
                self.images.check_size(example.image, example.instruction)
        return np.array(
            [self._number(example, digest) for example, digest in zip(examples, digests, strict=True)], "i4"
        )

    def _number(self, example: Example, digest: str | None) -> int:
        key = (example.text, digest, example.instruction)
        number = self._numbers.setdefault(key, len(self.examples))
        if number == len(self.examples):
            self.examples.append(example)
        return number
