# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The page: what a search shows, and that no path that a browser names is read."""

import sys
import urllib.error
import urllib.request

import pytest
from counting_encoder import save_picture

from search.index import Hit, UniMEIndex
from search.page import THUMBNAIL, caption, launch, make_page, thumbnail
from unime.options import CommandError


@pytest.fixture
def index(photos, tmp_path, model, encoder):
    made = UniMEIndex(tmp_path / "index", model)
    made.add(photos)
    return made


def events(page):
    """The functions behind the page's events, in their order."""
    return [event.fn for event in page.fns.values() if event.fn is not None]


def test_search_and_more_like_this(index, photos):
    page = make_page({"one": index, "two": index})
    choose, more, _, _, search = events(page)
    outputs = search("a red bicycle", None, "", ["picture", "text"], 5)
    assert len(outputs) == 8  # gallery, hits, choice and histogram of both
    gallery, hits, choice, bars = outputs[:4]
    assert hits[0].text == "a red bicycle"
    assert choice is None
    assert bars["files"].sum() == 24
    assert len(gallery.value) == 5
    _, similar, _, _ = more(hits, 1, ["picture"], 3)
    assert [hit.kind for hit in similar] == ["picture"] * 3
    assert hits[1].path not in [hit.path for hit in similar]


def test_faults_are_messages_in_which_nothing_runs(index, tmp_path):
    import gradio

    _, more, search = events(make_page({"one": index}))
    broken = tmp_path / "<img src=x onerror=alert(1)>.png"
    broken.write_bytes(b"none")
    with pytest.raises(gradio.Error) as caught:
        search("", str(broken), "", ["picture"], 5)
    assert "<img" not in caught.value.message
    assert "&lt;img" in caught.value.message
    with pytest.raises(gradio.Error, match="the query is empty"):
        search("", None, "", ["picture"], 5)
    with pytest.raises(gradio.Error, match="choose a result first"):
        more([], None, ["picture"], 5)


def test_server_gives_out_no_file(index, photos, tmp_path):
    page = make_page({"one": index})
    _, address, _ = launch(page, "127.0.0.1", None, prevent_thread_lock=True, quiet=True)
    try:
        assert urllib.request.urlopen(address, timeout=30).status == 200
        for path in (
            photos / "1.png",
            tmp_path / "index" / "index.sqlite",
            "/etc/passwd",
            f"{photos}/../photos/1.png",
        ):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{address}gradio_api/file={path}", timeout=30)
            assert caught.value.code in (403, 404)
    finally:
        page.close()


def test_thumbnails(index, photos, tmp_path):
    big = save_picture(photos / "big.png", 1, (900, 700))
    assert max(thumbnail(index, Hit(str(big), 0, "picture", 1.0)).size) == THUMBNAIL
    big.unlink()
    for hit in (
        Hit(str(big), 0, "picture", 1.0),
        Hit("a.txt", 0, "text", 0.5, "word " * 500),
        Hit("b.pdf", 1, "page", 0),
    ):
        assert thumbnail(index, hit).size == (THUMBNAIL, THUMBNAIL * 3 // 4)
    assert caption(Hit("/a/b.pdf", 1, "page", 0.25, copies=("/a/c.pdf",))) == "0.250 b.pdf, page 2 (+1)"


def test_missing_gradio_is_named(index, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(CommandError, match=r"unime\[search\]"):
        make_page({"one": index})
