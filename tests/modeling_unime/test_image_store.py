# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import io
import multiprocessing
import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from modeling_unime.image_store import ImageError, ImageStore


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(seed: int, size: tuple[int, int] = (20, 14)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def store(tmp_path):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for number in range(40):
            archive.writestr(f"images/{number}.png", encoded(picture(number)))
    return ImageStore(tmp_path / "images.zip")


def check_all(store: ImageStore, order: list[int]) -> bool:
    return all(store.open(f"images/{n}.png").tobytes() == picture(n).tobytes() for n in order)


def check_in_child(store, order, queue):
    queue.put(check_all(store, order))


def test_folder_and_zip_give_the_same_pictures(tmp_path, store):
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    folder = ImageStore(tmp_path / "unpacked")
    for name in ("images/3.png", "./images/3.png", "images/../images/3.png"):
        assert store.exists(name) and folder.exists(name)
        assert store.open(name).tobytes() == folder.open(name).tobytes() == picture(3).tobytes()
    assert store.read_bytes("images/3.png") == folder.read_bytes("images/3.png")
    assert not store.exists("images") and not folder.exists("images")


@pytest.mark.parametrize("path", ["../secret.png", "images/../../secret.png", "/etc/hostname", "", ".."])
def test_paths_out_of_the_root_are_refused(tmp_path, store, path):
    (tmp_path / "secret.png").write_bytes(encoded(picture(0)))
    (tmp_path / "inner").mkdir()
    for place in (store, ImageStore(tmp_path / "inner")):
        with pytest.raises(ImageError):
            place.open(path)
        with pytest.raises(ImageError):
            place.exists(path)


def test_find_prefers_the_folder_and_falls_back_to_the_archive(tmp_path, store):
    data_file = tmp_path / "eval_x.jsonl"
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.png").write_bytes(encoded(picture(99)))
    found = ImageStore.find(data_file)
    assert found.open("images/0.png").tobytes() == picture(99).tobytes()
    assert found.open("images/1.png").tobytes() == picture(1).tobytes()
    assert ImageStore.find(data_file, tmp_path / "images.zip").open("images/0.png").tobytes() == picture(0).tobytes()
    with pytest.raises(ImageError, match="elsewhere"):
        ImageStore.find(data_file, tmp_path / "elsewhere")


def test_errors_name_path_place_and_cause(tmp_path, store):
    with pytest.raises(ImageError, match=r"'images/77.png' is missing in .*images.zip"):
        store.open("images/77.png")
    content = encoded(picture(1, (300, 300)), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "cut.png").write_bytes(encoded(picture(1))[:-200])
    (tmp_path / "text.png").write_bytes(b"not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    folder = ImageStore(tmp_path)
    for name, cause in (("cut.jpg", "truncated"), ("cut.png", ""), ("text.png", "identify"), ("empty.png", "0 bytes")):
        with pytest.raises(ImageError, match=f"'{name}' in .*{tmp_path.name}.*{cause}"):
            folder.open(name)


def test_damaged_archive_members_are_image_errors(tmp_path, store):
    content = bytearray((tmp_path / "images.zip").read_bytes())
    start = content.index(encoded(picture(5)))
    content[start + 60] ^= 0xFF
    (tmp_path / "bad.zip").write_bytes(content)
    damaged = ImageStore(tmp_path / "bad.zip")
    with pytest.raises(ImageError, match="images/5.png.*cannot be read.*CRC"):
        damaged.open("images/5.png")
    assert damaged.open("images/6.png").tobytes() == picture(6).tobytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match="no readable zip archive"):
        ImageStore(tmp_path / "cut.zip")


def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    (tmp_path / "wide.png").write_bytes(encoded(Image.new("1", (1000, 1000))))
    assert ImageStore(tmp_path).open("wide.png").size == (1000, 1000)
    with pytest.raises(ImageError, match="1000 x 1000 pixels are more than the allowed 999999"):
        ImageStore(tmp_path, max_pixels=999_999).open("wide.png")


def test_every_mode_becomes_rgb(tmp_path):
    grey = Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16))
    see_through = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30])
    clear_palette = palette.copy()
    clear_palette.info["transparency"] = 0
    cases = {
        "grey16.png": (encoded(grey), (128, 128, 128)),
        "clear.png": (encoded(see_through), (255, 255, 255)),
        "palette.png": (encoded(palette), (10, 20, 30)),
        "clear_palette.png": (encoded(clear_palette, transparency=0), (255, 255, 255)),
        "bits.png": (encoded(Image.new("1", (4, 4), 1)), (255, 255, 255)),
        "grey.png": (encoded(Image.new("L", (4, 4), 7)), (7, 7, 7)),
        "cmyk.tiff": (encoded(Image.new("CMYK", (4, 4), (255, 0, 0, 0)), "TIFF"), (0, 255, 255)),
    }
    for name, (content, colour) in cases.items():
        (tmp_path / name).write_bytes(content)
        image = ImageStore(tmp_path).open(name)
        assert image.mode == "RGB", name
        assert image.getpixel((1, 1)) == colour, name
    (tmp_path / "float.tiff").write_bytes(encoded(Image.new("F", (4, 4), 0.5), "TIFF"))
    with pytest.raises(ImageError, match="floating-point"):
        ImageStore(tmp_path).open("float.tiff")


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: width and height change places
    (tmp_path / "turned.jpg").write_bytes(encoded(picture(0, (20, 14)), "JPEG", exif=exif))
    assert ImageStore(tmp_path).open("turned.jpg").size == (14, 20)


def test_forked_workers_do_not_share_the_file_position(store):
    """With one shared handle the children would read each other's bytes."""
    assert check_all(store, [0, 1])  # the parent has an open handle before the fork
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    orders = [[(start + 7 * step) % 40 for step in range(120)] for start in range(4)]
    children = [context.Process(target=check_in_child, args=(store, order, queue)) for order in orders]
    for child in children:
        child.start()
    assert check_all(store, orders[0])
    assert [queue.get(timeout=60) for _ in children] == [True] * 4
    for child in children:
        child.join()


def test_threads_and_pickle(store):
    orders = [[(start + 7 * step) % 40 for step in range(80)] for start in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda order: check_all(store, order), orders))
    assert check_all(pickle.loads(pickle.dumps(store)), orders[0])


def test_stamp_tells_that_an_image_changed(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(0)))
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("b.png", encoded(picture(1)))
        file.writestr("same/b.png", encoded(picture(1)))
    store = ImageStore(tmp_path, archive)
    before = store.stamp("a.png"), store.stamp("b.png")
    assert store.stamp("./a.png") == before[0] and store.stamp("same/b.png") == before[1]
    os.utime(tmp_path / "a.png", ns=(1, 1))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("b.png", encoded(picture(2)))
    store = ImageStore(tmp_path, archive)
    assert store.stamp("a.png") != before[0] and store.stamp("b.png") != before[1]
    with pytest.raises(ImageError, match="'c.png' is missing"):
        store.stamp("c.png")
