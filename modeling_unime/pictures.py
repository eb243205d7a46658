# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Whatever a picture is handed over as, to RGB: the same pixels, and so the same vector, whichever way it came.

- The EXIF orientation is applied, as `datasets.Image` and `transformers.image_utils.load_image` do;
- transparent pixels are laid on white: dropping the alpha channel would show whatever colour hides beneath;
- 16-bit grey is scaled to 8 bits (a plain conversion would clip nearly all of it to white);
- of an animation the first frame is taken; palettes, grey and CMYK are converted by PIL.

Addresses are never fetched. A text may look like one, and a server that embeds what strangers send would ask its own
network for it; who wants the picture behind an address fetches it with limits of their own and hands over the bytes.
"""

import base64
import io
import os
from collections.abc import Mapping

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

READABLE = (
    "a PIL image, a path, bytes, a data: URL, a file open for reading, a numpy array (H, W) or (H, W, channels), a "
    "torch tensor (channels, H, W) or (H, W, channels), of unsigned integers or of floats from 0 to 1"
)
# No EPS, which starts Ghostscript, nor other formats that pictures on the web do not have.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # by number of channels
BAND_PIXELS = 2**20  # converted at a time


def is_picture(value) -> bool:
    """Whether a value is one picture, rather than a sequence of them."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return value.ndim < 4 and value.dtype != object
    return isinstance(value, (Image.Image, str, bytes, bytearray, memoryview, os.PathLike, Mapping)) or hasattr(
        value, "read"
    )


def read_picture(value) -> Image.Image:
    """The RGB picture in any of the forms of `READABLE`, or a row of `datasets.Image(decode=False)`."""
    if isinstance(value, Image.Image):
        return _decode(lambda: value, "the PIL image")
    if isinstance(value, Mapping) and {"bytes", "path"} & set(value):
        value = value["path"] if value.get("bytes") is None else value["bytes"]
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return to_rgb(_from_array(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _open(io.BytesIO(value), f"a picture of {len(value)} bytes")
    if hasattr(value, "read"):
        return _open(value, f"the picture in {type(value).__name__}")
    if isinstance(value, str) and value.lower().startswith(("http://", "https://", "ftp://")):
        raise ValueError(
            f"{_shown(value)} is an address, and addresses are not fetched; fetch it yourself and hand over the bytes, "
            'or, where it is meant as a text, {"text": ...}'
        )
    if isinstance(value, str) and value.startswith("data:"):
        try:
            content = base64.b64decode(value.partition(",")[2], validate=True)
        except ValueError as error:
            raise ValueError(f"the picture {_shown(value)} is not valid base64: {error}") from error
        return _open(io.BytesIO(content), f"the picture {_shown(value)}")
    if isinstance(value, (str, os.PathLike)):
        if not os.path.isfile(value):
            raise ValueError(f"there is no picture file {_shown(str(value))}; a picture may be {READABLE}")
        return _open(value, f"the picture {_shown(str(value))}")
    raise ValueError(f"a picture of type {type(value).__name__} cannot be read; it may be {READABLE}")


def _shown(text: str) -> str:
    """A path or URL for a message, not longer than a line."""
    return repr(text if len(text) <= 100 else text[:80] + "...")


def _open(source, name: str) -> Image.Image:
    return _decode(lambda: Image.open(source, formats=FORMATS), name)


def _decode(open_image, name: str) -> Image.Image:
    try:
        image = open_image()
        image.load()
        return to_rgb(image)
    except Exception as error:  # PIL's decoders raise nearly every type on damaged input
        reason = str(error).partition(" <")[0] or type(error).__name__
        raise ValueError(f"{name} cannot be decoded: {reason}") from error


def _from_array(array: np.ndarray | torch.Tensor) -> Image.Image:
    """A PIL image of the same pixels; where both ends could be channels, they are as the array's library has them."""
    channels_first = isinstance(array, torch.Tensor)
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    shape, kind = array.shape, array.dtype
    axes = [axis for axis in (0, 2) if array.ndim == 3 and shape[axis] in MODES]
    if axes:
        array = np.moveaxis(array, axes[0] if channels_first else axes[-1], -1)
        array = array[..., 0] if array.shape[-1] == 1 else array
    elif array.ndim != 2:
        raise ValueError(f"an array of shape {tuple(shape)} is not one picture; it may be {READABLE}")
    if array.size == 0:
        raise ValueError(f"an array of shape {tuple(shape)} has no pixels")
    if np.issubdtype(kind, np.bool_):
        array = array * np.uint8(255)
    elif np.issubdtype(kind, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # also false for NaN
            raise ValueError(
                f"an array of {kind} runs from {array.min():.4g} to {array.max():.4g}, but floats must be from 0 to 1; "
                "scale them, or hand over 8-bit integers"
            )
        array = np.rint(array * 255)
    elif kind == np.uint16:
        array = array // 257
    elif not np.issubdtype(kind, np.integer) or array.min() < 0 or array.max() > 255:
        raise ValueError(f"an array of {kind} with values outside 0 to 255 is no picture; it may be {READABLE}")
    array = np.ascontiguousarray(array.astype(np.uint8))
    mode = MODES[array.shape[-1]] if array.ndim == 3 else "L"
    return Image.frombytes(mode, (array.shape[1], array.shape[0]), array.tobytes())


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture of any mode as RGB; itself where nothing is to be done."""
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
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
