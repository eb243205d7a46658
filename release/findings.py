# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What checks compare, how near it must be, and what one finds."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

SAME = 1 - 1e-5  # cosine of what must be the same computation but for rounding
ROUNDED = 0.99  # cosine of float32 and bfloat16
Row = tuple[str | None, Image.Image | None, str | None]  # text, image, instruction


@dataclass
class Finding:
    """One comparison: what was compared, whether it is as it should be (None: not looked at), smallest cosine, and why."""

    name: str
    passed: bool | None
    cosine: float | None = None
    note: str = ""

    @property
    def sound(self) -> bool:
        """Nothing is known to be wrong."""
        return self.passed is not False


def check_inputs() -> list[Row]:
    """Texts, images and instructions, the same every time: short and long, wide and high, alone and together."""
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    square = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 99, np.uint8)], -1)
    wide, high = Image.fromarray(square[:24]), Image.fromarray(np.ascontiguousarray(square[:, 20:50, ::-1]))
    picture = Image.fromarray(square)
    return [
        ("A dog.", None, None),
        ("Two men in green shirts stand on a ladder and clean the upper windows of a house. " * 2, None, None),
        ("naïve café, 東京", None, None),
        (None, picture, None),
        (None, wide, None),
        (None, high, None),
        ("What colors are in the picture?", picture, "Represent the given image with the following question:"),
        ("A gradient.", None, "Find an image that matches the caption:"),
    ]
