# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The record that travels from a data file to the processor: a text, an image, or both, with an instruction."""

import hashlib
import re
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from modeling_unime.pictures import read_picture
from unime.data.images import ImageError

# Where an image goes in an MMEB text, and the white space that parts it from the rest.
MMEB_IMAGE = re.compile(r"<\|image_\d+\|>[ \n]?")


@dataclass(frozen=True)
class Example:
    """One thing to embed, compared by value, so that equal examples are encoded once.

    Its image is a path in `store`, an `ImageStore`, or without one what `UniMEProcessor` takes. Its instruction says how the
    processor builds the prompt. `None`: the paper's "Summary above ... in one word:"; a string: MMEB's form with it; `""`:
    the text is used raw, as MMEB rows need, which carry their instruction and image token themselves.
    """

    text: str | None = None
    image: Any = None
    instruction: str | None = None
    store: Any = field(default=None, repr=False)

    def __hash__(self) -> int:
        image = self.image if isinstance(self.image, str | None) else id(self.image)
        return hash((self.text, image, self.instruction))

    @classmethod
    def from_fields(cls, text: str | None, image: str | None, instruction: str | None = None) -> "Example":
        """An example of a data file's fields, where "" means absent but for the instruction, where it means raw text."""
        return cls(text=text or None, image=image or None, instruction=instruction)

    def placed(self, store: Any) -> "Example":
        """The same example with its image in a store; without an image it is the same whatever store is beside it."""
        return self if self.image is None else replace(self, store=store)

    def key(self, picture: bytes = b"", with_instruction: bool = True) -> bytes:
        """What says that two examples hold the same: text apart from surrounding white space, instruction if it counts, and
        what identifies the picture, such as a digest of its pixels."""
        text = (self.text or "").strip().encode("utf-8")
        content = b"%d:%s%d:%s" % (len(text), text, len(picture), picture)
        if with_instruction and self.instruction is not None:
            instruction = self.instruction.encode("utf-8")
            content += b"%d:%s" % (len(instruction), instruction)
        return hashlib.blake2b(content, digest_size=16).digest()

    @property
    def cost(self) -> tuple[bool, int]:
        """What it costs to embed, as far as one can tell without opening the image; for sorting."""
        return self.image is not None, len(self.text or "")

    def open(self) -> Image.Image | None:
        """The image, decoded to RGB; `None` if there is none, ImageError if it cannot be read."""
        if self.image is None:
            return None
        if self.store is not None:
            return self.store.open(self.image)
        try:
            return read_picture(self.image)
        except ValueError as error:
            raise ImageError(str(error)) from error

    @property
    def is_empty(self) -> bool:
        """Whether neither a text nor an image is there."""
        return self.text is None and self.image is None

    def describe(self, width: int = 60) -> str:
        """Short form for messages: `text 'a dog ...', image 'images/7.jpg'`."""
        parts = []
        if self.text is not None:
            shown = self.text if len(self.text) <= width else self.text[:width] + " ..."
            parts.append(f"text {shown!r}")
        if self.image is not None:
            parts.append(f"image {self.image!r}" if isinstance(self.image, str) else "an image")
        return ", ".join(parts) or "empty example"
