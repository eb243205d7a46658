# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the processor is called with, as one text, one list of pictures and one instruction for each row."""

from collections.abc import Sequence

from PIL import Image

from .pictures import is_picture, read_picture


def align_inputs(text, images, instruction) -> tuple[list, list, list]:
    """The three inputs as lists of one length, with None for what is absent."""
    text = [text] if isinstance(text, str) else text
    images = [images] if images is not None and is_picture(images) else images
    given = {"text": text, "images": images}
    if instruction is not None and not isinstance(instruction, str):
        given["instruction"] = instruction
    sizes = {name: len(values) for name, values in given.items() if values is not None}
    if not {"text", "images"} & set(sizes):
        raise ValueError("nothing to embed: give `text`, `images` or both")
    if len(set(sizes.values())) > 1:
        raise ValueError(f"one element per example is needed, got {sizes}; put None where a modality is absent")
    size = next(iter(sizes.values()))
    if size == 0:
        raise ValueError("nothing to embed: the batch is empty")
    instructions = list(instruction) if "instruction" in given else [instruction] * size
    texts = [None] * size if text is None else list(text)
    pictures = [[]] * size if images is None else [_as_list(value) for value in images]
    return texts, pictures, instructions


def _as_list(images) -> list:
    """The pictures of one example: none, one or several."""
    if images is None:
        return []
    images = [images] if is_picture(images) or not isinstance(images, Sequence) else images
    return [image for image in images if image is not None]


def read_pictures(pictures: list[list]) -> list[Image.Image]:
    """The pictures of all rows, as RGB; a ValueError names the row."""
    images = []
    for row, values in enumerate(pictures):
        for value in values:
            try:
                images.append(read_picture(value))
            except ValueError as error:
                raise ValueError(f"row {row} of the batch: {error}") from error
    return images
