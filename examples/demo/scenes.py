# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Renders the demo's data set: pictures of colored shapes and, in MMEB form, all tasks that UniME trains and tests.

Run it alone to look at the data:

    python -m examples.demo.scenes OUTPUT_FOLDER [--size fast] [--seed 0]

What a data set folder holds:

- `images.zip`: all pictures.
- `train_<task>.jsonl`, `eval_<task>.jsonl`: classification, vqa, retrieval_t2i, retrieval_i2t, retrieval_composed and
  grounding, in the columns of MMEB-train and MMEB-eval. The first candidate is the right one.
- `eval_compositional.jsonl`: picture, true caption, false caption, `subset` (the form of SugarCrepe).
- `texts_train.jsonl`: caption triplets `sent0`, `sent1`, `hard_neg`; `sts_eval.jsonl`: pairs with a `score` from 0 to 5.
- `pretrain.jsonl`: `image`, `prompt`, `answer`, `kind`, to teach a small generative model to see and read.
- `patches.jsonl`: `image`, `patches`: what each ninth of the picture shows, to teach its vision tower to see.
- `contact_sheet.png`: a look at the pictures; `dataset.json`: settings and counts.

Nothing is downloaded, and equal settings give equal files. No content of an evaluation picture occurs in training.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from PIL import Image

from examples.demo.scenes_drawing import IMAGE_SIZE, draw_scene
from examples.demo.scenes_tasks import COMPOSITIONAL, TASKS, Album, TaskMaker, compositional_row
from examples.demo.scenes_wording import (
    Style,
    full_description,
    layout_description,
    patch_labels,
    questions_about,
    say,
)
from examples.demo.scenes_world import (
    GRID,
    Scene,
    Statement,
    Thing,
    describe,
    perturb,
    random_perturbation,
    random_scene,
    similarity,
)

FORMAT = 2  # of the files; a folder written in another format is written anew
CAPTION_PROMPTS = ("Describe the image.", "Write a caption for the image.", "What does the image show?")
DETAIL_PROMPT = "Describe the image in detail."
LAYOUT_PROMPT = "Read the image row by row."
CROP_PROMPT = "What is this?"
STS_BINS = 6
CROP_SHARE = 0.3  # of the scenes give a crop to the pre-training; a crop is easy


@dataclass(frozen=True)
class DatasetSize:
    """How much of everything is made.

    Args:
        train_scenes: Scenes of the training rows; every task makes at most one row of each.
        pretrain_scenes: Further scenes that only the pre-training sees.
        eval_scenes: Scenes of the evaluation rows.
        eval_rows: Rows of each evaluation task, at most.
        compositional_rows: Rows of each compositional subset, at most.
        num_candidates: Candidates of an evaluation row (where the task does not offer all classes).
        texts: Text triplets.
        sts_pairs: Scored text pairs.
        pretrain_questions: Questions about each picture in the pre-training rows, at most.
        task_share: Share of the training scenes that each task uses.
    """

    train_scenes: int
    pretrain_scenes: int
    eval_scenes: int
    eval_rows: int
    compositional_rows: int
    num_candidates: int
    texts: int
    sts_pairs: int
    pretrain_questions: int = 8
    task_share: float = 0.6


SIZES = {
    "full": DatasetSize(3000, 3000, 320, 200, 100, 32, 3000, 600),
    "fast": DatasetSize(200, 100, 64, 40, 20, 20, 240, 120),
}


def _draw_scenes(count: int, rng: random.Random, taken: set[frozenset[Thing]]) -> list[Scene]:
    """Draw scenes whose contents are new, and add them to `taken`."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng)
        if scene.content not in taken:
            taken.add(scene.content)
            scenes.append(scene)
    return scenes


def _write_jsonl(path: Path, rows: Iterable[dict[str, object]]) -> int:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


def paraphrase(statement: Statement, rng: random.Random) -> Statement:
    """The same facts with the mentions in another order."""
    order = rng.sample(range(len(statement.mentions)), len(statement.mentions))
    places = {old: new for new, old in enumerate(order)}
    relations = tuple((places[i], relation, places[j]) for i, relation, j in statement.relations)
    return Statement(tuple(statement.mentions[index] for index in order), relations)


def _text_triplet(scene: Scene, rng: random.Random) -> dict[str, str]:
    """Two wordings of one statement, synonyms included, and a compositional change of it."""
    statement = describe(scene, rng)
    style = Style(rng.randrange(2**32), synonyms=True)
    negative, _ = random_perturbation(statement, scene, rng)
    other = Style(rng.randrange(2**32), synonyms=True)
    return {
        "sent0": say(statement, style),
        "sent1": say(paraphrase(statement, rng), other),
        "hard_neg": say(paraphrase(negative, rng), other),
    }


def _sts_pairs(scenes: list[Scene], count: int, rng: random.Random) -> list[dict[str, object]]:
    """Scored pairs, equally many in each sixth of the scale, all worded with synonyms and in varied forms."""
    bins: list[list[dict[str, object]]] = [[] for _ in range(STS_BINS)]
    per_bin, kinds = -(-count // STS_BINS), ("replace_att", "replace_obj", "replace_rel", "swap_att", "add_obj")
    while min(map(len, bins)) < per_bin:
        scene, other = rng.sample(scenes, 2)
        first = describe(scene, rng)
        second = first if rng.random() < 0.85 else describe(other, rng)
        for _ in range(rng.randrange(5)):
            second = perturb(second, replace(scene, things=()), rng.choice(kinds), rng) or second
        second = paraphrase(second, rng)
        score = similarity(first, second)
        texts = [say(item, Style(rng.randrange(2**32), synonyms=True)) for item in (first, second)]
        bin_ = bins[min(int(score * STS_BINS), STS_BINS - 1)]
        if len(bin_) < per_bin and texts[0] != texts[1]:
            bin_.append({"sentence1": texts[0], "sentence2": texts[1], "score": round(5 * score, 3)})
    pairs = [pair for bin_ in bins for pair in bin_]
    rng.shuffle(pairs)
    return pairs[:count]


def _pretrain_rows(album: Album, scene: Scene, rng: random.Random, questions: int) -> list[dict[str, str]]:
    """Captions, a full description, a reading of the grid, and questions."""
    caption = say(describe(scene, rng), Style(rng.randrange(2**32)))
    picture = album.scene(scene)
    rows = [
        {"image": picture, "prompt": LAYOUT_PROMPT, "answer": layout_description(scene), "kind": "layout"},
        {"image": picture, "prompt": DETAIL_PROMPT, "answer": full_description(scene), "kind": "detail"},
        {"image": picture, "prompt": rng.choice(CAPTION_PROMPTS), "answer": caption, "kind": "caption"},
    ]
    for question in questions_about(scene, rng)[:questions]:
        rows.append({"image": picture, "prompt": question.text, "answer": question.answer, "kind": question.kind})
    return rows


def _crop_row(album: Album, scene: Scene, rng: random.Random) -> dict[str, str]:
    """The name of one object cut out."""
    thing = rng.choice(scene.things)
    return {"image": album.crop(scene, thing), "prompt": CROP_PROMPT, "answer": thing.name, "kind": "crop"}


def _contact_sheet(scenes: list[Scene], columns: int = 10) -> Image.Image:
    """Pictures in rows of ten."""
    gap = 4
    rows = -(-len(scenes) // columns)
    sheet = Image.new("RGB", (columns * (IMAGE_SIZE + gap) + gap, rows * (IMAGE_SIZE + gap) + gap), "white")
    for index, scene in enumerate(scenes):
        corner = [gap + (IMAGE_SIZE + gap) * step for step in (index % columns, index // columns)]
        sheet.paste(draw_scene(scene), tuple(corner))
    return sheet


def _write_files(folder: Path, size: DatasetSize, seed: int) -> dict[str, int]:
    """Write everything but `dataset.json` into an empty folder; returns rows per file."""
    rng = random.Random(seed)
    taken: set[frozenset[Thing]] = set()
    eval_scenes = _draw_scenes(size.eval_scenes, rng, taken)
    eval_contents: set[frozenset[Thing]] = set(taken)
    sts_scenes = _draw_scenes(max(size.sts_pairs // 2, 2), rng, taken)
    counts: dict[str, int] = {}

    def write(name: str, rows: Iterable[dict[str, object]]) -> None:
        counts[name] = _write_jsonl(folder / name, rows)

    with zipfile.ZipFile(folder / "images.zip", "w", zipfile.ZIP_STORED) as archive:
        album = Album(archive, "images/eval")
        maker = TaskMaker(album, eval_scenes, set(), rng, size.num_candidates)
        for task in TASKS:
            rows = [row for scene in eval_scenes if (row := maker.make(task, scene)) is not None]
            write(f"eval_{task}.jsonl", (row.as_evaluation() for row in rows[: size.eval_rows]))
        compositional = []
        for subset in COMPOSITIONAL:
            found = [row for scene in eval_scenes if (row := compositional_row(album, scene, subset, rng)) is not None]
            compositional += [row.as_evaluation() for row in found[: size.compositional_rows]]
        write("eval_compositional.jsonl", compositional)
        eval_contents |= album.contents
        taken |= eval_contents

        train_scenes = _draw_scenes(size.train_scenes, rng, taken)
        album = Album(archive, "images/train")
        maker = TaskMaker(album, train_scenes, eval_contents, rng, num_candidates=2)
        for task in TASKS:
            chosen = rng.sample(train_scenes, round(size.task_share * len(train_scenes)))
            rows = [row for scene in chosen if (row := maker.make(task, scene)) is not None]
            write(f"train_{task}.jsonl", (row.as_training() for row in rows))
        more_scenes = _draw_scenes(size.pretrain_scenes, rng, taken)
        scenes = train_scenes + more_scenes
        crops = [_crop_row(album, scene, rng) for scene in rng.sample(scenes, round(CROP_SHARE * len(scenes)))]
        rows = [row for scene in scenes for row in _pretrain_rows(album, scene, rng, size.pretrain_questions)]
        write("pretrain.jsonl", crops + rows)
        patches = [{"image": row["image"], "patches": [row["answer"]] * GRID**2} for row in crops]
        patches += [{"image": album.scene(scene), "patches": patch_labels(scene)} for scene in scenes]
        write("patches.jsonl", patches)
    text_scenes = _draw_scenes(size.texts, rng, taken)
    write("texts_train.jsonl", (_text_triplet(scene, rng) for scene in text_scenes))
    write("sts_eval.jsonl", _sts_pairs(sts_scenes, size.sts_pairs, rng))
    _contact_sheet(train_scenes[:60]).save(folder / "contact_sheet.png")
    return counts


def write_dataset(folder: str | Path, size: str = "full", seed: int = 0) -> Path:
    """Write the data set, or do nothing if it is there already with the same settings.

    Args:
        folder: Folder to make. It appears complete or not at all: files are written beside it and renamed.
        size: "full" (for the demo) or "fast" (for its tests).
        seed: Equal seeds give equal files.

    Returns:
        The folder.

    Raises:
        ValueError: `size` is unknown.
        FileExistsError: `folder` exists and holds something else than a data set of this program.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, not {size!r}")
    folder = Path(folder)
    settings = {"format": FORMAT, "size": size, "seed": seed, **asdict(SIZES[size])}
    stamp = folder / "dataset.json"
    if folder.exists():
        if not stamp.is_file():
            raise FileExistsError(f"{folder} exists but holds no dataset.json; choose another folder or remove it")
        stored = json.loads(stamp.read_text(encoding="utf-8"))
        if {key: stored.get(key) for key in settings} == settings:
            return folder
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    counts = _write_files(partial, SIZES[size], seed)
    (partial / stamp.name).write_text(json.dumps({**settings, "rows": counts}, indent=2), encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return folder


def main() -> None:
    """Command line: render a data set into a folder."""
    parser = argparse.ArgumentParser(description="Render the demo's data set.")
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument("--size", choices=sorted(SIZES), default="full", help="how much to render (default: full)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all choices (default: 0)")
    options = parser.parse_args()
    print(write_dataset(options.folder, options.size, options.seed))


if __name__ == "__main__":
    main()
