# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What of a folder tree can be searched: pictures, pieces of text files, and pages of PDF files.

Files come from strangers. Hidden ones, and links that lead out of the folder, are left out; only the usual formats of
pictures are opened, and sizes are asked before anything is decoded.
"""

import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from unime.data.example import Example
from unime.data.images import DEFAULT_MAX_PIXELS, ImageError, ImageStore
from unime.files import file_digest
from unime.store import digest

KINDS = ("picture", "text", "page")
KIND_OF_SUFFIX = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"), "picture"),
    **dict.fromkeys((".txt", ".md"), "text"),
    ".pdf": "page",
}
MAX_TEXT_BYTES = 2**24
PIECE = 2000  # characters of a piece of text, at most; a page of a book
PAGE_SIDE = 1344  # pixels of the longer side of a rendered PDF page

_pdf_lock = threading.Lock()  # PDFium is not made for threads


class DocumentError(ValueError):
    """A file cannot be read."""


class MissingReader(DocumentError):
    """A file cannot be read before a package is installed."""


@dataclass(frozen=True)
class Part:
    """What is embedded of a file: a picture, a piece of a text or a page, by its number in the file, from 0."""

    path: str
    number: int
    kind: str
    key: str  # the same for the same content, wherever it lies
    text: str | None = None

    def example(self, instruction: str | None, pictures: "Pictures") -> Example:
        """What the encoder takes."""
        if self.kind == "text":
            return Example(self.text, instruction=instruction)
        image = self.path if self.kind == "picture" else f"{self.path}#{self.number}"
        return Example(image=image, instruction=instruction, store=pictures)


@dataclass(frozen=True)
class Pictures:
    """Opens pictures and PDF pages (`report.pdf#3`) by absolute path; what an `Example` takes for its store."""

    max_pixels: int = DEFAULT_MAX_PIXELS

    def open(self, name: str) -> Image.Image:
        """An RGB picture, ImageError if there is none to be had."""
        file, _, number = name.rpartition("#")
        if file.lower().endswith(".pdf"):
            return _render(file, int(number))
        return ImageStore(Path(name).parent, max_pixels=self.max_pixels).open(Path(name).name)


def find_files(folder: Path, left_out: dict[str, str]) -> Iterator[Path]:
    """The files of a folder tree that can be searched, in the order of their names; why others are left out, by path."""

    def unreadable(error: OSError) -> None:
        left_out[str(error.filename)] = error.strerror or str(error)

    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _is_index(Path(place, name)))
        for name in sorted(names):
            path = Path(place, name)
            if name.startswith(".") or path.suffix.lower() not in KIND_OF_SUFFIX:
                continue
            if not _is_unicode(str(path)):
                left_out[ascii(str(path))] = "its name is not valid Unicode; rename it"
            elif path.is_symlink() and not path.resolve().is_relative_to(folder):
                left_out[str(path)] = "it is a link that leads out of the folder"
            else:
                yield path


def parts_of(path: Path) -> tuple[str, list[Part]]:
    """The digest of a file's bytes, and its parts; DocumentError if it cannot be read. Pictures are not decoded here."""
    kind = KIND_OF_SUFFIX[path.suffix.lower()]
    try:
        mark = file_digest(path)
        if kind == "picture":
            return mark, [Part(str(path), 0, kind, digest(kind, mark))]
        if kind == "page":
            return mark, [Part(str(path), i, kind, digest(kind, mark, i)) for i in range(_count_pages(path))]
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise DocumentError(f"it holds more than {MAX_TEXT_BYTES >> 20} MiB of text; split it")
        pieces = split_text(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DocumentError(f"it is no UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise DocumentError(error.strerror or str(error)) from error
    return mark, [Part(str(path), i, kind, digest(kind, piece), piece) for i, piece in enumerate(pieces)]


def split_text(text: str, limit: int = PIECE) -> list[str]:
    """Pieces of at most `limit` characters, cut between paragraphs where that is possible, else between words."""
    pieces: list[str] = []
    for paragraph in filter(None, map(str.strip, re.split(r"\n\s*\n", text))):
        if pieces and len(pieces[-1]) + 2 + len(paragraph) <= limit:
            pieces[-1] += f"\n\n{paragraph}"
            continue
        while len(paragraph) > limit:
            cut = max(paragraph.rfind(white, 1, limit) for white in " \n\t")
            cut = cut if cut > 0 else limit
            pieces.append(paragraph[:cut].rstrip())
            paragraph = paragraph[cut:].lstrip()
        pieces.append(paragraph)
    return pieces


def _is_index(folder: Path) -> bool:
    return (folder / "index.sqlite").is_file()


def _is_unicode(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)


@cache
def _pdfium() -> Any:
    try:
        import pypdfium2
    except ImportError as error:
        raise MissingReader('PDF files need the package pypdfium2: pip install "unime[search]"') from error
    return pypdfium2


def _count_pages(path: Path) -> int:
    pdfium = _pdfium()
    try:
        with _pdf_lock, pdfium.PdfDocument(path) as document:
            return len(document)
    except pdfium.PdfiumError as error:
        raise DocumentError(f"PDFium cannot read it: {error}") from error


def _render(file: str, number: int) -> Image.Image:
    pdfium = _pdfium()
    try:
        with _pdf_lock, pdfium.PdfDocument(file) as document:
            page = document[number]
            return page.render(scale=PAGE_SIDE / max(page.get_size())).to_pil().convert("RGB")
    except (pdfium.PdfiumError, OSError, IndexError, ValueError, ZeroDivisionError) as error:
        raise ImageError(f"page {number + 1} of {file} cannot be rendered: {error}") from error
