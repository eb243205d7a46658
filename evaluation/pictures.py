# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Pictures and texts of rows in a page that loads nothing: as data URLs, and on one line."""

import base64
import io
import re
from typing import Any

from PIL import Image

from unime.data.example import MMEB_IMAGE

SIDE = 128  # pixels of a small copy
SMALL_COPY = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/]+=*")


def readable(text: str | None) -> str:
    """A raw MMEB string as a person reads it, on one line: without the image token and the line ends."""
    return " ".join(MMEB_IMAGE.sub(" ", text or "").split())


def small_copy(image: Image.Image) -> str:
    """The data URL of a JPEG of no more than `SIDE` pixels a side."""
    copy = image.convert("RGB")
    copy.thumbnail((SIDE, SIDE))
    return data_url(copy, "jpeg", quality=80)


def is_small_copy(url: Any) -> bool:
    """Whether a page may show this: `small_copy` could have given it."""
    return isinstance(url, str) and SMALL_COPY.fullmatch(url) is not None


def data_url(image: Image.Image, kind: str = "png", **options: Any) -> str:
    """The bytes of an image in the place of its address."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
