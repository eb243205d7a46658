# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Turns scenes into retrieval rows: one query and its candidates, the right one first, all others proven wrong.

The query strings are those of MMEB (UniME reads them as they are, `<|image_1|>` marks the image). Each task puts hard
candidates directly behind the right one (the same scene with another answer, a caption with two attributes exchanged, a
picture with one object moved) and fills up with candidates from other scenes. A training row keeps the right candidate
and the first hard one, an evaluation row keeps the whole list.
"""

from __future__ import annotations

import io
import random
import zipfile
from dataclasses import dataclass, field

from PIL import Image

from examples.demo.scenes_drawing import crop_thing, draw_scene
from examples.demo.scenes_wording import (
    SIMPLE_ANSWERS,
    Style,
    questions_about,
    refer,
    say,
    say_change,
)
from examples.demo.scenes_world import (
    COLORS,
    SHAPES,
    Scene,
    Statement,
    Thing,
    describe,
    holds,
    perturb,
    random_edit,
    random_perturbation,
)

IMAGE = "<|image_1|>\n"
CLASSIFY = f"{IMAGE}Represent the given image for classification\n"
ASK = IMAGE + "Represent the given image with the following question: {}\n"
FIND_IMAGE = "Find me an everyday image that matches the given caption: {}\n"
FIND_CAPTION = f"{IMAGE}Find an image caption describing the given everyday image.\n"
CHANGE = IMAGE + "Given an image, find a similar everyday image with the described changes: {}\n"
ISOLATE = IMAGE + 'Select the portion of the image that isolates the object labeled as "{}"\n'
TARGET_IMAGE = f"{IMAGE}Represent the given image.\n"
TARGET_CROP = f"{IMAGE}Represent the given cropped image of the object\n"
HARD_CANDIDATES = 4  # same scene or same caption, one thing changed
COMPOSITIONAL = ("swap_att", "swap_obj", "replace_rel", "add_obj")
OBJECT_NAMES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
ZIP_DATE = (2026, 1, 1, 0, 0, 0)  # fixed, so that equal data sets are equal files


@dataclass
class Row:
    """A query and its candidates `(text, image path)`, the right one first; an absent text or path is "".

    `extra` holds further columns of the evaluation row, to group results by.
    """

    query: str
    image: str
    candidates: list[tuple[str, str]]
    extra: dict[str, str] = field(default_factory=dict)

    def as_training(self) -> dict[str, str]:
        """MMEB training columns; the first wrong candidate is the hard negative."""
        (positive, positive_image), (negative, negative_image) = self.candidates[:2]
        return {
            "qry": self.query,
            "qry_image_path": self.image,
            "pos_text": positive,
            "pos_image_path": positive_image,
            "neg_text": negative,
            "neg_image_path": negative_image,
        }

    def as_evaluation(self) -> dict[str, object]:
        """MMEB evaluation columns."""
        return {
            "qry_text": self.query,
            "qry_img_path": self.image,
            "tgt_text": [text for text, _ in self.candidates],
            "tgt_img_path": [image for _, image in self.candidates],
            **self.extra,
        }


class Album:
    """Draws pictures once and collects them for `images.zip`.

    Args:
        archive: The zip file that is being written.
        prefix: Start of the picture names, for instance "images/train".
    """

    def __init__(self, archive: zipfile.ZipFile, prefix: str) -> None:
        self.archive = archive
        self.prefix = prefix
        self._scenes: dict[Scene, str] = {}
        self._crops: dict[tuple[Scene, Thing], str] = {}

    @property
    def contents(self) -> set[frozenset[Thing]]:
        """What the pictures drawn so far show."""
        return {scene.content for scene in self._scenes}

    def scene(self, scene: Scene) -> str:
        """Path of the scene's picture."""
        if scene not in self._scenes:
            self._scenes[scene] = self._write(f"{self.prefix}_{len(self._scenes):05d}.png", draw_scene(scene))
        return self._scenes[scene]

    def crop(self, scene: Scene, thing: Thing) -> str:
        """Path of the picture of one object, cut out of its scene."""
        if (scene, thing) not in self._crops:
            picture = crop_thing(draw_scene(scene), scene, thing)
            self._crops[scene, thing] = self._write(f"{self.prefix}_crop_{len(self._crops):05d}.png", picture)
        return self._crops[scene, thing]

    def _write(self, path: str, picture: Image.Image) -> str:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=6)
        self.archive.writestr(zipfile.ZipInfo(path, ZIP_DATE), buffer.getvalue())
        return path


class TaskMaker:
    """Makes rows of every task for the scenes of one split.

    Args:
        album: Draws the pictures of this split.
        pool: Scenes of this split; candidates from other scenes come from here.
        forbidden: Contents that no picture of this split may have (those of the other split).
        rng: Source of all choices.
        num_candidates: Length of the candidate lists; 2 for training rows. Classification offers all classes and
            VQA all short answers where more than 2 are wanted.
    """

    def __init__(
        self,
        album: Album,
        pool: list[Scene],
        forbidden: set[frozenset[Thing]],
        rng: random.Random,
        num_candidates: int,
    ) -> None:
        self.album = album
        self.pool = pool
        self.forbidden = forbidden
        self.rng = rng
        self.num_candidates = num_candidates
        self.num_hard = min(HARD_CANDIDATES, num_candidates - 1)

    def make(self, task: str, scene: Scene) -> Row | None:
        """The row of a task (a name in `TASKS`) for a scene; None where the scene does not offer it."""
        return getattr(self, f"_{task}")(scene)

    def _sample(self, options: list, count: int) -> list:
        return self.rng.sample(options, min(max(count, 0), len(options)))

    def _style(self) -> Style:
        return Style(self.rng.randrange(2**32))

    def _variants(self, scene: Scene, taken: list[Scene], statement: Statement | None = None) -> list[Scene]:
        """Edited copies of a scene whose content is new (and for which `statement`, if given, is false)."""
        variants: list[Scene] = []

        def accept(edited: Scene) -> bool:
            seen = {other.content for other in (*taken, *variants)} | self.forbidden
            return edited.content not in seen and not (statement and holds(statement, edited))

        while len(taken) - 1 + len(variants) < self.num_hard:
            kinds = (
                ("swap", "move", "recolor", "reshape") if statement else ("recolor", "reshape", "swap", "move", "add")
            )
            edit = random_edit(scene, self.rng, kinds, accept)
            if edit is None:
                break
            variants.append(edit[0])
        return variants

    def _fill_images(self, chosen: list[Scene], wrong: list[Scene], near: list[Scene]) -> list[tuple[str, str]]:
        """Extend `chosen` to the wanted length, one half from `near` scenes, and draw everything."""
        contents = {scene.content for scene in chosen}
        missing = self.num_candidates - len(chosen)
        for scene in self._sample(near, missing // 2) + self._sample(wrong, len(wrong)):
            if len(chosen) < self.num_candidates and scene.content not in contents:
                contents.add(scene.content)
                chosen.append(scene)
        return [(TARGET_IMAGE, self.album.scene(scene)) for scene in chosen]

    def _classification(self, scene: Scene) -> Row | None:
        if scene.main is None:
            return None
        right = scene.main.name
        seen = [thing.name for thing in scene.things if thing.name != right]
        near = [name for name in OBJECT_NAMES if set(name.split()) & set(right.split()) and name != right]
        hard = seen or [self.rng.choice(near)]
        rest = [name for name in OBJECT_NAMES if name != right and name not in hard]
        names = [right, *hard, *self._sample(rest, len(rest))]
        return Row(CLASSIFY, self.album.scene(scene), [(name, "") for name in names])

    def _vqa(self, scene: Scene) -> Row:
        questions = questions_about(scene, self.rng)
        kind = self.rng.choice(sorted({question.kind for question in questions}))
        question = next(question for question in questions if question.kind == kind)
        answers = [question.answer, *question.wrong]
        options = OBJECT_NAMES if question.answer in OBJECT_NAMES else SIMPLE_ANSWERS
        rest = [answer for answer in options if answer not in answers]
        if options is OBJECT_NAMES:
            rest = self._sample(rest, self.num_candidates - len(answers))
        answers += self._sample(rest, len(rest))
        extra = {"kind": question.kind}
        return Row(ASK.format(question.text), self.album.scene(scene), [(answer, "") for answer in answers], extra)

    def _retrieval_t2i(self, scene: Scene) -> Row | None:
        statement = describe(scene, self.rng)
        variants = self._variants(scene, [scene], statement)
        if not variants:
            return None
        wrong = [other for other in self.pool if not holds(statement, other)] if self.num_candidates > 2 else []
        near = [other for other in wrong if any(m.fits(thing) for m in statement.mentions for thing in other.things)]
        candidates = self._fill_images([scene, *variants], wrong, near)
        return Row(FIND_IMAGE.format(say(statement, self._style())), "", candidates)

    def _retrieval_i2t(self, scene: Scene) -> Row:
        statement, style = describe(scene, self.rng), self._style()
        captions = [say(statement, style)]
        for _ in range(4 * self.num_hard):
            negative, _ = random_perturbation(statement, scene, self.rng)
            caption = say(negative, style)
            if caption not in captions and len(captions) <= self.num_hard:
                captions.append(caption)
        others = self._sample(self.pool, len(self.pool)) if self.num_candidates > 2 else []
        for other in others:
            foreign = describe(other, self.rng)
            caption = say(foreign, self._style())
            if len(captions) < self.num_candidates and caption not in captions and not holds(foreign, scene):
                captions.append(caption)
        return Row(FIND_CAPTION, self.album.scene(scene), [(caption, "") for caption in captions])

    def _retrieval_composed(self, scene: Scene) -> Row | None:
        edit = random_edit(scene, self.rng, accept=lambda edited: edited.content not in self.forbidden)
        if edit is None:
            return None
        target, change = edit
        chosen = [target, scene]
        chosen += self._variants(scene, chosen)
        new = change.get("new")
        near = [
            other
            for other in (self.pool if self.num_candidates > 2 else [])
            if new and any(thing.name == new.name for thing in other.things)
        ]
        candidates = self._fill_images(chosen, self.pool, near)
        query = CHANGE.format(say_change(change, self._style()))
        return Row(query, self.album.scene(scene), candidates)

    def _grounding(self, scene: Scene) -> Row | None:
        if len(scene.things) < 2:
            return None
        thing = self.rng.choice(scene.things)
        label = refer(scene, thing, self.rng)
        crops = [(scene, thing)] + [(scene, other) for other in scene.things if other != thing]
        seen = {(item.name, item.size) for _, item in crops}
        others = self._sample(self.pool, len(self.pool)) if self.num_candidates > 2 else []
        for other in others:
            item = self.rng.choice(other.things)
            if len(crops) < self.num_candidates and item.name != thing.name and (item.name, item.size) not in seen:
                seen.add((item.name, item.size))
                crops.append((other, item))
        candidates = [(TARGET_CROP, self.album.crop(*crop)) for crop in crops[: self.num_candidates]]
        return Row(ISOLATE.format(label), self.album.scene(scene), candidates)


TASKS = ("classification", "vqa", "retrieval_t2i", "retrieval_i2t", "retrieval_composed", "grounding")


def compositional_row(album: Album, scene: Scene, subset: str, rng: random.Random) -> Row | None:
    """A picture, a true caption and the same caption made false by one change of kind `subset` (SugarCrepe's form)."""
    statement = describe(scene, rng, max_mentions=2 if subset == "add_obj" else 3)
    if subset == "replace_rel" and not statement.relations:
        return None
    negative = perturb(statement, scene, subset, rng)
    style = Style(rng.randrange(2**32))
    if negative is None:
        return None
    captions = [(say(statement, style), ""), (say(negative, style), "")]
    return Row(FIND_CAPTION, album.scene(scene), captions, {"subset": subset})
