# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Look at every image once before training, so that a missing or damaged one is known now and not hours later."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from tqdm.auto import tqdm

from unime.data.image_sizes import AllImageSizes, ImageSizes
from unime.data.images import ImageError, ImageStore

CHECKS = ("full", "exists")
BLOCK = 4096  # images handed to the pool at a time: a million waiting tasks would take a gigabyte


class ImageFact(NamedTuple):
    """What the check found.

    Args:
        identity: equal for equal pictures; None if the image cannot be used.
        fault: why it cannot be used; None if it can.
    """

    identity: bytes | None
    fault: str | None


def _decode(store: ImageStore, path: str, sizes: ImageSizes | AllImageSizes | None) -> ImageFact:
    try:
        image = store.open(path)
    except ImageError as error:
        return ImageFact(None, str(error))
    fault = None if sizes is None else sizes.fault(*image.size)
    if fault is not None:
        return ImageFact(None, f"image {path!r}: {fault}")
    # The pixels and not the file: the same picture saved twice, or as PNG and as BMP, is one picture to the model.
    pixels = hashlib.blake2b(f"{image.width} x {image.height}\n".encode(), digest_size=16)
    pixels.update(image.tobytes())
    return ImageFact(pixels.digest(), None)


def _look_up(store: ImageStore, path: str, sizes: ImageSizes | AllImageSizes | None) -> ImageFact:
    try:
        located = store.locate(path)
    except ImageError as error:
        return ImageFact(None, str(error))
    if located is None:
        return ImageFact(None, f"image {path!r} is missing in {store!r}")
    return ImageFact("\n".join(map(str, located)).encode("utf-8", "surrogateescape"), None)


def check_images(
    images: Sequence[tuple[ImageStore, str]],
    check: str = "full",
    threads: int | None = None,
    progress: bool = True,
    sizes: ImageSizes | AllImageSizes | None = None,
) -> Iterator[ImageFact]:
    """Check images in threads.

    Args:
        images: stores and paths, each image once.
        check: "full" decodes every image and identifies it by its pixels; "exists" only asks whether the file is
            there and identifies it by its path, so that the same picture under two paths counts as two.
        threads: how many decode at a time; None: one per processor core, 32 at most. Big pictures are decoded one at a
            time all the same (`unime.data.images`).
        progress: show a progress bar.
        sizes: knows which sizes the model's processor can take, for the check "full"; None: all are taken.

    Yields:
        One fact per image, in the order of `images`, as soon as it is known.

    Raises:
        ValueError: the check is neither.
    """
    if check not in CHECKS:
        raise ValueError(f"image_check is {check!r}. Use one of {', '.join(CHECKS)}.")
    look = _decode if check == "full" else _look_up
    threads = threads or min(32, os.cpu_count() or 1)
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="image-check") as pool,
        tqdm(total=len(images), desc="Checking images", unit=" images", disable=not progress) as bar,
    ):
        for start in range(0, len(images), BLOCK):
            waiting = [pool.submit(look, store, path, sizes) for store, path in images[start : start + BLOCK]]
            try:
                for task in waiting:
                    fact = task.result()
                    bar.update()
                    yield fact
            finally:  # when the caller stops at the first fault, the rest of the block is not decoded in vain
                for task in waiting:
                    task.cancel()
