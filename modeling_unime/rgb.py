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
from PIL import ExifTags, Image, ImageOps

BAND_PIXELS = 2**20  # converted at a time


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded picture of any mode to RGB, as described at the top of this file.

    Args:
        image: A PIL image.

    Returns:
        The RGB picture; the image itself where nothing is to be done.

    Raises:
        ValueError: If the pixels are floating-point numbers, which have no agreed range.
    """
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # exif_transpose copies the others, too
        image = ImageOps.exif_transpose(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 bits per channel")
    is_deep_grey = image.mode == "I" or image.mode.startswith("I;16")
    if not is_deep_grey and not image.has_transparency_data:
        return image.convert("RGB")
    convert = _from_deep_grey if is_deep_grey else _on_white
    rgb = Image.new("RGB", image.size)
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):  # the copies on the way would take several times what the picture takes
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(convert(band), (0, top))
    return rgb


def _from_deep_grey(image: Image.Image) -> Image.Image:
    grey = np.asarray(image).astype(np.int32)  # (height, width)
    return Image.fromarray((grey.clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
