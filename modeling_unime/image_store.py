# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Images by relative path, from a folder, from a zip archive, or from a folder with an archive behind it.

Data files name their images by paths such as `images/test/7.jpg`. A store answers for those paths without unpacking
anything, and turns whatever lies there into the one thing the processor takes: a fully decoded RGB picture.
"""

import io
import os
import posixpath
import threading
import zipfile
import zlib
from pathlib import Path

from PIL import Image

from .rgb import to_rgb

DEFAULT_MAX_PIXELS = 178_956_970  # the size from which PIL itself refuses to open an image
DEFAULT_ARCHIVE = "images.zip"


class ImageError(ValueError):
    """An image is missing, damaged, too large, or outside its store."""


def normalise_path(path: str) -> str:
    """Bring a relative path to the form in which stores keep it.

    Args:
        path: A path with forward slashes, relative to the root; a leading `./` is tolerated.

    Returns:
        The path without `.` and `..` components.

    Raises:
        ImageError: If the path is empty, absolute, or leads out of the root.
    """
    if not path:
        raise ImageError("the image path is empty")
    clean = posixpath.normpath(path)
    if "\0" in path or os.path.isabs(clean) or clean.startswith("/") or clean.split("/")[0] == "..":
        raise ImageError(f"image {path!r} is not inside the image root; paths must be relative and stay within it")
    return clean


class _Root:
    """One folder or one archive. An archive's handle belongs to one process and one thread.

    A handle that crosses a fork shares its file position with the parent, and the two then read each other's bytes.
    Hence each process and thread opens its own on first use.
    """

    def __init__(self, path: Path):
        self.path = path
        self.is_archive = path.is_file()
        self._local = threading.local()

    def __getstate__(self) -> dict:
        return {"path": self.path, "is_archive": self.is_archive}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def _archive(self) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
        if getattr(self._local, "process", None) != os.getpid():
            archive = zipfile.ZipFile(self.path)
            members = {posixpath.normpath(info.filename): info for info in archive.infolist() if not info.is_dir()}
            self._local.archive, self._local.members, self._local.process = archive, members, os.getpid()
        return self._local.archive, self._local.members

    def exists(self, path: str) -> bool:
        if self.is_archive:
            return path in self._archive()[1]
        return (self.path / path).is_file()

    def read_bytes(self, path: str) -> bytes:
        if self.is_archive:
            archive, members = self._archive()
            return archive.read(members[path])
        return (self.path / path).read_bytes()

    def stamp(self, path: str) -> tuple[int, int]:
        if self.is_archive:
            member = self._archive()[1][path]
            return member.file_size, member.CRC
        state = (self.path / path).stat()
        return state.st_size, state.st_mtime_ns


class ImageStore:
    """Read images by relative path. Safe in threads and in forked or spawned workers; can be pickled.

    Args:
        root: A folder, or a zip archive whose member names are the relative paths.
        *fallbacks: Further folders or archives, asked in order for what the ones before do not have.
        max_pixels: Width times height above which an image is refused before it is decoded, so that a small file
            cannot claim all memory (default 178,956,970, PIL's own limit; a larger value has no effect).

    Raises:
        ImageError: If a root does not exist or is a file that is no zip archive.

    Example:
        >>> store = ImageStore("data/images.zip")                      # doctest: +SKIP
        >>> store.open("images/test/7.jpg").mode                       # doctest: +SKIP
        'RGB'
    """

    def __init__(self, root: str | Path, *fallbacks: str | Path, max_pixels: int = DEFAULT_MAX_PIXELS):
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

    def __repr__(self) -> str:
        return f"ImageStore({', '.join(repr(str(root.path)) for root in self._roots)})"

    @classmethod
    def find(
        cls, data_file: str | Path, image_root: str | Path | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
    ) -> "ImageStore":
        """Pick the place where the images of a data file lie.

        Args:
            data_file: The file whose rows name the images.
            image_root: Folder or archive that holds them. Default: the folder of the data file and, for images that
                are not there, `images.zip` beside the data file.
            max_pixels: See the class.

        Returns:
            The store.

        Raises:
            ImageError: If `image_root` is given and cannot be used, or `images.zip` is damaged.
        """
        if image_root is not None:
            return cls(image_root, max_pixels=max_pixels)
        folder = Path(data_file).parent
        archive = folder / DEFAULT_ARCHIVE
        return cls(folder, *([archive] if archive.is_file() else []), max_pixels=max_pixels)

    @property
    def roots(self) -> list[Path]:
        """The folders and archives of this store, in the order in which they are asked."""
        return [root.path for root in self._roots]

    def exists(self, path: str) -> bool:
        """Whether an image lies at `path`.

        Args:
            path: Relative path.

        Returns:
            True if some root has a file of that name.

        Raises:
            ImageError: If the path leads out of the root.
        """
        clean = normalise_path(path)
        return any(root.exists(clean) for root in self._roots)

    def read_bytes(self, path: str) -> bytes:
        """Read the stored bytes of an image.

        Args:
            path: Relative path.

        Returns:
            The bytes, not decoded.

        Raises:
            ImageError: If the file is missing or cannot be read.
        """
        clean = normalise_path(path)
        for root in self._roots:
            if root.exists(clean):
                try:
                    return root.read_bytes(clean)
                # zipfile reports damage, encryption and unknown compression by different exceptions
                except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
                    raise ImageError(f"image {path!r} in {str(root.path)!r} cannot be read: {error}") from error
        places = " or ".join(repr(str(root.path)) for root in self._roots)
        raise ImageError(f"image {path!r} is missing in {places}; check the path, or give the image root")

    def stamp(self, path: str) -> tuple[int, int]:
        """What tells, without reading an image, whether it has changed.

        Args:
            path: Relative path.

        Returns:
            Size and time of last change of a file; size and checksum of a member of an archive.

        Raises:
            ImageError: If the file is missing.
        """
        clean = normalise_path(path)
        for root in self._roots:
            if root.exists(clean):
                return root.stamp(clean)
        raise ImageError(f"image {path!r} is missing in {self!r}")

    def decode(self, content: bytes, path: str) -> Image.Image:
        """Turn stored bytes into a picture.

        Args:
            content: What `read_bytes` returned.
            path: Relative path, for messages.

        Returns:
            A fully decoded RGB picture.

        Raises:
            ImageError: If the bytes are no image, end too early, or hold more than `max_pixels` pixels.
        """
        try:
            with Image.open(io.BytesIO(content)) as image:
                width, height = image.size
                if width * height > self.max_pixels:
                    raise ValueError(f"{width} x {height} pixels are more than the allowed {self.max_pixels}")
                image.load()
                return to_rgb(image)
        except Exception as error:  # PIL's decoders raise nearly every type on damaged input
            raise ImageError(
                f"image {path!r} in {self!r} cannot be decoded ({len(content)} bytes): {error}"
            ) from error

    def open(self, path: str) -> Image.Image:
        """Read and decode an image.

        Args:
            path: Relative path.

        Returns:
            A fully decoded RGB picture.

        Raises:
            ImageError: If the image is missing, damaged, too large, or outside the root. The message names the path,
                the place and the cause.
        """
        return self.decode(self.read_bytes(path), path)
