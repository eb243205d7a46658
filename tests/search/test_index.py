# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""An index follows its folders, encodes nothing twice, survives kills, and finds what is nearest."""

import json
import os
import shutil
import signal

import numpy as np
import pytest
from counting_encoder import CountingEncoder, save_picture

import search.index
from evaluation.encoder import Encoder
from search import make_index, query
from search.catalog import Catalog
from search.index import UniMEIndex
from search.vector_file import VectorFile
from unime.data.example import Example
from unime.options import CommandError


def state(index):
    """All that an index knows: by path and number, the vector."""
    hits = index.nearest(np.eye(16, dtype=np.float32)[0], 10_000)
    places = sorted((path, hit.number) for hit in hits for path in (hit.path, *hit.copies))
    return {place: index.vector(*place).tobytes() for place in places}


def test_finds_what_is_nearest_exactly(photos, tmp_path, model, encoder):
    index = UniMEIndex(tmp_path / "index", model)
    changes = index.add(photos)
    assert (changes.new, changes.encoded, changes.left_out) == (22, 19 + 1 + 4, {})
    for query_of in (
        "a red bicycle",
        {"text": "x", "instruction": "Find it:"},
        {"image": photos / "5.png", "text": "y"},
    ):
        vector = index.encode_query(query_of)
        everything = {place: np.frombuffer(held, np.float32) @ vector for place, held in state(index).items()}
        hits = index.search(query_of, k=7)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        contents = {held: np.frombuffer(held, np.float32) @ vector for held in state(index).values()}
        assert np.allclose([hit.score for hit in hits], sorted(contents.values(), reverse=True)[:7], atol=1e-5)
        assert all(everything[hit.path, hit.number] == pytest.approx(hit.score, abs=1e-5) for hit in hits)
    best = index.search({"image": photos / "3.png"}, k=1)[0]
    assert best.score == pytest.approx(1, abs=1e-6)
    assert {best.path, *best.copies} == {str(photos / "3.png"), str(photos / "copy of 3.png")}
    assert index.search("a red bicycle", k=1)[0].text == "a red bicycle"


def test_kinds_limit_what_is_found(photos, tmp_path, model, encoder):
    index = UniMEIndex(tmp_path / "index", model)
    index.add(photos)
    assert {hit.kind for hit in index.search("a red bicycle", 100, ["picture"])} == {"picture"}
    assert len(index.search("a red bicycle", 100, ["text"])) == 5
    assert index.search("a red bicycle", 100, ["page"]) == []
    with pytest.raises(CommandError, match="kinds some of picture, text, page"):
        index.search("a", 3, ["movie"])


def test_more_like_this_leaves_itself_out(photos, tmp_path, model, encoder):
    index = UniMEIndex(tmp_path / "index", model)
    index.add(photos)
    hits = index.similar(photos / "3.png", k=5)
    assert len(hits) == 5
    assert not any(
        str(photos / name) in (hit.path, *hit.copies) for hit in hits for name in ("3.png", "copy of 3.png")
    )
    with pytest.raises(CommandError, match=r"none.png is not in the index"):
        index.similar(photos / "none.png")


def test_only_what_changed_is_encoded(photos, tmp_path, model, encoder):
    index = UniMEIndex(tmp_path / "index", model)
    index.add(photos)
    encoder.encoded.clear()
    changes = index.add(photos)
    assert (changes.unchanged, changes.encoded, encoder.encoded) == (22, 0, [])
    (photos / "1.png").rename(photos / "deep" / "moved.png")
    (photos / "5.png").unlink()
    save_picture(photos / "7.png", 700)
    shutil.copy(photos / "9.png", photos / "another 9.png")
    (photos / "note.txt").touch()
    os.utime(photos / "note.txt", ns=(1, 1))
    changes = index.add(photos)
    assert (changes.new, changes.moved, changes.removed, changes.changed) == (1, 1, 1, 2)
    assert [example.image for example in encoder.encoded] == [str(photos / "7.png")]
    fresh = UniMEIndex(tmp_path / "fresh", model)
    fresh.add(photos)
    assert state(index) == state(fresh)


def test_other_folders_stay_and_are_removed_by_name(photos, tmp_path, model, encoder):
    save_picture(tmp_path / "photos 2" / "a.png", 50)
    index = UniMEIndex(tmp_path / "index", model)
    index.add(photos)
    index.add(tmp_path / "photos 2")
    assert len(state(index)) == 26
    assert index.remove(photos) == 22
    assert list(state(index)) == [(str(tmp_path / "photos 2" / "a.png"), 0)]
    assert index.remove(tmp_path / "photos 2" / "a.png") == 1
    assert index.search("anything") == []


def test_removed_vectors_leave_the_disk(tmp_path, model, encoder, monkeypatch):
    monkeypatch.setattr(search.index, "PIECE", 4)
    folder = tmp_path / "photos"
    for number in range(30):
        save_picture(folder / f"{number}.png", number)
    index = UniMEIndex(tmp_path / "index", model)
    index.add(folder)
    for number in range(25):
        (folder / f"{number}.png").unlink()
    index.add(folder)
    (file,) = (tmp_path / "index").glob("*.f32")
    assert file.stat().st_size == 5 * 16 * 4
    fresh = UniMEIndex(tmp_path / "fresh", model)
    fresh.add(folder)
    assert state(index) == state(fresh)


def test_broken_files_are_told_and_tried_again_when_they_change(photos, tmp_path, model, encoder):
    (photos / "broken.jpg").write_bytes(b"no picture")
    (photos / "latin.txt").write_bytes(b"caf\xe9")
    index = UniMEIndex(tmp_path / "index", model)
    changes = index.add(photos)
    assert list(changes.left_out) == [str(photos / "broken.jpg"), str(photos / "latin.txt")]
    assert "cannot be decoded" in changes.left_out[str(photos / "broken.jpg")]
    assert len(state(index)) == 25
    encoder.encoded.clear()
    assert list(index.add(photos).left_out) == list(changes.left_out)
    assert encoder.encoded == []
    save_picture(photos / "broken.png", 99).rename(photos / "broken.jpg")
    assert list(index.add(photos).left_out) == [str(photos / "latin.txt")]
    assert len(state(index)) == 26


def test_picture_that_the_model_refuses_does_not_stop_the_others(photos, tmp_path, model, encoder, monkeypatch):
    def encode_batches(batches):
        for batch in batches:
            if any(example.image == str(photos / "5.png") for example in batch):
                raise ValueError("its sides are 1 to 300")
            yield np.array([encoder.vector(example) for example in batch])

    monkeypatch.setattr(encoder, "encode_batches", encode_batches)
    changes = UniMEIndex(tmp_path / "index", model).add(photos)
    assert changes.left_out == {str(photos / "5.png"): "its sides are 1 to 300"}
    assert changes.encoded == 23


def test_index_of_another_model_is_refused(photos, tmp_path, model, encoder):
    UniMEIndex(tmp_path / "index", model, document_instruction="Represent it.").add(photos)
    assert UniMEIndex(tmp_path / "index").document_instruction == "Represent it."
    moved = shutil.copytree(model, tmp_path / "moved")
    UniMEIndex(tmp_path / "index", str(moved))  # the same, elsewhere
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"other": 1}))
    with pytest.raises(CommandError, match="was made with another model"):
        UniMEIndex(tmp_path / "index", str(moved))
    with pytest.raises(CommandError, match="was made with another model"):
        UniMEIndex(tmp_path / "index", model, max_length=77)
    with pytest.raises(CommandError, match="another document_instruction"):
        UniMEIndex(tmp_path / "index", document_instruction="Represent them.")
    with pytest.raises(CommandError, match="there is no index in .*nowhere"):
        UniMEIndex(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_damaged_index_is_named(tmp_path, model):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "index.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(CommandError, match="is no index, or damaged"):
        UniMEIndex(tmp_path / "index", model)


@pytest.mark.parametrize("query_of", ["", {"text": ""}, {}])
def test_empty_query_is_refused(photos, tmp_path, model, encoder, query_of):
    index = UniMEIndex(tmp_path / "index", model)
    with pytest.raises(CommandError, match="the query is empty"):
        index.search(query_of)
    with pytest.raises(CommandError, match="the key 'picture'"):
        index.search({"picture": 1})


KILL_AT = [
    *((CountingEncoder, "vector", count) for count in (1, 7, 11)),
    *((VectorFile, "write", count) for count in (1, 3)),
    *((Catalog, "put_contents", count) for count in (1, 2)),
    *((Catalog, "put_file", count) for count in (2, 9)),
    (Catalog, "sweep", 1),
    (Catalog, "renumber", 1),
]


def test_kills_lose_nothing(photos, tmp_path, model, encoder, monkeypatch):
    """A process is killed at each of these places, before and after the call, while files come and go."""
    monkeypatch.setattr(search.index, "PIECE", 4)
    killed_children = 0
    for number, (owner, name, count) in enumerate(KILL_AT * 2):
        for changed in range(12):
            save_picture(photos / f"{changed}.png", 100 * number + changed)
        (photos / f"{number % 12}.png").unlink()
        child = os.fork()
        if child == 0:
            original, calls = getattr(owner, name), []

            def killed(*arguments, original=original, calls=calls, count=count, after=number % 2):
                calls.append(1)
                result = original(*arguments) if after or len(calls) < count else None
                if len(calls) == count:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            setattr(owner, name, staticmethod(killed) if owner is CountingEncoder else killed)
            UniMEIndex(tmp_path / "index", model).add(photos)
            os._exit(0)
        killed_children += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert killed_children >= 18, "the places are not reached"
    index, fresh = UniMEIndex(tmp_path / "index", model), UniMEIndex(tmp_path / "fresh", model)
    index.add(photos)
    fresh.add(photos)
    assert state(index) == state(fresh)


@pytest.mark.parametrize(("factory", "dimensions"), [("SQ8", None), ("HNSW32", None), ("Flat", 8)])
def test_approximate_search_scores_exactly(photos, tmp_path, model, encoder, factory, dimensions):
    index = UniMEIndex(tmp_path / "index", model)
    index.add(photos)
    exact = index.search("a red bicycle", 3)
    index.use_approximate(factory, dimensions)
    assert index.search("a red bicycle", 3) == exact  # 24 vectors, 30 candidates
    (photos / "note.txt").write_text("a blue bicycle", encoding="utf-8")
    index.add(photos)
    assert index.search("a blue bicycle", 1)[0].text == "a blue bicycle"
    assert not any(hit.text == "a red bicycle" for hit in index.search("a red bicycle", 100))
    index.use_approximate(None)
    assert len(index.search("a red bicycle", 100)) == 24


def test_unusable_approximation_is_refused(photos, tmp_path, model, encoder):
    index = UniMEIndex(tmp_path / "index", model)
    index.add(photos)
    with pytest.raises(CommandError, match="--factory Nonsense is unknown"):
        index.use_approximate("Nonsense")
    with pytest.raises(CommandError, match="--dimensions 17 must be from 1 to the 16"):
        index.use_approximate("SQ8", 17)


def test_search_while_an_index_grows_is_of_one_state(photos, tmp_path, model, encoder):
    writer = UniMEIndex(tmp_path / "index", model)
    writer.add(photos)
    reader = UniMEIndex(tmp_path / "index")
    assert len(reader.search("x", 100)) == 24
    save_picture(photos / "one more.png", 500)
    writer.add(photos)
    assert len(reader.search("x", 100)) == 25


def test_commands_with_a_real_model(photos, tmp_path, model, capsys, monkeypatch):
    """The vectors are those of the encoder that evaluation uses."""
    monkeypatch.chdir(tmp_path)
    make_index.main([str(photos), "--model", model, "--output", "index", "--document_instruction", "Represent it."])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "files: 22 new, 0 changed, 0 moved, 0 removed, 0 unchanged (24 encoded)"
    assert printed[-3:] == ["20 picture, 5 text", 'unime search "what to look for" --index index', "index"]
    query.main(["a dog", "--index", "index", "--image", str(photos / "1.png"), "--top", "3", "--json"])
    hits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    encoder = Encoder.from_pretrained(model)
    examples = [Example("a dog", str(photos / "1.png"))]
    for hit in hits:
        text, image = (hit["text"], None) if hit["kind"] == "text" else (None, hit["path"])
        examples.append(Example(text, image, "Represent it."))
    vectors = encoder.encode(examples)
    assert np.allclose(vectors[1:] @ vectors[0], [hit["score"] for hit in hits], atol=1e-5)
    query.main(["a dog", "--index", "index", "--kinds", "text", "--top", "1"])
    assert "piece" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        query.main(["--index", "index"])
    assert "the query is empty" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        make_index.main([str(photos), "--model", model, "--dimensions", "8"])
    assert "--dimensions needs --factory" in capsys.readouterr().err


@pytest.mark.parametrize(("rows", "k"), [(0, 3), (1, 3), (1000, 10)])
def test_exact_search_of_many_blocks(tmp_path, monkeypatch, rows, k):
    monkeypatch.setattr("search.vector_file.BLOCK_BYTES", 4096)
    vectors = np.random.default_rng(0).normal(size=(rows, 24)).astype(np.float32)
    vectors[rows // 2 :] = vectors[: rows - rows // 2]  # ties
    VectorFile(tmp_path / "v.f32", 24, 0).write(vectors)
    query_vector = np.ones(24, np.float32)
    slots = np.arange(rows)[::3]
    found, scores = VectorFile(tmp_path / "v.f32", 24, rows).search(query_vector, slots, k)
    expected = sorted(slots, key=lambda slot: (-float(np.float32(vectors[slot] @ query_vector)), slot))[:k]
    assert len(found) == min(k, len(slots))
    assert np.allclose(scores, vectors[expected] @ query_vector, atol=1e-5)
