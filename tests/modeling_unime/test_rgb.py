# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Conversion to RGB in bands: the same pixels as at once, without several copies of a big picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.measure import CLEAR_REFS, peak_extra_bytes
from modeling_unime.pictures import to_rgb


def noise(shape: tuple[int, ...], dtype) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def on_white(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 4) to (H, W, 3), exactly."""
    alpha = pixels[..., 3:].astype(float) / 255
    return pixels[..., :3] * alpha + 255 * (1 - alpha)


def test_transparent_pictures_of_several_bands():
    pixels = noise((3000, 700, 4), np.uint8)
    rgb = np.asarray(to_rgb(Image.fromarray(pixels)))
    assert np.abs(rgb - on_white(pixels)).max() <= 1
    grey = pixels[..., [0, 3]]
    rgb = np.asarray(to_rgb(Image.fromarray(grey, "LA")))
    assert np.abs(rgb - on_white(pixels[..., [0, 0, 0, 3]])).max() <= 1


def test_transparent_palettes_of_several_bands():
    indices = noise((3000, 700), np.uint8)
    image = Image.fromarray(indices, "P")
    palette = noise((256, 3), np.uint8)
    image.putpalette(palette.flatten().tolist())
    image.info["transparency"] = 7
    expected = np.where(indices[..., None] == 7, 255, palette[indices])
    assert np.array_equal(np.asarray(to_rgb(image)), expected)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_grey_of_16_bits_of_several_bands(mode):
    grey = noise((3000, 700), np.uint16)
    kinds = {"I;16": "<u2", "I;16B": ">u2", "I": np.int32}
    image = Image.frombytes(mode, (700, 3000), grey.astype(kinds[mode]).tobytes())
    expected = np.repeat((grey // 257)[..., None], 3, axis=-1)
    assert np.array_equal(np.asarray(to_rgb(image)), expected)


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="the peak of memory is read from Linux's /proc")
@pytest.mark.parametrize("mode, megabytes", [("RGB", 0), ("RGBA", 120), ("I;16", 120)])
def test_a_big_picture_takes_no_more_than_its_rgb(mode, megabytes):
    image = Image.new(mode, (6000, 5000))  # PIL holds RGB as four bytes for each of the 30 million pixels
    taken = peak_extra_bytes(lambda: to_rgb(image), torch.device("cpu"))
    assert taken < (megabytes + 40) * 1e6
