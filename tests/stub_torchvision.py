# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""As much of torchvision, and of num2words, as the library's processors need for pictures; its pixels are PIL's.

torchvision's wheels need another torch than the one for the CPU. `write_packages` writes the two packages into a folder
for a process of its own: the library remembers whether they were there.
"""

import enum
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image


class InterpolationMode(enum.Enum):
    """Names of torchvision, numbers of PIL."""

    NEAREST_EXACT, LANCZOS, BILINEAR, BICUBIC, BOX, HAMMING = range(6)


def pil_to_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def resize(images: torch.Tensor, size, interpolation, antialias: bool = True) -> torch.Tensor:
    """Pictures (..., 3, H, W) of 8 bits, one by one."""
    height, width = size
    resized = [
        pil_to_tensor(
            Image.fromarray(image.permute(1, 2, 0).numpy()).resize(
                (width, height), Image.Resampling(interpolation.value)
            )
        )
        for image in images.reshape(-1, *images.shape[-3:])
    ]
    return torch.stack(resized).reshape(*images.shape[:-2], height, width)


def normalize(images: torch.Tensor, mean, std, inplace: bool = False) -> torch.Tensor:
    mean, std = (torch.as_tensor(value, dtype=images.dtype).view(-1, 1, 1) for value in (mean, std))
    return (images - mean) / std


def pad(images: torch.Tensor, padding, fill: float = 0, padding_mode: str = "constant") -> torch.Tensor:
    left, top, right, bottom = padding if len(padding) == 4 else (*padding, *padding)
    return torch.nn.functional.pad(images, (left, right, top, bottom), value=fill)


def crop(images: torch.Tensor, top: int, left: int, height: int, width: int) -> torch.Tensor:
    return images[..., top : top + height, left : left + width]


def grayscale_to_rgb(images: torch.Tensor) -> torch.Tensor:
    return images if images.shape[-3] == 3 else images.expand(*images.shape[:-3], 3, *images.shape[-2:])


def write_packages(folder: Path) -> Path:
    """Make the folder importable from; returns it."""
    transforms = folder / "torchvision" / "transforms"
    (transforms / "v2").mkdir(parents=True)
    (folder / "num2words.py").write_text("num2words = str\n", encoding="utf-8")
    (folder / "torchvision" / "__init__.py").write_text('__version__ = "0.28.0"\n', encoding="utf-8")
    for name in ("io.py", "transforms/v2/__init__.py"):
        (folder / "torchvision" / name).touch()
    shutil.copyfile(__file__, transforms / "functional.py")
    (transforms / "__init__.py").write_text("from .functional import InterpolationMode\n", encoding="utf-8")
    (transforms / "v2" / "functional.py").write_text("from ..functional import *\n", encoding="utf-8")
    return folder
