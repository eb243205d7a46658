# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Images by relative path, from a folder, from a zip archive, or from a folder with an archive behind it.

Data files name their images by paths such as `images/test/7.jpg`. A store answers for those paths without unpacking
anything, and turns whatever lies there into the one thing the processor takes: a fully decoded RGB picture.

Data files come from strangers. Paths must stay within the root, sizes are asked before bytes are read, and only the
usual formats are opened. Links in a folder are followed wherever they lead, since data sets are put together by them:
whoever writes into an image root decides what is read through it.
"""

import io
import os
import posixpath
import re
import threading
import unicodedata
import zipfile
import zlib
from contextlib import nullcontext
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from transformers.utils import logging

from modeling_unime.pictures import FORMATS, to_rgb

logger = logging.get_logger(__name__)

PIL_MAX_PIXELS = 178_956_970  # above it PIL itself refuses to open an image
DEFAULT_MAX_PIXELS = 2**26  # a camera of 64 megapixels; with four bytes each, as PIL holds RGB, 256 MiB
BYTES_PER_PIXEL = (
    5  # of a stored image at most, by the allowed pixels: uncompressed RGBA, and room for what else is there
)
MIN_BYTES = 2**26  # a stored image may always have so many
BIG_PIXELS = 2**23  # larger pictures are decoded one at a time, however many threads there are
DEFAULT_ARCHIVE = "images.zip"

_one_big_picture = threading.Lock()


def _renew_lock() -> None:
    """A child that was forked while another thread held the lock would wait for it for ever."""
    global _one_big_picture
    _one_big_picture = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class ImageError(ValueError):
    """An image is missing, damaged, too large, or outside its store."""


def check_max_pixels(max_pixels: int) -> None:
    """Refuse a limit of pixels that would have no effect."""
    if not 1 <= max_pixels <= PIL_MAX_PIXELS:
        raise ValueError(f"max_image_pixels must be from 1 to {PIL_MAX_PIXELS}, got {max_pixels}")


def normalise_path(path: str) -> str:
    """A relative path, with slashes or backslashes, as stores look it up; ImageError if it leads out of the root."""
    if not path:
        raise ImageError("the image path is empty")
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ImageError(
            f"image {path!r} holds half a character (a lone surrogate) at position {error.start + 1}"
        ) from error
    clean = posixpath.normpath(path.replace("\\", "/"))
    if "\0" in path or clean.startswith("/") or re.match("[A-Za-z]:", clean) or clean.split("/")[0] == "..":
        raise ImageError(f"image {path!r} is not inside the image root; paths must be relative and stay within it")
    return clean


def _other_forms(name: str) -> list[str]:
    """The other Unicode normal forms of a name: macOS stores an umlaut as two characters, most others as one."""
    if name.isascii():
        return []
    forms = dict.fromkeys(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return [form for form in forms if form != name]


class _Root:
    """One folder or one archive. An archive's handle belongs to one process and one thread.

    A handle that crosses a fork shares its file position with the parent, and the two then read each other's bytes.
    Hence each process and thread opens its own on first use.
    """

    def __init__(self, path: Path):
        self.path = path
        self.is_archive = path.is_file()
        name = Path(os.path.abspath(path)).name
        self.own_name = Path(name).stem if self.is_archive else name
        self._local = threading.local()

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_local"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def _open_archive(self) -> None:
        if getattr(self._local, "process", None) == os.getpid():
            return
        archive = zipfile.ZipFile(self.path)
        members, other_forms = {}, {}
        for info in archive.infolist():
            if not info.is_dir():
                name = posixpath.normpath(info.filename.replace("\\", "/"))
                members[name] = info
                if not name.isascii():
                    other_forms.setdefault(unicodedata.normalize("NFC", name), name)
        self._local.archive, self._local.members, self._local.other_forms = archive, members, other_forms
        self._local.process = os.getpid()

    def _find(self, path: str) -> str | None:
        if self.is_archive:
            self._open_archive()
            if path in self._local.members:
                return path
            return None if path.isascii() else self._local.other_forms.get(unicodedata.normalize("NFC", path))
        if (self.path / path).is_file():
            return path
        found = ""  # component by component: a folder and a file in it may be written in different forms
        for component in [] if path.isascii() else path.split("/"):
            forms = (posixpath.join(found, form) for form in (component, *_other_forms(component)))
            found = next((form for form in forms if (self.path / form).exists()), None)
            if found is None:
                return None
        return found if found and (self.path / found).is_file() else None

    def locate(self, path: str) -> str | None:
        """The name under which an image is stored; None if it is not here."""
        found = self._find(path)
        first, _, rest = path.partition("/")
        if found is None and rest and first == self.own_name:
            found = self._find(rest)
            if found is not None:
                logger.warning_once(
                    f"image paths such as {path!r} begin with the name of the image root {str(self.path)!r} itself, so "
                    "they are looked up beside it. (Said once.)"
                )
        return found

    def size(self, name: str) -> int:
        return self._local.members[name].file_size if self.is_archive else (self.path / name).stat().st_size

    def read_bytes(self, name: str, limit: int) -> bytes:
        size = self.size(name)
        if size > limit:
            raise OSError(f"it holds {size} bytes, more than the allowed {limit}")
        if self.is_archive:
            # Not archive.read, which inflates the whole member whatever size the archive says it has.
            with self._local.archive.open(self._local.members[name]) as member:
                return member.read(size)
        return (self.path / name).read_bytes()

    def stamp(self, name: str) -> tuple[int, int]:
        if self.is_archive:
            member = self._local.members[name]
            return member.file_size, member.CRC
        state = (self.path / name).stat()
        return state.st_size, state.st_mtime_ns


class ImageStore:
    """Read images by relative path from folders and zip archives, asked in order for what those before do not have.

    Safe in threads and in forked or spawned workers; can be pickled. Images of more than `max_pixels` are refused before they
    are decoded, so that a small file cannot claim all memory. A path that begins with the name of the root itself
    (`images/7.jpg` in the folder `images` or in `images.zip`) is also looked up without it.
    """

    def __init__(self, root: str | Path, *fallbacks: str | Path, max_pixels: int = DEFAULT_MAX_PIXELS):
        check_max_pixels(max_pixels)
        self.max_pixels = max_pixels
        self._roots = []
        for place in (root, *fallbacks):
            path = Path(place)
            if not path.exists():
                raise ImageError(f"image root {str(path)!r} does not exist; give a folder or a .zip file")
            if path.is_file() and not zipfile.is_zipfile(path):
                raise ImageError(
                    f"image root {str(path)!r} is a file but no readable zip archive (damaged or cut off?)"
                )
            self._roots.append(_Root(path))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageStore) and self.roots == other.roots

    def __hash__(self) -> int:
        return hash(self._roots[0].path)  # asked for every example; a path remembers its own

    def __repr__(self) -> str:
        return f"ImageStore({', '.join(repr(str(root.path)) for root in self._roots)})"

    @classmethod
    def find(
        cls, data_file: str | Path, image_root: str | Path | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> "ImageStore":
        """The store of a data file's images: `image_root` or the file's folder, and then `images.zip` in it."""
        folder = Path(data_file).parent if image_root is None else Path(image_root)
        archive = folder / DEFAULT_ARCHIVE
        return cls(folder, *([archive] if archive.is_file() else []), max_pixels=max_pixels)

    @property
    def roots(self) -> list[Path]:
        """The folders and archives of this store, in the order in which they are asked."""
        return [root.path for root in self._roots]

    def _locate(self, path: str) -> tuple[_Root, str] | None:
        clean = normalise_path(path)
        try:
            for root in self._roots:
                name = root.locate(clean)
                if name is not None:
                    return root, name
        except OSError as error:  # a name that no file can have, or a folder that may not be read
            raise ImageError(f"image {_shown(path)} cannot be looked up in {self!r}: {error.strerror}") from error
        return None

    def _get(self, path: str) -> tuple[_Root, str]:
        located = self._locate(path)
        if located is None:
            places = " or ".join(repr(str(root.path)) for root in self._roots)
            raise ImageError(f"image {_shown(path)} is missing in {places}; check the path, or give the image root")
        return located

    def locate(self, path: str) -> tuple[Path, str] | None:
        """The folder or archive of an image and the name in it, equal for all spellings of its path; None if missing."""
        located = self._locate(path)
        return None if located is None else (located[0].path, located[1])

    def exists(self, path: str) -> bool:
        """Whether some root has an image of that name."""
        return self._locate(path) is not None

    def read_bytes(self, path: str) -> bytes:
        """The stored bytes of an image, not decoded; ImageError if it is missing, too large, or cannot be read."""
        root, name = self._get(path)
        try:
            return root.read_bytes(name, max(MIN_BYTES, BYTES_PER_PIXEL * self.max_pixels))
        # zipfile reports damage, encryption and unknown compression by different exceptions
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise ImageError(f"image {_shown(path)} in {str(root.path)!r} cannot be read: {error}") from error

    def stamp(self, path: str) -> tuple[int, int]:
        """What tells whether an image has changed: size and time of a file, size and checksum of a member."""
        root, name = self._get(path)
        return root.stamp(name)

    def decode(self, content: bytes, path: str) -> Image.Image:
        """Stored bytes as a fully decoded RGB picture; ImageError if they are none, or hold too many pixels."""
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > self.max_pixels:
                    raise ValueError(
                        f"{width} x {height} pixels are more than the allowed {self.max_pixels} (max_image_pixels)"
                    )
                with _one_big_picture if width * height > BIG_PIXELS else nullcontext():
                    image.load()
                    return to_rgb(image)
        except UnidentifiedImageError as error:
            reason = f"cannot identify it as one of {', '.join(FORMATS)}"
            raise ImageError(self._undecodable(content, path, reason)) from error
        except Exception as error:  # PIL's decoders raise nearly every type on damaged input
            raise ImageError(self._undecodable(content, path, error)) from error

    def _undecodable(self, content: bytes, path: str, reason: object) -> str:
        return f"image {_shown(path)} in {self!r} cannot be decoded ({len(content)} bytes): {reason}"

    def open(self, path: str) -> Image.Image:
        """A fully decoded RGB picture; ImageError names path, place and cause where there is none to be had."""
        return self.decode(self.read_bytes(path), path)


def _shown(path: str) -> str:
    """A path for messages: a caption that got into the column of the images may be long."""
    return repr(path if len(path) <= 120 else f"{path[:120]} ...")
