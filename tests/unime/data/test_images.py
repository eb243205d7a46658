# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
import io
import logging
import multiprocessing
import os
import pickle
import struct
import threading
import tracemalloc
import unicodedata
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from unime.data.images import ImageError, ImageStore, normalise_path


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


def both_stores(folder, names):
    """A folder and an archive with the same pictures, the number of each being its seed."""
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for number, name in enumerate(names):
            (folder / "all" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "all" / name).write_bytes(encoded(picture(number)))
            archive.writestr(name, encoded(picture(number)))
    return ImageStore(folder / "all"), ImageStore(folder / "all.zip")


@pytest.mark.parametrize("stored, asked", [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_in_another_unicode_normal_form_are_found(tmp_path, stored, asked):
    names = ["Käse/Äpfel.png", "plain/é.png"]
    for store in both_stores(tmp_path, [unicodedata.normalize(stored, name) for name in names]):
        for number, name in enumerate(names):
            other = unicodedata.normalize(asked, name)
            assert store.exists(other) and store.open(other).tobytes() == picture(number).tobytes()
            assert store.stamp(other) == store.stamp(unicodedata.normalize(stored, name))
            assert store.locate(other) == store.locate(unicodedata.normalize(stored, name)) is not None
        mixed = unicodedata.normalize("NFC", "Käse/") + unicodedata.normalize("NFD", "Äpfel.png")
        assert store.open(mixed).tobytes() == picture(0).tobytes()
        assert not store.exists("Käse/Öl.png")


def test_a_name_as_it_is_written_wins_over_another_normal_form(tmp_path):
    names = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    for store in both_stores(tmp_path, names):
        assert [store.open(name).tobytes() for name in names] == [picture(0).tobytes(), picture(1).tobytes()]


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_paths_that_begin_with_the_name_of_the_root(tmp_path, kind, caplog):
    """MMEB's paths begin with images/, and so does the folder's name that people give."""
    (tmp_path / "images/set").mkdir(parents=True)
    (tmp_path / "images/set/0.png").write_bytes(encoded(picture(0)))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("set/0.png", encoded(picture(0)))
    store = ImageStore(tmp_path / ("images" if kind == "folder" else "images.zip"))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert store.open("images/set/0.png").tobytes() == picture(0).tobytes()
    said = [
        record.getMessage() for record in caplog.records if "begin with the name of the image root" in record.message
    ]
    assert len(said) == 1 and "'images/set/0.png'" in said[0]
    assert store.locate("images/set/0.png") == store.locate("set/0.png") == (store.roots[0], "set/0.png")
    assert not store.exists("pictures/set/0.png")


def test_windows_paths(tmp_path):
    for store in both_stores(tmp_path, ["images/0.png"]):
        assert store.open("images\\0.png").tobytes() == store.open(".\\images\\0.png").tobytes()
        for path in (
            "..\\all\\images\\0.png",
            "images\\..\\..\\x.png",
            "C:\\x.png",
            "c:x.png",
            "\\\\host\\x.png",
            "\\x.png",
        ):
            with pytest.raises(ImageError, match="not inside the image root"):
                store.exists(path)
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as archive:
        archive.writestr("images\\0.png", encoded(picture(0)))
    assert ImageStore(tmp_path / "windows.zip").open("images/0.png").tobytes() == picture(0).tobytes()


@pytest.mark.parametrize("path", ["a caption " * 30 + ".png", "x/" + "y" * 300, "half \ud800.png", "nul\0.png"])
def test_what_cannot_be_a_file_name_is_an_image_error(tmp_path, path):
    for store in both_stores(tmp_path, ["0.png"]):
        for ask in (store.open, store.read_bytes, store.stamp):
            with pytest.raises(ImageError) as caught:
                ask(path)
            assert len(str(caught.value)) < 400 and str(caught.value).encode("utf-8")


def test_links_are_followed(tmp_path):
    """Mining links images beside mined rows, and people put data sets together in this way."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far/0.png").write_bytes(encoded(picture(0)))
    (tmp_path / "near").mkdir()
    (tmp_path / "near/images").symlink_to(tmp_path / "far")
    assert ImageStore(tmp_path / "near").open("images/0.png").tobytes() == picture(0).tobytes()


def test_only_formats_of_pictures_are_opened(tmp_path):
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"):
        (tmp_path / "x").write_bytes(encoded(picture(0), kind))
        assert ImageStore(tmp_path).open("x").size == (20, 14), kind
    picture(0).save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[picture(1)])
    assert ImageStore(tmp_path).open("phone.jpg").size == (20, 14)
    for kind in ("EPS", "ICNS", "PCX", "TGA"):
        (tmp_path / "x").write_bytes(encoded(picture(0, (32, 32)), kind))
        with pytest.raises(ImageError, match="cannot identify it as one of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM"):
            ImageStore(tmp_path).open("x")


def test_what_takes_too_much_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """One member holds 64 MiB of zeros and says so; another one says that it holds 100 bytes."""
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large.png", bytes(2**26))
        archive.writestr("liar.png", bytes(2**26))
    content = bytearray((tmp_path / "bomb.zip").read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 100)  # the size in the directory of the archive
    (tmp_path / "bomb.zip").write_bytes(content)
    (tmp_path / "large.png").write_bytes(bytes(2**26))
    monkeypatch.setattr("unime.data.images.MIN_BYTES", 2**20, raising=False)
    for store, path in (("bomb.zip", "large.png"), ("bomb.zip", "liar.png"), (".", "large.png")):
        tracemalloc.start()
        with pytest.raises(ImageError, match="cannot be read: (it holds 67108864 bytes, more than|Bad CRC-32)"):
            ImageStore(tmp_path / store, max_pixels=10**7).read_bytes(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
        tracemalloc.stop()


def test_the_default_limit_of_pixels(tmp_path):
    (tmp_path / "small.png").write_bytes(encoded(Image.new("1", (8192, 8192))))
    (tmp_path / "big.png").write_bytes(encoded(Image.new("1", (8193, 8192))))
    assert ImageStore(tmp_path).open("small.png").size == (8192, 8192)
    with pytest.raises(
        ImageError, match=r"8193 x 8192 pixels are more than the allowed 67108864 \(max_image_pixels\)"
    ):
        ImageStore(tmp_path).open("big.png")
    for limit in (0, 200_000_000):
        with pytest.raises(ValueError, match="max_image_pixels must be from 1 to 178956970"):
            ImageStore(tmp_path, max_pixels=limit)


def test_big_pictures_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    (tmp_path / "big.png").write_bytes(encoded(Image.new("1", (3000, 3000))))
    (tmp_path / "small.png").write_bytes(encoded(Image.new("1", (30, 30))))
    running, most, guard = 0, 0, threading.Lock()

    def slow(image):
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with guard:
            running -= 1
        return image

    monkeypatch.setattr("unime.data.images.to_rgb", slow)
    for name, expected in (("big.png", {1}), ("small.png", {2, 3, 4})):
        most = 0
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ImageStore(tmp_path).open, [name] * 8))
        assert most in expected


@pytest.mark.parametrize("path", ["a\\b.png", "./a//b.png", "x/../a/b.png"])
def test_normalised_paths(path):
    assert normalise_path(path) == "a/b.png"
