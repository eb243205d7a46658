# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The demo's data: the same for the same seed, right candidates right, hard negatives wrong, splits disjoint."""

import json
import random
import zipfile

import pytest

from evaluation.load import load_task
from examples.demo import scenes_tasks
from examples.demo.scenes import write_dataset
from examples.demo.scenes_tasks import Album, TaskMaker
from examples.demo.scenes_wording import questions_about, say
from examples.demo.scenes_world import Mention, Statement, describe, holds, perturb, random_scene, similarity
from trainers.data.mmeb import load_mmeb_train

TASKS = ("classification", "vqa", "retrieval_t2i", "retrieval_i2t", "retrieval_composed", "grounding")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("scenes") / "data", "fast", seed=3)


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_same_seed_same_files(folder, tmp_path):
    again = write_dataset(tmp_path / "data", "fast", seed=3)
    other = write_dataset(tmp_path / "other", "fast", seed=4)
    for path in sorted(folder.iterdir()):
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    assert (folder / "images.zip").read_bytes() != (other / "images.zip").read_bytes()


def test_written_once(folder):
    before = (folder / "images.zip").stat().st_mtime_ns
    write_dataset(folder, "fast", seed=3)
    assert (folder / "images.zip").stat().st_mtime_ns == before


def test_all_tasks_are_there_and_load(folder):
    for task in TASKS:
        assert rows(folder / f"eval_{task}.jsonl"), task
        assert not load_task(folder / f"eval_{task}.jsonl", None, None, "error").skipped
    dataset = load_mmeb_train([str(folder)], progress=False)
    assert {source.name.split("/")[1] for source in dataset.sources} == {f"train_{task}" for task in TASKS}


def test_right_candidate_is_first_and_unique(folder):
    archive = zipfile.ZipFile(folder / "images.zip")
    for path in folder.glob("eval_*.jsonl"):
        for number, row in enumerate(rows(path)):
            assert len(row["tgt_text"]) == len(row["tgt_img_path"]) > 1
            contents = [
                (text, archive.read(image) if image else b"")
                for text, image in zip(row["tgt_text"], row["tgt_img_path"], strict=True)
            ]
            assert contents.count(contents[0]) == 1, f"{path.name} row {number}"


def test_patch_labels_say_what_the_questions_say(folder):
    labels = {row["image"]: row["patches"] for row in rows(folder / "patches.jsonl")}
    checked = 0
    for row in rows(folder / "pretrain.jsonl"):
        patches = labels[row["image"]]
        assert len(patches) == 9
        if row["kind"] == "crop":
            assert patches == [row["answer"]] * 9
        elif row["kind"] == "place":  # "Where is the red star?" "top left"
            name = row["prompt"].removeprefix("Where is the ").removesuffix("?")
            found = [label for label in patches if label.endswith(name)]
            assert len(found) == 1 and found[0].startswith(row["answer"])
            checked += 1
    assert checked > 50


def test_training_and_evaluation_pictures_are_disjoint(folder):
    archive = zipfile.ZipFile(folder / "images.zip")
    evaluation = {archive.read(name) for name in archive.namelist() if name.startswith("images/eval")}
    training = {archive.read(name) for name in archive.namelist() if not name.startswith("images/eval")}
    scenes = {content for content in evaluation & training if len(content) > 3000}  # crops of one object may agree
    assert evaluation and training and not scenes


def test_hard_negative_differs_from_the_positive(folder):
    for path in folder.glob("train_*.jsonl"):
        for row in rows(path):
            assert (row["neg_text"], row["neg_image_path"]) != (row["pos_text"], row["pos_image_path"])
            assert row["neg_text"] or row["neg_image_path"]


def test_perturbed_statement_is_never_true():
    rng = random.Random(0)
    changed = 0
    for _ in range(300):
        scene = random_scene(rng, min_things=2)
        statement = describe(scene, rng)
        assert holds(statement, scene)
        for kind in ("swap_att", "swap_obj", "replace_rel", "replace_att", "replace_obj", "add_obj"):
            wrong = perturb(statement, scene, kind, rng)
            if wrong is not None:
                changed += 1
                assert not holds(wrong, scene), (kind, statement, wrong)
    assert changed > 300


def test_text_similarity_is_spread_over_the_range(folder):
    scores = [row["score"] for row in rows(folder / "sts_eval.jsonl")]
    assert min(scores) < 1.5 and max(scores) > 4 and len(set(scores)) > 20


def test_other_folder_is_not_overwritten(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(FileExistsError, match="holds no dataset.json"):
        write_dataset(tmp_path / "data", "fast")
    with pytest.raises(ValueError, match="size must be one of"):
        write_dataset(tmp_path / "new", "huge")


@pytest.fixture
def maker(tmp_path):
    """Evaluation rows from forty scenes; `maker.scene_of` finds the scene of a picture."""
    rng = random.Random(5)
    pool = [random_scene(rng, min_things=2) for _ in range(40)]
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        made = TaskMaker(Album(archive, "images/eval"), pool, set(), rng, num_candidates=12)
        made.scene_of = lambda path: {name: scene for scene, name in made.album._scenes.items()}[path]
        yield made


def test_captions_are_true_of_the_right_picture_only(maker, monkeypatch):
    said = {}

    def record(statement, style):
        caption = say(statement, style)
        said.setdefault(caption, statement)
        return caption

    monkeypatch.setattr(scenes_tasks, "say", record)
    for scene in maker.pool:
        said.clear()
        row = maker.make("retrieval_t2i", scene)
        (statement,) = said.values()
        truths = [holds(statement, maker.scene_of(image)) for _, image in row.candidates]
        assert truths == [True] + [False] * (len(truths) - 1) and len(truths) == 12
        said.clear()
        row = maker.make("retrieval_i2t", scene)
        truths = [holds(said[caption], scene) for caption, _ in row.candidates]
        assert truths == [True] + [False] * (len(truths) - 1) and len(truths) == 12


def test_no_other_candidate_shows_the_same(maker):
    for scene in maker.pool:
        row = maker.make("retrieval_composed", scene)
        contents = [maker.scene_of(image).content for _, image in row.candidates]
        assert len(set(contents)) == len(contents) and scene.content in contents[1:]
        row = maker.make("grounding", scene)
        names = {path: thing.name for (_, thing), path in maker.album._crops.items()}
        shown = [names[image] for _, image in row.candidates]
        assert shown.count(shown[0]) == 1


def test_questions_have_one_answer():
    rng = random.Random(1)
    for _ in range(200):
        scene = random_scene(rng)
        for question in questions_about(scene, rng):
            assert question.answer not in question.wrong and question.wrong
            if question.kind == "color":
                _, _, rest = question.text.partition("is the ")
                key = rest.rstrip("?").removesuffix(" object")
                named = [thing for thing in scene.things if key in (thing.shape, thing.size)]
                assert [thing.color for thing in named] == [question.answer]
            if question.kind == "count" and question.text == "How many objects are there?":
                assert question.answer == ("zero", "one", "two", "three", "four")[len(scene.things)]


def test_similarity_counts_facts_not_words():
    star = Mention("star", "red")
    ring = Mention("ring", "blue")
    said = Statement((star, ring), ((0, "left of", 1),))
    turned_round = Statement((ring, star), ((0, "right of", 1),))
    other_way = Statement((star, ring), ((0, "right of", 1),))
    exchanged = Statement((Mention("star", "blue"), Mention("ring", "red")), ((0, "left of", 1),))
    assert similarity(said, turned_round) == pytest.approx(1)
    assert similarity(said, exchanged) < similarity(said, other_way) < 1
    assert similarity(said, Statement((Mention("heart", "pink"), Mention("cross", "black")))) == 0
