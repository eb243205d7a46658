# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Any picture as RGB, the one way for training, evaluation and encoding alike.

- the EXIF orientation is applied, as `datasets.Image` and `transformers.image_utils.load_image` do, so that a picture
  gives the same embedding here as in those libraries;
- transparent pixels are laid on white: dropping the alpha channel would show whatever colour hides beneath, often
  black on black;
- 16-bit grey is scaled to 8 bits (a plain conversion would clip nearly all of it to white);
- of an animation the first frame is taken; palettes, grey and CMYK are converted by PIL.
"""

import numpy as np
from PIL import Image, ImageOps


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to RGB, as described at the top of this file.

    Args:
        image: A PIL image.

    Returns:
        The RGB picture.

    Raises:
        ValueError: If the pixels are floating-point numbers, which have no agreed range.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 bits per channel")
    if image.mode == "I" or image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.int64)  # (height, width)
        return Image.fromarray((grey.clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
