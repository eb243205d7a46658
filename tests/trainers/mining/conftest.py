# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A tiny embedding model, and rows whose false negatives are of every kind."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import save_unime

FIND = "<|image_1|>\nRepresent the given image\n"


@pytest.fixture(scope="session")
def model(backbones, tmp_path_factory) -> Path:
    """A UniME folder."""
    folder = tmp_path_factory.mktemp("model")
    save_unime(backbones["llava_next"], folder)
    return folder


def row(query, positive, query_image="", positive_image="", **more) -> dict:
    return {
        "qry": query,
        "qry_image_path": query_image,
        "pos_text": positive,
        "pos_image_path": positive_image,
        "neg_text": "",
        "neg_image_path": "",
        **more,
    }


def write_rows(file: Path, rows: list[dict]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in rows), encoding="utf-8")
    return file


def make_images(folder: Path, count: int, seed: int) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.random.default_rng((seed, number)).integers(0, 256, (20 + 5 * number, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Two sources beside the same images: classes (few positives, one query twice), and images to be found."""
    folder = tmp_path_factory.mktemp("mining") / "set"
    make_images(folder, 6, seed=0)
    Image.open(folder / "images/1.png").save(folder / "images/same_as_1.bmp")
    labels = ["dog", "cat", "a tree", "car", "a red house", "näher"]
    classes = [row("<|image_1|>\nName it.\n", labels[i], f"images/{i}.png", id=i) for i in range(6)]
    classes += [
        row("<|image_1|>\nName it.\n", "hound", "images/0.png", neg_text="wolf"),  # the first query, also right
        row("<|image_1|>\nName it.\n", "cat\n", "images/same_as_1.bmp"),  # the second row by content
        row("dog", "an animal"),  # its query is a candidate
    ]
    found = [row(f"Find number {i}", FIND, positive_image=f"images/{i}.png") for i in range(6)]
    found += [row("Find number one", FIND, positive_image="images/same_as_1.bmp")]
    found += [row(f"Tell me of {i}", f"a text about {i}") for i in range(6)]
    write_rows(folder / "train_classes.jsonl", classes)
    write_rows(folder / "train_found.jsonl", found)
    return folder


@pytest.fixture
def zipped(data, tmp_path) -> Path:
    """Two sets, each with its images in an archive of its own."""
    for seed, name in enumerate(("one", "two")):
        folder = tmp_path / "zipped" / name
        make_images(folder, 6, seed)
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for image in (folder / "images").iterdir():
                archive.write(image, f"images/{image.name}")
        shutil.rmtree(folder / "images")
        rows = [row(f"Find number {i}", FIND, positive_image=f"images/{i}.png") for i in range(6)]
        write_rows(folder / "train_found.jsonl", rows)
    return tmp_path / "zipped"


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Shards that the tests share, so that the same vectors are computed once."""
    return tmp_path_factory.mktemp("shards")
