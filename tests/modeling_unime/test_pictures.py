# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Every form of a picture gives the same pixels; what cannot be read is said in one sentence."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_unime import Phi3VImageProcessor, UniMEProcessor
from modeling_unime.pictures import read_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
GREY = PIXELS[..., 0]
AS_RGB = np.repeat(GREY[..., None], 3, axis=2)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def forms(image: Image.Image, folder) -> dict:
    content = png(image)
    (folder / "p.png").write_bytes(content)
    return {
        "PIL": image,
        "lazy PIL": Image.open(folder / "p.png"),
        "path": str(folder / "p.png"),
        "Path": folder / "p.png",
        "bytes": content,
        "bytearray": bytearray(content),
        "file": io.BytesIO(content),
        "data URL": "data:image/png;base64," + base64.b64encode(content).decode(),
        "row of datasets": {"bytes": content, "path": None},
        "row of datasets by path": {"bytes": None, "path": str(folder / "p.png")},
    }


def transparent(mode: str) -> tuple[Image.Image, np.ndarray]:
    """A picture whose left half is transparent with black beneath, and what it shows."""
    alpha = np.full((40, 50), 255, dtype=np.uint8)
    alpha[:, :25] = 0
    colour = (AS_RGB if mode == "LA" else PIXELS).copy()
    colour[:, :25] = 0
    shown = colour.copy()
    shown[:, :25] = 255
    if mode == "P":
        index = Image.fromarray((np.arange(50)[None].repeat(40, 0) // 25).astype(np.uint8), "L")
        image = Image.frombytes("P", index.size, index.tobytes())
        image.putpalette([0, 0, 0, 200, 10, 30])
        image.info["transparency"] = 0
        shown[:, 25:] = (200, 10, 30)
        return image, shown
    channels = [colour[..., 0], alpha] if mode == "LA" else [*np.moveaxis(colour, -1, 0), alpha]
    return Image.merge(mode, [Image.fromarray(channel) for channel in channels]), shown


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "I;16"])
def test_all_forms_are_the_same_pixels(tmp_path, mode):
    if mode == "RGB":
        image, shown = Image.fromarray(PIXELS), PIXELS
    elif mode == "L":
        image, shown = Image.fromarray(GREY), AS_RGB
    elif mode == "I;16":
        image, shown = Image.fromarray(GREY.astype(np.uint16) * 257), AS_RGB
        assert image.mode == "I;16"
    else:
        image, shown = transparent(mode)
    for name, form in forms(image, tmp_path).items():
        picture = read_picture(form)
        assert picture.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(picture), shown, err_msg=name)


ARRAYS = {
    "(H, W, 3) uint8": (PIXELS, PIXELS),
    "(3, H, W) uint8": (PIXELS.transpose(2, 0, 1), PIXELS),
    "(H, W, 3) float": (PIXELS / 255, PIXELS),
    "(H, W, 3) float16": ((PIXELS / 255).astype(np.float16), PIXELS),
    "(H, W, 3) int64": (PIXELS.astype(np.int64), PIXELS),
    "(H, W, 3) uint16": (PIXELS.astype(np.uint16) * 257, PIXELS),
    "(H, W) uint8": (GREY, AS_RGB),
    "(H, W) float": (GREY / 255, AS_RGB),
    "(H, W) uint16": (GREY.astype(np.uint16) * 257, AS_RGB),
    "(H, W, 1)": (GREY[..., None], AS_RGB),
    "(1, H, W)": (GREY[None], AS_RGB),
    "(H, W) bool": (GREY > 99, np.where(AS_RGB > 99, 255, 0)),
    "(H, W, 4)": (np.asarray(transparent("RGBA")[0]), transparent("RGBA")[1]),
    "(H, W, 2)": (np.asarray(transparent("LA")[0]), transparent("LA")[1]),
    "(3, W, 3)": (PIXELS[:3], PIXELS[:3]),  # channels last
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name):
    array, shown = ARRAYS[name]
    np.testing.assert_array_equal(np.asarray(read_picture(array)), shown)


def test_tensors():
    last, first = torch.from_numpy(PIXELS), torch.from_numpy(PIXELS).permute(2, 0, 1)
    for tensor in (last, first, first / 255, first.float() / 255, (first / 255).requires_grad_(), first.int()):
        np.testing.assert_array_equal(np.asarray(read_picture(tensor)), PIXELS)
    np.testing.assert_array_equal(np.asarray(read_picture(last[..., 0])), AS_RGB)
    ambiguous = torch.from_numpy(PIXELS[:3, :, :]).permute(2, 0, 1)[:, :, :3]  # (3, 3, 3): channels first
    np.testing.assert_array_equal(np.asarray(read_picture(ambiguous)), PIXELS[:3, :3])


@pytest.fixture(scope="module")
def processor(backbones):
    return UniMEProcessor.from_backbone(backbones["llava_next"])


def test_the_processor_takes_every_form(processor, tmp_path):
    image, shown = transparent("RGBA")
    right = processor(images=[Image.fromarray(shown)])["pixel_values"]
    given = [*forms(image, tmp_path).values(), shown, shown / 255, torch.from_numpy(shown).permute(2, 0, 1)]
    for form in given:
        torch.testing.assert_close(processor(images=[form])["pixel_values"], right)
    given = [*forms(image, tmp_path).values(), shown]
    for form in given:  # one by itself, without a list
        torch.testing.assert_close(processor(images=form)["pixel_values"], right)
    batch = np.stack([shown, 255 - shown])
    assert len(processor(images=batch)["pixel_values"]) == len(
        processor(images=torch.from_numpy(batch))["pixel_values"]
    )
    torch.testing.assert_close(processor(images=[[None, image, None]])["pixel_values"], right)
    views = Phi3VImageProcessor(num_crops=1).preprocess(str(tmp_path / "p.png"))["pixel_values"]
    torch.testing.assert_close(views, Phi3VImageProcessor(num_crops=1).preprocess([shown])["pixel_values"])


@pytest.mark.parametrize(
    "value, message",
    [
        ("no/such.png", "there is no picture file 'no/such.png'; a picture may be a PIL image, a path, bytes"),
        ("", "there is no picture file ''"),
        ("https://example.org/a.png", "'https://example.org/a.png' is an address, and addresses are not fetched"),
        ("HTTP://127.0.0.1/a.png", "addresses are not fetched"),
        ("data:image/png;base64,%%%", "is not valid base64"),
        (b"no picture", "a picture of 10 bytes cannot be decoded: cannot identify image file"),
        (png(Image.fromarray(PIXELS))[:900], "cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot identify image file"),
        (7, "a picture of type int cannot be read; it may be a PIL image"),
        ({"file": "a.png"}, "a picture of type dict cannot be read"),
        (np.zeros((3, 4, 5, 6)), "a picture of type ndarray|shape"),
        (np.zeros(5), r"an array of shape \(5,\) is not one picture"),
        (np.zeros((9, 9, 7)), r"an array of shape \(9, 9, 7\) is not one picture"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "has no pixels"),
        (np.full((4, 4, 3), 200.0), "runs from 200 to 200, but floats must be from 0 to 1"),
        (np.full((4, 4, 3), np.nan), "floats must be from 0 to 1"),
        (torch.full((3, 4, 4), -1.0), "floats must be from 0 to 1"),
        (np.full((4, 4), 300), "values outside 0 to 255"),
        (Image.new("F", (4, 4)), "its pixels are floating-point numbers"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_its_row(processor, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        processor(text=["a", "b"], images=[None, [value]])
    assert str(caught.value).startswith("row 1 of the batch: ") and "\n" not in str(caught.value)
