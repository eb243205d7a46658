# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The demo's little world: scenes of objects on a grid, statements about them, and when a statement is true.

A [`Scene`] holds one to four [`Thing`]s on a 3 x 3 grid. A [`Statement`] is what a caption says: some mentioned
objects, each with the attributes the caption names, and relations between them. [`holds`] decides exactly whether a
statement is true of a scene, so every "wrong" candidate and every hard negative of the data set is wrong by proof and
not by luck. [`similarity`] compares two statements and gives the score of the text-similarity set.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

# Few enough words that a tiny model learns them all within the minutes that the demo has.
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
COLORS = ("red", "yellow", "green", "blue", "purple", "black")
SIZES = ("small", "large")
GRID = 3
PLACES = (
    *("top left", "top center", "top right"),
    *("middle left", "center", "middle right"),
    *("bottom left", "bottom center", "bottom right"),
)
RELATIONS = ("left of", "right of", "above", "below")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
EDITS = ("recolor", "reshape", "resize", "move", "swap", "remove", "add")
SWAP_ATT, SWAP_OBJ, REPLACE_REL, REPLACE_ATT, REPLACE_OBJ, ADD_OBJ = (
    "swap_att",
    "swap_obj",
    "replace_rel",
    "replace_att",
    "replace_obj",
    "add_obj",
)
# How much an agreeing shape, color and size count when two mentioned objects are compared (see `similarity`).
ATTRIBUTE_WEIGHTS = {"shape": 0.45, "color": 0.4, "size": 0.15}
RELATION_WEIGHT = 0.2


@dataclass(frozen=True, order=True)
class Thing:
    """One object: what it is and the grid cell it stands in (row 0 is the top, column 0 the left)."""

    shape: str
    color: str
    size: str
    row: int
    column: int

    @property
    def name(self) -> str:
        """Color and shape, "red star": unique within a scene."""
        return f"{self.color} {self.shape}"

    @property
    def place(self) -> str:
        """Name of the grid cell, one of `PLACES`."""
        return PLACES[GRID * self.row + self.column]


@dataclass(frozen=True)
class Scene:
    """A picture's content (`things`, in reading order) and `look`, the seed of its background, jitter and tilt."""

    things: tuple[Thing, ...]
    look: int

    @property
    def content(self) -> frozenset[Thing]:
        """What the picture shows, whatever it looks like: two scenes of equal content are the same candidate."""
        return frozenset(self.things)

    @property
    def main(self) -> Thing | None:
        """The one large object; None when no object or several are large."""
        large = [thing for thing in self.things if thing.size == "large"]
        return large[0] if len(large) == 1 else None


@dataclass(frozen=True)
class Mention:
    """An object as a text mentions it: attributes left None are not said."""

    shape: str | None = None
    color: str | None = None
    size: str | None = None
    place: str | None = None

    def fits(self, thing: Thing) -> bool:
        """Whether everything the mention says is true of `thing`."""
        return all(
            said is None or said == getattr(thing, attribute)
            for attribute, said in (
                ("shape", self.shape),
                ("color", self.color),
                ("size", self.size),
                ("place", self.place),
            )
        )


@dataclass(frozen=True)
class Statement:
    """Mentioned objects and relations `(i, relation, j)` between them, as a caption states them."""

    mentions: tuple[Mention, ...]
    relations: tuple[tuple[int, str, int], ...] = ()


def related(first: Thing, relation: str, second: Thing) -> bool:
    """Whether `first` is `relation` (one of `RELATIONS`) `second`; a diagonal neighbor is, say, both left and above."""
    if relation == "left of":
        return first.column < second.column
    if relation == "right of":
        return first.column > second.column
    if relation == "above":
        return first.row < second.row
    return first.row > second.row


def holds(statement: Statement, scene: Scene) -> bool:
    """Whether the statement is true: some assignment of different objects to its mentions satisfies all it says."""
    return any(
        all(mention.fits(thing) for mention, thing in zip(statement.mentions, chosen, strict=True))
        and all(related(chosen[i], relation, chosen[j]) for i, relation, j in statement.relations)
        for chosen in itertools.permutations(scene.things, len(statement.mentions))
    )


def make_scene(things: Iterator[Thing] | list[Thing] | tuple[Thing, ...], look: int) -> Scene:
    """A scene with its objects in reading order."""
    return Scene(tuple(sorted(things, key=lambda thing: (thing.row, thing.column))), look)


def random_scene(rng: random.Random, min_things: int = 1) -> Scene:
    """Draw a scene of `min_things` to four objects that differ in color or shape.

    Seven scenes in ten have exactly one large object (the "main" one of the classification task). Colors and shapes
    repeat within a scene more often than chance would have it, so that color or shape alone often does not tell
    objects apart.
    """
    count = rng.choices((1, 2, 3, 4), weights=(2, 5, 3, 1))[0]
    count = max(count, min_things)
    cells = rng.sample(range(GRID * GRID), count)
    large = [rng.random() < 0.5 for _ in cells]
    if rng.random() < 0.7:
        large = [index == 0 for index in range(count)]
    names: list[tuple[str, str]] = []
    while len(names) < count:
        color, shape = rng.choice(COLORS), rng.choice(SHAPES)
        if names and rng.random() < 0.3:
            color = rng.choice(names)[0]
        elif names and rng.random() < 0.3:
            shape = rng.choice(names)[1]
        if (color, shape) not in names:
            names.append((color, shape))
    things = [
        Thing(shape, color, SIZES[is_large], cell // GRID, cell % GRID)
        for (color, shape), cell, is_large in zip(names, cells, large, strict=True)
    ]
    return make_scene(things, rng.randrange(2**32))


def _other(rng: random.Random, options: tuple[str, ...], current: str) -> str:
    return rng.choice([option for option in options if option != current])


def edit_scene(scene: Scene, kind: str, rng: random.Random) -> tuple[Scene, dict[str, object]] | None:
    """Change one thing in a scene.

    Args:
        scene: The scene to start from; the edited one keeps its `look` (the background stays).
        kind: One of `EDITS`.
        rng: Source of the choices.

    Returns:
        The edited scene and what was done: `kind` and, where they apply, `thing`, `other` (objects of the old scene)
        and `new` (the object of the new scene). None if the edit cannot be made here or gives two like-named objects.
    """
    things = list(scene.things)
    if kind == "add":
        if len(things) >= 4:
            return None
        free = sorted(set(range(GRID * GRID)) - {GRID * thing.row + thing.column for thing in things})
        cell = rng.choice(free)
        new = Thing(rng.choice(SHAPES), rng.choice(COLORS), rng.choice(SIZES), cell // GRID, cell % GRID)
        change: dict[str, object] = {"kind": kind, "new": new}
        things.append(new)
    elif kind in ("remove", "swap"):
        if len(things) < 2:
            return None
        thing, other = rng.sample(things, 2)
        things.remove(thing)
        change = {"kind": kind, "thing": thing}
        if kind == "swap":
            things.remove(other)
            things += [
                replace(thing, row=other.row, column=other.column),
                replace(other, row=thing.row, column=thing.column),
            ]
            change["other"] = other
    else:
        thing = rng.choice(things)
        if kind == "recolor":
            new = replace(thing, color=_other(rng, COLORS, thing.color))
        elif kind == "reshape":
            new = replace(thing, shape=_other(rng, SHAPES, thing.shape))
        elif kind == "resize":
            new = replace(thing, size=_other(rng, SIZES, thing.size))
        else:
            free = sorted(set(range(GRID * GRID)) - {GRID * item.row + item.column for item in things})
            cell = rng.choice(free)
            new = replace(thing, row=cell // GRID, column=cell % GRID)
        things[things.index(thing)] = new
        change = {"kind": kind, "thing": thing, "new": new}
    if len({thing.name for thing in things}) < len(things):
        return None
    return make_scene(things, scene.look), change


def random_edit(
    scene: Scene,
    rng: random.Random,
    kinds: tuple[str, ...] = EDITS,
    accept: Callable[[Scene], bool] = lambda edited: True,
) -> tuple[Scene, dict[str, object]] | None:
    """The first random edit of one of `kinds` whose result `accept`s; None when forty tries find none."""
    for _ in range(40):
        edited = edit_scene(scene, rng.choice(kinds), rng)
        if edited is not None and accept(edited[0]):
            return edited
    return None


def describe(scene: Scene, rng: random.Random, max_mentions: int = 3) -> Statement:
    """Draw a true statement about a scene: up to `max_mentions` objects, some sizes, some places, mostly a relation."""
    things = rng.sample(scene.things, min(len(scene.things), max_mentions))
    with_place = len(things) == 1 or rng.random() < 0.2
    mentions = tuple(
        Mention(
            thing.shape,
            thing.color,
            thing.size if rng.random() < 0.3 else None,
            thing.place if with_place and rng.random() < 0.8 else None,
        )
        for thing in things
    )
    relations: tuple[tuple[int, str, int], ...] = ()
    if len(things) > 1 and not with_place and rng.random() < 0.85:
        true = [relation for relation in RELATIONS if related(things[0], relation, things[1])]
        relations = ((0, rng.choice(true), 1),)
    return Statement(mentions, relations)


def _perturbed_mentions(statement: Statement, kind: str, rng: random.Random) -> list[Mention] | None:
    """The changed mentions of `perturb`; None if this statement offers nothing to change."""
    mentions = list(statement.mentions)
    index = rng.randrange(len(mentions))
    if kind == SWAP_ATT or kind == SWAP_OBJ:
        if len(mentions) < 2:
            return None
        i, j = rng.sample(range(len(mentions)), 2)
        if statement.relations:
            i, j = 0, 1
        first, second = mentions[i], mentions[j]
        if kind == SWAP_OBJ:  # the objects change roles: "A left of B" becomes "B left of A"
            mentions[i], mentions[j] = replace(second, place=first.place), replace(first, place=second.place)
        elif first.size != second.size and None not in (first.size, second.size) and rng.random() < 0.3:
            mentions[i], mentions[j] = replace(first, size=second.size), replace(second, size=first.size)
        else:
            mentions[i], mentions[j] = replace(first, color=second.color), replace(second, color=first.color)
    elif kind == REPLACE_ATT:
        mentions[index] = replace(mentions[index], color=_other(rng, COLORS, mentions[index].color))
    elif kind == REPLACE_OBJ:
        mentions[index] = replace(mentions[index], shape=_other(rng, SHAPES, mentions[index].shape))
    elif kind == ADD_OBJ:
        mentions.append(Mention(rng.choice(SHAPES), rng.choice(COLORS)))
    names = {(mention.color, mention.shape) for mention in mentions}
    return mentions if len(names) == len(mentions) else None  # never "a red star and a red star"


def perturb(statement: Statement, scene: Scene, kind: str, rng: random.Random) -> Statement | None:
    """Turn a true statement about `scene` into a false one by one compositional change.

    Args:
        statement: A statement that holds for the scene.
        scene: The scene it is about.
        kind: "swap_att" (two objects exchange color or size), "swap_obj" (two objects exchange their roles),
            "replace_rel" (another relation), "replace_att", "replace_obj" (another color, another shape) or "add_obj"
            (an object that is not there).
        rng: Source of the choices.

    Returns:
        The false statement; None if ten tries find none (for instance no second object to swap with).
    """
    for _ in range(10):
        mentions, relations = list(statement.mentions), statement.relations
        if kind == REPLACE_REL:
            if not relations:
                return None
            i, relation, j = relations[0]
            relations = ((i, _other(rng, RELATIONS, relation), j),)
        else:
            changed = _perturbed_mentions(statement, kind, rng)
            if changed is None:
                continue
            mentions = changed
        candidate = Statement(tuple(mentions), relations)
        if not holds(candidate, scene):
            return candidate
    return None


def random_perturbation(
    statement: Statement,
    scene: Scene,
    rng: random.Random,
    kinds: tuple[str, ...] = (SWAP_ATT, SWAP_OBJ, REPLACE_REL, REPLACE_ATT, REPLACE_OBJ, ADD_OBJ),
) -> tuple[Statement, str]:
    """A false neighbor of a true statement and the kind of the change; the first of `kinds`, shuffled, that works."""
    for kind in rng.sample(kinds, len(kinds)):
        changed = perturb(statement, scene, kind, rng)
        if changed is not None:
            return changed, kind
    raise ValueError(f"no change of kinds {kinds} makes {statement} false for {scene}; allow replace_att as well")


def _agreement(first: Mention, second: Mention) -> float:
    """Weighted share of attributes that agree, over those that both mentions state; shape and color always are."""
    total = agreed = 0.0
    for attribute, weight in ATTRIBUTE_WEIGHTS.items():
        mine, yours = getattr(first, attribute), getattr(second, attribute)
        if mine is not None and yours is not None:
            total += weight
            agreed += weight * (mine == yours)
    return agreed / total if total else 0.0


def _relations_of(statement: Statement) -> set[tuple[int, str, int]]:
    """Relations in both readings, so that "A left of B" and "B right of A" are the same fact."""
    return {fact for i, relation, j in statement.relations for fact in ((i, relation, j), (j, INVERSE[relation], i))}


def similarity(first: Statement, second: Statement) -> float:
    """Overlap of two scene graphs, 0 (nothing in common) to 1 (the same facts).

    Objects are paired so that their attributes agree best; the sum of agreements is divided by the larger number of
    objects. Where both statements relate objects, a fifth of the score is the overlap of the relations under that
    pairing.
    """
    if len(first.mentions) > len(second.mentions):
        first, second = second, first
    size = len(second.mentions)
    facts, other_facts = _relations_of(first), _relations_of(second)
    best = 0.0
    for pairing in itertools.permutations(range(size), len(first.mentions)):
        score = sum(_agreement(first.mentions[i], second.mentions[j]) for i, j in enumerate(pairing)) / size
        if facts and other_facts:
            mapped = {(pairing[i], relation, pairing[j]) for i, relation, j in facts}
            overlap = len(mapped & other_facts) / len(mapped | other_facts)
            score = (1 - RELATION_WEIGHT) * score + RELATION_WEIGHT * overlap * score
        best = max(best, score)
    return best
