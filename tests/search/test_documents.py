# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What of a folder is searched, and what is left out with which words."""

import sys

import pytest

from search import documents
from search.documents import DocumentError, MissingReader, Pictures, find_files, parts_of, split_text
from unime.data.images import ImageError


def test_text_is_cut_between_paragraphs():
    text = f"{'a ' * 40}\n\n{'b ' * 40}\n \n{'c ' * 40}"
    assert split_text(text, 170) == [f"{('a ' * 40).strip()}\n\n{('b ' * 40).strip()}", ("c " * 40).strip()]


@pytest.mark.parametrize("text", ["word " * 500, "x" * 900, "", " \n\n ", "一" * 450])
def test_no_piece_is_too_long_and_no_word_is_lost(text):
    pieces = split_text(text, 200)
    assert all(0 < len(piece) <= 200 for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())


def test_hidden_files_other_kinds_and_indexes_are_left_out(tmp_path):
    for name in ("a.JPG", ".hidden.png", ".git/b.png", "c.docx", "sub/d.txt", "index/index.sqlite", "index/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    left_out = {}
    assert [path.name for path in find_files(tmp_path, left_out)] == ["a.JPG", "d.txt"]
    assert left_out == {}


def test_links_that_lead_out_are_told(tmp_path):
    folder = (tmp_path / "photos").resolve()
    folder.mkdir()
    (tmp_path / "secret.png").touch()
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "in.png").touch()
    (folder / "alias.png").symlink_to(folder / "in.png")
    left_out = {}
    assert [path.name for path in find_files(folder, left_out)] == ["alias.png", "in.png"]
    assert left_out == {str(folder / "out.png"): "it is a link that leads out of the folder"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_not_unicode_are_told(tmp_path):
    (tmp_path / b"caf\xe9.png".decode("utf-8", "surrogateescape")).touch()
    left_out = {}
    assert list(find_files(tmp_path, left_out)) == []
    assert list(left_out.values()) == ["its name is not valid Unicode; rename it"]


def test_equal_contents_have_one_key_wherever_they_lie(tmp_path):
    for name, content in (("a.txt", "same"), ("b.md", "\ufeffsame\n"), ("c.txt", "other")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    keys = [parts_of(tmp_path / name)[1][0].key for name in ("a.txt", "b.md", "c.txt")]
    assert keys[0] == keys[1] != keys[2]


def test_text_that_is_none_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"ab\xff")
    with pytest.raises(DocumentError, match=r"no UTF-8 text \(byte 2\)"):
        parts_of(tmp_path / "a.txt")


def write_pdf(path, pages):
    """A PDF of blank pages, square ones of so many points."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{number + 3} 0 R" for number in range(len(pages)))
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>")
    objects += [f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {side} {side}] >>" for side in pages]
    content, places = "%PDF-1.4\n", []
    for number, entry in enumerate(objects, 1):
        places.append(len(content))
        content += f"{number} 0 obj\n{entry}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size, start = len(objects) + 1, len(content)
    content += f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer << /Root 1 0 R /Size {size} >>\nstartxref\n{start}\n%%EOF"
    path.write_bytes(content.encode())


def test_pages_of_a_pdf_are_rendered_to_one_size(tmp_path):
    write_pdf(tmp_path / "a.pdf", [100, 14400])
    _, parts = parts_of(tmp_path / "a.pdf")
    assert [(part.kind, part.number) for part in parts] == [("page", 0), ("page", 1)]
    for part in parts:
        picture = part.example("Represent the page.", Pictures()).open()
        assert picture.mode == "RGB"
        assert picture.size == (documents.PAGE_SIDE, documents.PAGE_SIDE)
    with pytest.raises(ImageError, match="page 3 of .*a.pdf cannot be rendered"):
        Pictures().open(f"{tmp_path / 'a.pdf'}#2")


def test_damaged_pdf_is_refused(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4 nothing")
    with pytest.raises(DocumentError, match="PDFium cannot read it"):
        parts_of(tmp_path / "a.pdf")


def test_missing_pdfium_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    documents._pdfium.cache_clear()
    write_pdf(tmp_path / "a.pdf", [100])
    with pytest.raises(MissingReader, match=r"unime\[search\]"):
        parts_of(tmp_path / "a.pdf")
    documents._pdfium.cache_clear()
