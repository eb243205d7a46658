# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The record that travels from a data file to the processor: a text, an image, or both, with an instruction."""

import re
from dataclasses import dataclass

# Where an image goes in an MMEB text, and the white space that parts it from the rest.
MMEB_IMAGE = re.compile(r"<\|image_\d+\|>[ \n]?")


@dataclass(frozen=True)
class Example:
    """One thing to embed.

    Hashable and compared by value, so that equal examples can be encoded once.

    Args:
        text: The text; `None` when there is none.
        image: Path of the image relative to an `ImageStore`; `None` when there is none.
        instruction: How the processor builds the prompt. `None`: the paper's "Summary above ... in one word:" prompt;
            a string: the MMEB form with that instruction; `""`: the text is used raw, as MMEB rows need, because they
            carry their instruction and image token themselves.
    """

    text: str | None = None
    image: str | None = None
    instruction: str | None = None

    @classmethod
    def from_fields(cls, text: str | None, image: str | None, instruction: str | None = None) -> "Example":
        """Build an example from the fields of a data file, in which an empty string means "absent".

        Args:
            text: Text field; `""` becomes `None`.
            image: Image path field; `""` becomes `None`.
            instruction: Kept as it is, since `""` has a meaning of its own.

        Returns:
            The example.
        """
        return cls(text=text or None, image=image or None, instruction=instruction)

    @property
    def is_empty(self) -> bool:
        """Whether neither a text nor an image is there."""
        return self.text is None and self.image is None

    def describe(self, width: int = 60) -> str:
        """Short form for messages.

        Args:
            width: Characters of the text that are shown.

        Returns:
            For example `text 'a dog ...', image 'images/7.jpg'`.
        """
        parts = []
        if self.text is not None:
            shown = self.text if len(self.text) <= width else self.text[:width] + " ..."
            parts.append(f"text {shown!r}")
        if self.image is not None:
            parts.append(f"image {self.image!r}")
        return ", ".join(parts) or "empty example"
