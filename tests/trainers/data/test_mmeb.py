# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Loading, checking and mixing the rows of stage 2."""

import json
import pickle
import unicodedata
import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from trainers.data.mmeb import load_mmeb_train
from unime.data.bad_rows import BadRowError, BadRows, Place, SourceError
from unime.data.example import Example

QUERY = "<|image_1|>\nName it.\n"
FIND = "<|image_1|>\nRepresent the given image.\n"


def make_images(folder, names):
    """Noise pictures, each of its own seed."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def image_row(number, image, positive="a thing", **more):
    return {"qry": f"{QUERY}{number}", "qry_image_path": image, "pos_text": positive, "pos_image_path": "", **more}


def text_row(query, positive="p", **more):
    return {"qry": query, "qry_image_path": "", "pos_text": positive, "pos_image_path": "", **more}


def find_row(query, image, *negatives):
    row = {"qry": query, "qry_image_path": "", "pos_text": FIND, "pos_image_path": image}
    return {**row, "neg_text": [FIND] * len(negatives), "neg_image_path": list(negatives)}


def load(sources, **options):
    return load_mmeb_train(sources, progress=False, **options)


def images_of(pair):
    return [pair.open(example) for example in pair.examples]


def bare(example):
    """Without the store that opens its image."""
    return replace(example, store=None)


@pytest.fixture
def folder(tmp_path):
    make_images(tmp_path / "set", [f"images/{i}.png" for i in range(4)])
    return tmp_path / "set"


def zip_images(folder):
    """Move the images of a set into an archive beside its files."""
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for path in sorted(folder.glob("images/*")):
            archive.write(path, path.relative_to(folder))
            path.unlink()


@pytest.mark.parametrize("archive", [False, True])
def test_pairs_and_their_images(folder, archive):
    pixels = np.asarray(Image.open(folder / "images/1.png"))
    rows = [
        image_row(0, "images/0.png", neg_text="n", neg_image_path=""),
        find_row("find", "images/1.png", "images/2.png"),
    ]
    file = write_rows(folder / "train_a.jsonl", rows)
    if archive:
        zip_images(folder)
    data = load(file)
    assert len(data) == 2
    first, second = data[0], data[1]
    assert bare(first.query) == Example(f"{QUERY}0", "images/0.png", "")
    assert bare(first.positive) == Example("a thing", None, "")
    assert tuple(map(bare, first.negatives)) == (Example("n", None, ""),)
    assert first.source == "set/train_a" and first.place == Place(file, 1)
    assert tuple(map(bare, second.negatives)) == (Example(FIND, "images/2.png", ""),)
    assert [image and image.size for image in images_of(first)] == [(24, 20), None, None]
    query, positive, negative = images_of(second)
    assert query is None and negative.mode == "RGB"
    assert np.array_equal(np.asarray(positive), pixels)
    assert pickle.loads(pickle.dumps(first)) == first
    assert len(pickle.dumps(first)) < 1000


def test_files_of_a_mixture_keep_their_own_images(tmp_path):
    for number, name in enumerate(("a", "b")):
        make_images(tmp_path / name, ["other.png"] * number + ["images/0.png"])
        write_rows(tmp_path / name / "train_x.jsonl", [image_row(0, "images/0.png")])
    write_rows(tmp_path / "c" / "train_x.jsonl", [text_row("no image here")])
    data = load(str(tmp_path))
    assert [source.name for source in data.sources] == ["a/train_x", "b/train_x", "c/train_x"]
    assert [source.store for source in data.sources] == [0, 1, -1]
    a, b = (np.asarray(images_of(data[i])[0]) for i in range(2))
    assert not np.array_equal(a, b)
    assert images_of(data[2]) == [None, None]


def test_image_root(folder, tmp_path):
    file = write_rows(tmp_path / "elsewhere" / "train_a.jsonl", [image_row(0, "images/0.png")])
    with pytest.raises(BadRowError, match=r"train_a\.jsonl line 1: image 'images/0\.png' is missing"):
        load(file)
    zip_images(folder)
    for root in (folder / "images.zip", str(folder / "images.zip")):
        assert images_of(load(file, image_root=root)[0])[0].size == (24, 20)


def test_group_is_the_content_of_the_positive(folder):
    Image.open(folder / "images/1.png").save(folder / "images/copy.bmp")  # the same pixels, other bytes
    rows = [
        image_row(0, "images/0.png", "dog", neg_text="cat"),
        image_row(1, "images/1.png", " dog\n", neg_text="dog"),
        image_row(2, "images/0.png", "cat"),
        find_row("a", "images/1.png", "images/2.png", "images/3.png"),
        find_row("b", "images/copy.bmp", "images/1.png"),
        find_row("c", "./images/2.png", "images/1.png"),
        find_row("d", "images/3.png") | {"pos_text": "another text"},
        find_row("e", "images/3.png") | {"pos_text": ""},
    ]
    data = load(write_rows(folder / "train_a.jsonl", rows))
    pairs = list(data)
    dog, cat, one, two = (pairs[i].group for i in (0, 2, 3, 5))
    assert len({dog, cat, one, two}) == 4
    assert [pair.group for pair in pairs[:6]] == [dog, dog, cat, one, one, two]
    three = pairs[3].negative_groups[1]
    assert [pair.negative_groups for pair in pairs] == [(cat,), (dog,), (), (two, three), (one,), (one,), (), ()]
    assert len({pairs[6].group, pairs[7].group, three}) == 3  # text and picture count together
    assert data.groups.tolist() == [pair.group for pair in pairs]
    assert [pair.group for pair in load(str(folder))] == data.groups.tolist()

    by_path = load(str(folder), image_check="exists")
    assert by_path[3].group != by_path[4].group
    assert by_path[5].group == by_path[3].negative_groups[0]  # a leading ./ is no other path


def test_candidates_give_positives_only(folder, tmp_path):
    data = write_rows(folder / "train_a.jsonl", [find_row("a", "images/0.png", "images/1.png"), text_row("p")])
    more = [{"pos_text": "p"}, {"pos_text": FIND, "pos_image_path": "images/0.png", "neg_text": "unused"}]
    write_rows(folder / "train_more.jsonl", more)
    with pytest.raises(SourceError, match="no column 'qry'"):
        load([data, str(folder / "train_more.jsonl")])
    loaded = load([data], candidates=[str(folder)])  # the folder holds the data, too: it counts once
    assert [source.name for source in loaded.sources] == ["set/train_a", "set/train_more"]
    pairs = list(loaded)
    assert [pair.query.is_empty for pair in pairs] == [False, False, True, True]
    assert pairs[2].group == pairs[1].group and pairs[3].group == pairs[0].group
    assert pairs[3].negatives == () and pairs[0].negatives != ()
    groups = loaded.table["query_group"].to_pylist()
    assert groups[1] == pairs[1].group, "the query 'p' and the positive 'p' have the same content"
    assert len(set(groups[:2])) == 2 and not set(groups[2:]) & {pair.group for pair in pairs}


@pytest.mark.parametrize("archive", [False, True])
def test_broken_images_are_known_before_training(folder, archive):
    whole = (folder / "images/1.png").read_bytes()
    (folder / "images/1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "images/2.png").write_bytes(b"this is no image")
    rows = [
        image_row(0, "images/0.png"),
        image_row(1, "images/1.png"),
        find_row("c", "images/0.png", "images/2.png"),
        image_row(3, "images/none.png"),
        image_row(4, "../outside.png"),
        image_row(5, "images/3.png"),
        image_row(6, "images/1.png"),
    ]
    file = write_rows(folder / "train_a.jsonl", rows)
    if archive:
        zip_images(folder)
    with pytest.raises(BadRowError, match=r"train_a\.jsonl line 2: image 'images/1\.png'.*cannot be decoded"):
        load(file)
    bad_rows = BadRows("skip")
    data = load(file, on_bad_row=bad_rows)
    assert [pair.place.line for pair in data] == [1, 6]
    assert [row.place for row in bad_rows.rows] == [Place(file, line) for line in (2, 3, 4, 5, 7)]
    for image in ("images/1.png", "images/2.png", "images/none.png", "../outside.png"):
        assert repr(image) in bad_rows.report()

    with pytest.raises(BadRowError, match=r"line 4: image 'images/none\.png' is missing"):
        load(file, image_check="exists")
    bad_rows = BadRows("skip")
    load(file, image_check="exists", on_bad_row=bad_rows)
    assert [row.place.line for row in bad_rows.rows] == [4, 5]
    with pytest.raises(ValueError, match="image_check is 'quick'. Use one of full, exists"):
        load(file, image_check="quick")


@pytest.mark.parametrize("fault", ["missing", "truncated"])
def test_a_row_whose_first_image_is_bad_and_whose_others_are_new(folder, fault):
    """The check stops at the bad image, so that nothing is known of the row's other images."""
    whole = (folder / "images/1.png").read_bytes()
    (folder / "images/1.png").unlink()
    if fault == "truncated":
        (folder / "images/1.png").write_bytes(whole[: len(whole) // 2])
    rows = [
        find_row("a", "images/0.png"),
        find_row("b", "images/1.png", "images/2.png"),
        find_row("c", "images/3.png"),
    ]
    file = write_rows(folder / "train_a.jsonl", rows)
    with pytest.raises(BadRowError, match=r"train_a\.jsonl line 2: image 'images/1\.png'"):
        load(file)


def test_image_that_breaks_after_the_check(folder):
    data = load(write_rows(folder / "train_a.jsonl", [image_row(0, "images/0.png"), image_row(1, "images/1.png")]))
    (folder / "images/1.png").unlink()
    assert images_of(data[0])[0] is not None
    with pytest.raises(BadRowError, match=r"train_a\.jsonl line 2: image 'images/1\.png' is missing"):
        images_of(data[1])


def test_bad_rows_of_every_kind_are_listed(folder):
    rows = [
        json.dumps(row)
        for row in (
            text_row("fine"),
            text_row("", "p"),
            text_row("q", ""),
            text_row("q", 3),
            {"qry": "q", "pos_txt": "p"},
            image_row(0, "images/none.png"),
            {"qry": "other columns", "pos_text": "are fine"},
        )
    ]
    file = folder / "train_a.jsonl"
    file.write_text("\n".join([*rows, "{broken", ""]))
    bad_rows = BadRows("skip")
    data = load(str(file), on_bad_row=bad_rows)
    assert [pair.place.line for pair in data] == [1, 7]
    assert sorted(row.place.line for row in bad_rows.rows) == [2, 3, 4, 5, 6, 8]
    assert "unknown column 'pos_txt' looks like 'pos_text'" in bad_rows.report()
    with pytest.raises(BadRowError, match=r"train_a\.jsonl line 2: the query has neither"):
        load(str(file))


def test_file_without_a_usable_row_is_an_error(folder):
    file = write_rows(folder / "train_a.jsonl", [image_row(0, "nowhere.png")])
    with pytest.raises(SourceError, match=r"train_a\.jsonl: no usable row. The first fault: .*nowhere\.png"):
        load(file, on_bad_row="skip")
    with pytest.raises(SourceError, match="no usable row"):
        load(write_rows(folder / "train_a.jsonl", []))


def test_misspelt_column_and_unknown_sources(folder):
    file = write_rows(folder / "train_a.jsonl", [{"qry": "q", "pos_text": "p", "neg_texts": "n"}])
    with pytest.raises(SourceError, match=r"train_a\.jsonl: unknown column 'neg_texts' looks like 'neg_text'"):
        load(file, on_bad_row="skip")
    with pytest.raises(FileNotFoundError, match="no file matches"):
        load(f"{folder}/*.parquet")
    with pytest.raises(FileNotFoundError, match="no file named train_"):
        load(str(folder / "images"))
    with pytest.raises(ValueError, match="empty"):
        load([])


def test_weights_and_first_rows(folder):
    a = write_rows(folder / "a" / "train_a.jsonl", [text_row(f"a{i}") for i in range(10)])
    b = write_rows(folder / "b" / "train_b.jsonl", [text_row(f"b{i}") for i in range(6)])
    data = load([a, b], weights=[2, 0.5])
    counts = Counter(pair.query.text for pair in data)
    assert len(data) == 23 and [source.rows_per_epoch for source in data.sources] == [20, 3]
    assert all(counts[f"a{i}"] == 2 for i in range(10))
    half = {name for name in counts if name.startswith("b")}
    assert len(half) == 3
    data.set_epoch(1)
    assert {pair.query.text for pair in data} - half == {f"a{i}" for i in range(10)} | {
        f"b{i}" for i in range(6)
    } - half
    assert data.source_indices.tolist() == [0] * 20 + [1] * 3

    first = load([a, b], max_rows_per_source=4)
    assert [pair.query.text for pair in first] == [f"{s}{i}" for s in "ab" for i in range(4)]
    with pytest.raises(ValueError, match="weights has 1 values for 2 sources"):
        load([a, b], weights=[1.0])
    with pytest.raises(ValueError, match="positive numbers"):
        load([a, b], weights=[1.0, 0.0])
    with pytest.raises(ValueError, match="comes in two sources.*weight 2"):
        load([a, str(folder)])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_mixture_does_not_depend_on_workers(folder, workers):
    file = write_rows(folder / "train_a.jsonl", [text_row(f"{i}") for i in range(12)])
    data = pickle.loads(pickle.dumps(load(file, weights=[0.5], seed=3)))  # as one process sends it to another
    options = {"num_workers": workers, "persistent_workers": workers > 0, "collate_fn": list, "batch_size": 4}
    seen = []
    loader = DataLoader(data, **options)
    for epoch in range(3):
        data.set_epoch(epoch)
        seen.append([pair.query.text for batch in loader for pair in batch])
    assert set(seen[0]) | set(seen[1]) == {f"{i}" for i in range(12)} and len(seen[0]) == 6
    assert seen[2] == seen[0]
    alone = load(file, weights=[0.5], seed=3)
    assert [pair.query.text for pair in alone] == seen[0]


def test_real_rows(data_dir):
    data = load([f"{data_dir}/nlvr", f"{data_dir}/tabmwp", f"{data_dir}/grocery"], max_rows_per_source=150)
    assert len(data) == 5 * 150
    pair = data[150]
    assert pair.source == "tabmwp/train_vqa" and pair.query.text.startswith("<|image_1|>\nRepresent the given image")
    assert images_of(pair)[0].mode == "RGB"
    # 10 rows of the same product have the same name, or the same catalogue picture
    groups = Counter(data.groups.tolist())
    assert max(groups.values()) >= 5
    for index in np.flatnonzero(data.groups == data[-1].group):
        assert data[index].positive == data[-1].positive


def published(folder, images):
    """A local copy of a repository with the layout of MMEB-train: a config per set, two splits, Parquet."""
    import pyarrow as pa
    import pyarrow.parquet

    lines = ["---", "configs:"]
    for name in ("SetA", "SetB"):
        (folder / name).mkdir(parents=True)
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in ("original", "diverse_instruction"):
            rows = [image_row(f"{name} {split} {number}", f"images/{number}.png") for number in range(3)]
            file = f"{name}/{split}-00000-of-00001.parquet"
            pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / file)
            lines += [f"  - split: {split}", f"    path: {file}"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    make_images(images, [f"images/{number}.png" for number in range(3)])
    return folder


@pytest.mark.parametrize("root", ["images", "images.zip", "."])
def test_the_image_root_may_be_the_folder_that_paths_begin_with(tmp_path, root):
    """MMEB's paths begin with images/, which is also what people name as the image root."""
    copy = published(tmp_path / "MMEB-train", tmp_path / "MMEB-train")
    if root == "images.zip":
        with zipfile.ZipFile(copy / "images.zip", "w") as archive:
            for path in copy.glob("images/*"):
                archive.write(path, path.name)
                path.unlink()
    data = load(str(copy), image_root=copy / root)
    assert len(data) == 6 and data[0].open(data[0].query).size == (24, 20)


def test_an_archive_in_the_image_root(tmp_path):
    """One images.zip above the folders of the sets, as MMEB-eval has it."""
    copy = published(tmp_path / "MMEB-train", tmp_path / "MMEB-train")
    zip_images(copy)
    data = load(str(copy), image_root=copy)
    assert len(data) == 6 and data[0].open(data[0].query).size == (24, 20)


@pytest.mark.parametrize(
    "outside",
    ["../x.parquet", "/etc/x.parquet", "SetA/../../x.parquet", "..\\\\x.parquet", "https://a.example/x.parquet"],
)
def test_data_files_out_of_the_folder_are_refused(tmp_path, outside):
    copy = published(tmp_path / "copy", tmp_path / "images")
    inside = "SetB/diverse_instruction-00000-of-00001.parquet"
    (copy / inside).rename(tmp_path / "x.parquet")
    card = (copy / "README.md").read_text(encoding="utf-8")
    (copy / "README.md").write_text(card.replace(inside, outside), encoding="utf-8")
    message = "its README.md names data_files outside of the folder"
    for source in (str(copy), f"{copy}:SetA:original"):
        with pytest.raises(SourceError, match=message):
            load(source, image_root=tmp_path / "images")
    (copy / "README.md").rename(copy / ".huggingface.yaml")
    (copy / ".huggingface.yaml").write_text(card.replace(inside, outside).replace("---\n", ""), encoding="utf-8")
    with pytest.raises(SourceError, match="its .huggingface.yaml names data_files outside"):
        load(f"{copy}:SetA:original", image_root=tmp_path / "images")


@pytest.mark.parametrize("check", ["full", "exists"])
@pytest.mark.parametrize("archive", [False, True])
def test_file_names_in_another_unicode_normal_form(folder, archive, check):
    stored, named = (unicodedata.normalize(form, "images/größe.png") for form in ("NFD", "NFC"))
    (folder / "images/0.png").rename(folder / stored)
    file = write_rows(
        folder / "train_a.jsonl", [find_row("a", named), find_row("b", stored), find_row("c", ".\\" + named)]
    )
    if archive:
        zip_images(folder)
    data = load(file, image_check=check)
    assert data[0].open(data[0].positive).size == (24, 20)
    assert len({pair.group for pair in data}) == 1, "one file under whatever spelling is one picture"


@pytest.mark.parametrize("split", ["original", "diverse_instruction"])
def test_a_published_data_set_stands_for_all_its_sets(tmp_path, split):
    copy = published(tmp_path / "MMEB-train", tmp_path / "images")
    data = load(str(copy), image_root=tmp_path / "images", split=split, max_rows_per_source=2)
    assert [(source.name, source.rows) for source in data.sources] == [("SetA", 2), ("SetB", 2)]
    assert data[2].query.text == f"{QUERY}SetB {split} 0"
    assert data[2].open(data[2].query).size == (24, 20)
    one = load(f"{copy}:SetB:{split}", image_root=tmp_path / "images")
    assert [source.name for source in one.sources] == ["SetB"]


def test_an_instruction_for_a_source(folder):
    plain = write_rows(folder / "train_a.jsonl", [text_row("a dog"), text_row("a cat", "q")])
    own = write_rows(folder / "train_b.jsonl", [text_row("Find it: a car")])
    data = load([plain, own], instructions=["Find the text:", ""])
    assert [pair.query for pair in (data[0], data[2])] == [
        Example("a dog", instruction="Find the text:"),
        Example("Find it: a car", instruction=""),
    ]
    assert data[0].positive.instruction == ""
    with pytest.raises(ValueError, match="instructions has 1 values for 2 sources"):
        load([plain, own], instructions=["x"])
