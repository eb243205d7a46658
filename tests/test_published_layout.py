# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The documented commands on MMEB as it is published: a config per set in Parquet, image paths as the rows have them."""

import importlib
import zipfile
from pathlib import Path

import documented
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from tiny_models import save_unime

from evaluation.data_sets import find_data_sets
from evaluation.parsers import load_data_set
from trainers.data.mmeb import load_mmeb_train

TOKEN = "<|image_1|>\n"
ROWS = 4


def picture(seed: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8))


def write_set(folder: Path, split: str, rows: list[dict]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")
    return f"{folder.name}/{split}-00000-of-00001.parquet"


def write_train(folder: Path) -> None:
    """TIGER-Lab/MMEB-train with its images unpacked: two splits of each set, paths that begin with `images/`."""
    configs = ["---", "configs:"]
    for number, name in enumerate(("HatefulMemes", "MSCOCO_t2i")):
        configs += [f"- config_name: {name}", "  data_files:"]
        paths = [f"images/{name}/Train/{name}_image_{row}.jpg" for row in range(ROWS)]
        for row, path in enumerate(paths):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            picture((number, row)).save(folder / path)
        for split in ("original", "diverse_instruction"):
            rows = [
                {
                    "qry": f"{TOKEN}Represent the given image for {split}\n",
                    "qry_image_path": path,
                    "pos_text": f"{name} {row}",
                    "pos_image_path": "",
                    "neg_text": "",
                    "neg_image_path": "",
                }
                for row, path in enumerate(paths)
            ]
            configs += [f"  - split: {split}", f"    path: {write_set(folder / name, split, rows)}"]
    (folder / "README.md").write_text("\n".join([*configs, "---", ""]), encoding="utf-8")


def write_eval(folder: Path) -> None:
    """TIGER-Lab/MMEB-eval: one split of each set, all images in one archive."""
    for name in ("GQA", "N24News"):
        paths = [f"{name}/image_{row}.jpg" for row in range(ROWS)]
        row = {"qry_text": f"{TOKEN}Identify it\n", "tgt_text": ["right", "wrong"], "tgt_img_path": ["", ""]}
        write_set(folder / name, "test", [{**row, "qry_img_path": path} for path in paths])
        with zipfile.ZipFile(folder / "images.zip", "a") as archive:
            for number, path in enumerate(paths):
                with archive.open(path, "w") as member:
                    picture((2, number)).save(member, "JPEG")


@pytest.fixture
def published(tmp_path, backbones, monkeypatch) -> Path:
    """A working folder with the data sets, and a model where stage 1 leaves it."""
    write_train(tmp_path / "MMEB-train")
    write_eval(tmp_path / "MMEB-eval")
    save_unime(backbones["llava_next"], tmp_path / "outputs/stage1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def documented_commands(document: str, module: str) -> list[list[str]]:
    """Arguments that a document gives a module on these data sets."""
    started = filter(None, map(documented.python_command, documented.commands(documented.ROOT / document)))
    places = ("MMEB-train", "MMEB-eval", "outputs/mined")
    return [argv for name, argv in started if name == module and any(place in argv for place in places)]


def test_documented_evaluation_finds_the_images(published):
    (argv,) = documented_commands("README.md", "evaluation.run")
    options = documented.parse("evaluation.run", argv)
    there = [data_set for data_set in find_data_sets(options) if data_set.fault is None]  # 2 of the suite's 36
    tasks = [load_data_set(data_set, options) for data_set in there]
    assert {task.name: len(task.queries) for task in tasks} == {"mmeb/GQA": ROWS, "mmeb/N24News": ROWS}


@pytest.mark.parametrize("document", ["README.md", "docs/mining.md"])
def test_documented_training_uses_the_images_and_the_mined_negatives(document, published):
    mining = documented_commands(document, "trainers.mine_negatives")
    for argv in mining:
        options = documented.parse("trainers.mine_negatives", argv)
        assert len(load_mmeb_train(options.data, image_root=options.image_root, progress=False)) == 2 * ROWS
    importlib.import_module("trainers.mine_negatives").main([*mining[0], "--num_negatives", "2"])
    for argv in documented_commands(document, "trainers.train_stage2"):
        options = documented.parse("trainers.train_stage2", argv)
        dataset = load_mmeb_train(options.data, image_root=options.image_root, progress=False)
        assert len(dataset) == 2 * ROWS
        assert all(pair.open(pair.query).size == (32, 24) for pair in dataset)
        mined = options.data == ["outputs/mined"]
        assert options.use_row_negatives == mined, "rows' own negatives are trained on where they were mined for it"
        assert all(len(pair.negatives) == (2 if mined else 0) for pair in dataset)
