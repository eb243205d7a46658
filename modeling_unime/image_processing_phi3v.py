# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Image processor of Phi-3.5-vision: the image as a whole and in crops of 336 x 336 pixels."""

import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from .pictures import is_picture, read_picture

SIDE = 336  # pixels of a view, the tower's input
VIEW_TOKENS_SIDE = 12  # tokens along a side of a view


def resized_size(width: int, height: int, num_crops: int) -> tuple[int, int]:
    """Width and height of an image, its long side brought to as many views as `num_crops` crops allow."""
    short, long = sorted((width, height))
    ratio = long / short
    scale = 1
    while (scale + 1) * np.ceil((scale + 1) / ratio) <= num_crops:
        scale += 1
    new_long, new_short = SIDE * scale, int(SIDE * scale / ratio)
    if new_short < 1:
        raise ValueError(
            f"an image of {width} x {height} pixels is too long and thin for {num_crops} crops: its short side would "
            "vanish. Crop or pad the image, or raise num_crops"
        )
    return (new_short, new_long) if width < height else (new_long, new_short)


def padded_size(width: int, height: int, num_crops: int) -> tuple[int, int]:
    """Height and width of the canvas that an image is padded to: multiples of 336."""
    new_width, new_height = resized_size(width, height, num_crops)
    return -(-new_height // SIDE) * SIDE, -(-new_width // SIDE) * SIDE


def count_tokens(canvas_height: int, canvas_width: int) -> int:
    """Image tokens of a padded canvas: 12 x 12 for each view, a separator for each row and one between the views."""
    rows, columns = canvas_height // SIDE, canvas_width // SIDE
    return (rows * columns + 1) * VIEW_TOKENS_SIDE**2 + 1 + (rows + 1) * VIEW_TOKENS_SIDE


def draw_canvas(image: Image.Image, num_crops: int) -> Image.Image:
    """The image resized and padded with white on its two long sides, to sides that are multiples of 336 pixels."""
    portrait = image.width < image.height  # turned for a moment: resizing would round in another order
    image = image.transpose(Image.Transpose.TRANSPOSE) if portrait else image
    size = resized_size(*image.size, num_crops)
    height, width = padded_size(*image.size, num_crops)
    canvas = Image.new("RGB", (width, height), "white")
    canvas.paste(image.resize(size, Image.Resampling.BILINEAR), (0, (height - size[1]) // 2))
    return canvas.transpose(Image.Transpose.TRANSPOSE) if portrait else canvas


class Phi3VImageProcessor(BaseImageProcessor):
    """Images to views.

    Example::

        from modeling_unime import Phi3VImageProcessor

        views = Phi3VImageProcessor(num_crops=4)(image)
        assert views["pixel_values"].shape == (1, 5, 3, 336, 336)

    Args:
        num_crops (`int`, defaults to 4): crops an image may have at most; it decides how many tokens an image takes.
            UniME and VLM2Vec use 4, Microsoft's model card advises 16 for single images.
        image_mean (`list[float]`, *optional*): of each channel, 0 to 1 (default: CLIP's).
        image_std (`list[float]`, *optional*): of each channel (default: CLIP's).
    """

    model_input_names = ["pixel_values", "image_sizes", "num_img_tokens"]

    def __init__(
        self,
        num_crops: int = 4,
        image_mean: list[float] | None = None,
        image_std: list[float] | None = None,
        **kwargs,
    ):
        kwargs.pop("num_img_tokens", None)  # in published files: 144, the tokens of a view without separators
        super().__init__(**kwargs)
        self.num_crops = num_crops
        self.image_mean = list(image_mean or OPENAI_CLIP_MEAN)
        self.image_std = list(image_std or OPENAI_CLIP_STD)

    def count_image_tokens(self, height: int, width: int) -> int:
        """Tokens of an image of so many pixels; raises ValueError if it is too long and thin."""
        return count_tokens(*padded_size(width, height, self.num_crops))

    def preprocess(self, images, num_crops: int | None = None, return_tensors: str = "pt", **kwargs) -> BatchFeature:
        """Views of images.

        Args:
            images: a picture or a list of them, of any size and in any form of `pictures.READABLE`.
            num_crops: see the class.
            return_tensors: "pt" or "np".

        Returns:
            `pixel_values` (images, num_crops + 1, 3, 336, 336): the whole image, its crops row by row, zeros.
            `image_sizes` (images, 2): height and width of the padded canvas. `num_img_tokens`: a list of numbers.

        Raises:
            ValueError: an image cannot be read, or is too long and thin; names its number.
        """
        num_crops = num_crops or self.num_crops
        images = [images] if is_picture(images) else images
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.image_mean, self.image_std))
        pixel_values = torch.zeros(len(images), num_crops + 1, 3, SIDE, SIDE)
        sizes = []
        for number, image in enumerate(images):
            try:
                canvas = draw_canvas(read_picture(image), num_crops)
            except ValueError as error:
                raise ValueError(f"image {number}: {error}") from error
            pixels = torch.from_numpy(np.array(canvas)).permute(2, 0, 1).float().div(255)  # (3, H, W)
            pixels = (pixels - mean) / std
            pixel_values[number, 0] = functional.interpolate(pixels[None], (SIDE, SIDE), mode="bicubic")[0]
            crops = pixels.unflatten(2, (-1, SIDE)).unflatten(1, (-1, SIDE)).permute(1, 3, 0, 2, 4).flatten(0, 1)
            pixel_values[number, 1 : 1 + len(crops)] = crops
            sizes.append((canvas.height, canvas.width))
        data = {
            "pixel_values": pixel_values,
            "image_sizes": torch.tensor(sizes),
            "num_img_tokens": [count_tokens(*size) for size in sizes],
        }
        if return_tensors == "np":
            data = {name: np.asarray(value) for name, value in data.items()}
        return BatchFeature(data)
