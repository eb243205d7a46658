# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Words for the demo's scenes: captions in many forms, questions with their answers, changes, referring expressions.

A [`Style`] decides every choice of words by name ("which noun for object 0", "which template"), so that a statement and
its negative, said in the same style, differ in the changed words only and not in their form.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from examples.demo.scenes_world import (
    COLORS,
    GRID,
    INVERSE,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    Mention,
    Scene,
    Statement,
    Thing,
    holds,
    related,
)

NOUNS = {
    "circle": ("circle", "disc"),
    "ring": ("ring", "hoop"),
    "cross": ("cross", "plus sign"),
    "diamond": ("diamond", "rhombus"),
    "triangle": ("triangle",),
    "square": ("square",),
    "star": ("star",),
    "heart": ("heart",),
}
COLOR_WORDS = {"purple": ("purple", "violet"), "red": ("red", "crimson"), "green": ("green", "emerald")}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
RELATION_WORDS = {
    "left of": ("to the left of", "left of", "on the left side of"),
    "right of": ("to the right of", "right of", "on the right side of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "beneath"),
}
ITS_SIDE = {"left of": "on its left", "right of": "on its right", "above": "above it", "below": "below it"}
PLURALS = {"cross": "crosses"}
NUMBERS = ("zero", "one", "two", "three", "four")
SIMPLE_ANSWERS = (*COLORS, *SHAPES, *SIZES, *NUMBERS[1:], *PLACES, "yes", "no")
EMPTY = "nothing"


class Style:
    """A reproducible way of wording.

    Args:
        seed: Two styles of equal seed make equal choices.
        synonyms: Whether nouns, colors and sizes may be replaced by synonyms ("disc" for "circle").
    """

    def __init__(self, seed: int, synonyms: bool = False) -> None:
        self.seed = seed
        self.synonyms = synonyms

    def pick(self, slot: str, options: tuple[str, ...] | list[str]) -> str:
        """Choose one of `options`; the same slot of the same style always lands at the same relative position."""
        digest = hashlib.blake2b(f"{self.seed}/{slot}".encode(), digest_size=4).digest()
        return options[int.from_bytes(digest, "big") * len(options) >> 32]

    def word(self, slot: str, word: str, synonyms: dict[str, tuple[str, ...]]) -> str:
        """A word or, if the style allows it, one of its synonyms."""
        return self.pick(slot, synonyms.get(word, (word,))) if self.synonyms else word


@dataclass(frozen=True)
class Question:
    """A question about a scene: `kind` groups results, `wrong` are false answers that the scene itself suggests."""

    kind: str
    text: str
    answer: str
    wrong: tuple[str, ...]


def with_article(phrase: str) -> str:
    """ "red star" -> "a red star", "orange ring" -> "an orange ring"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def join(phrases: list[str]) -> str:
    """Join phrases as in a sentence: "a", "a and b", "a, b and c"."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def in_place(place: str) -> str:
    """ "top left" -> "at the top left", "center" -> "in the center"."""
    return f"{'in' if place == 'center' else 'at'} the {place}"


def say_mention(mention: Mention, style: Style, slot: str = "thing") -> str:
    """A mention as a phrase with its article: "a small red star at the top left"; an unsaid shape is an "object"."""
    words = []
    if mention.size:
        words.append(style.word(f"{slot}/size", mention.size, SIZE_WORDS))
    if mention.color:
        words.append(style.word(f"{slot}/color", mention.color, COLOR_WORDS))
    words.append(style.word(f"{slot}/noun", mention.shape, NOUNS) if mention.shape else "object")
    phrase = with_article(" ".join(words))
    return f"{phrase} {in_place(mention.place)}" if mention.place else phrase


def say(statement: Statement, style: Style) -> str:
    """Word a statement as a caption, with a capital and a full stop."""
    phrases = [say_mention(mention, style, f"thing{index}") for index, mention in enumerate(statement.mentions)]
    if not statement.relations:
        if style.pick("order", ["given", "reversed"]) == "reversed":
            phrases.reverse()
        templates = ["{}", "there is {}", "a picture with {}", "the image shows {}", "we see {}"]
        sentence = style.pick("template", templates).format(join(phrases))
        return f"{sentence[0].upper()}{sentence[1:]}."
    i, relation, j = statement.relations[0]
    first, second = phrases[i], phrases[j]
    if style.pick("turn", ["as said", "turned round"]) == "turned round":
        first, second, relation = second, first, INVERSE[relation]
    where = style.pick("relation", RELATION_WORDS[relation])
    templates = [
        f"{first} {where} {second}",
        f"{first} is {where} {second}",
        f"there is {first} {where} {second}",
        f"{where} {second} there is {first}",
        f"{second} with {first} {ITS_SIDE[relation]}",
    ]
    sentence = style.pick("template", templates)
    rest = [phrase for index, phrase in enumerate(phrases) if index not in (i, j)]
    if rest:
        sentence += style.pick("rest", [", and also {}", ", together with {}", "; there is also {}"]).format(
            join(rest)
        )
    return f"{sentence[0].upper()}{sentence[1:]}."


def full_description(scene: Scene) -> str:
    """All objects in reading order with size, color and place: the densest caption there is."""
    return "; ".join(f"{thing.size} {thing.name} {in_place(thing.place)}" for thing in scene.things) + "."


def patch_labels(scene: Scene) -> list[str]:
    """Place and content of the cells in reading order: "top left small red star", "top center" where it is empty."""
    cells = {thing.place: f"{thing.place} {thing.size} {thing.name}" for thing in scene.things}
    return [cells.get(place, place) for place in PLACES]


def layout_description(scene: Scene) -> str:
    """The nine cells in reading order, row by row, "nothing" where a cell is empty."""
    cells = {(thing.row, thing.column): f"{thing.size} {thing.name}" for thing in scene.things}
    rows = [", ".join(cells.get((row, column), EMPTY) for column in range(GRID)) for row in range(GRID)]
    return f"top: {rows[0]}; middle: {rows[1]}; bottom: {rows[2]}."


def shortest_name(scene: Scene, thing: Thing, rng: random.Random) -> str:
    """A name that fits only this object of the scene: "star", "red object", "large object" or "red star"."""
    options = [thing.name]
    for attribute, name in (
        ("shape", thing.shape),
        ("color", f"{thing.color} object"),
        ("size", f"{thing.size} object"),
    ):
        value = getattr(thing, attribute)
        if sum(getattr(other, attribute) == value for other in scene.things) == 1:
            options.append(name)
    return rng.choice(options)


def refer(scene: Scene, thing: Thing, rng: random.Random) -> str:
    """A referring expression that fits only this object: a name, a place or a relation to another object."""
    roll = rng.random()
    if roll < 0.2:
        return f"object {in_place(thing.place)}"
    others = [other for other in scene.things if other != thing]
    if roll < 0.5 and others:
        other, relation = rng.choice(others), rng.choice(RELATIONS)
        if [item for item in others + [thing] if related(item, relation, other)] == [thing]:
            return f"object {RELATION_WORDS[relation][0]} the {other.name}"
    return shortest_name(scene, thing, rng)


def say_change(change: dict[str, object], style: Style) -> str:
    """Word what `edit_scene` did as a wish: "change the red star to blue", "remove the green heart"."""
    kind, thing, new, other = (change.get(key) for key in ("kind", "thing", "new", "other"))
    templates = {
        "recolor": lambda: [f"change the {thing.name} to {new.color}", f"make the {thing.name} {new.color}"],
        "reshape": lambda: [
            f"turn the {thing.name} into a {new.shape}",
            f"replace the {thing.name} by {with_article(new.name)}",
        ],
        "resize": lambda: [f"make the {thing.name} {new.size}", f"the {thing.name} is {new.size} instead"],
        "move": lambda: [f"move the {thing.name} to the {new.place}", f"put the {thing.name} {in_place(new.place)}"],
        "swap": lambda: [
            f"swap the {thing.name} and the {other.name}",
            f"let the {thing.name} and the {other.name} change places",
        ],
        "remove": lambda: [f"remove the {thing.name}", f"the same without the {thing.name}"],
        "add": lambda: [
            f"add {with_article(f'{new.size} {new.name}')} {in_place(new.place)}",
            f"with {with_article(f'{new.size} {new.name}')} {in_place(new.place)} as well",
        ],
    }
    return style.pick("change", templates[kind]())


def _attribute_questions(scene: Scene, thing: Thing, rng: random.Random) -> list[Question]:
    """Color, shape, size and place of one object, asked only where the name used fits this object alone."""
    questions = []

    def ask(kind: str, text: str, attribute: str, options: tuple[str, ...]) -> None:
        answer = getattr(thing, attribute)
        seen = [getattr(other, attribute) for other in scene.things if getattr(other, attribute) != answer]
        rest = [option for option in options if option != answer and option not in seen]
        wrong = list(dict.fromkeys(seen)) + rng.sample(rest, len(rest))
        questions.append(Question(kind, text, answer, tuple(wrong)))

    if sum(other.shape == thing.shape for other in scene.things) == 1:
        ask("color", f"What color is the {thing.shape}?", "color", COLORS)
    elif sum(other.size == thing.size for other in scene.things) == 1:
        ask("color", f"What color is the {thing.size} object?", "color", COLORS)
    if sum(other.color == thing.color for other in scene.things) == 1:
        ask("shape", f"What shape is the {thing.color} object?", "shape", SHAPES)
    elif sum(other.size == thing.size for other in scene.things) == 1:
        ask("shape", f"What shape is the {thing.size} object?", "shape", SHAPES)
    ask("size", f"Is the {thing.name} small or large?", "size", SIZES)
    ask("place", f"Where is the {thing.name}?", "place", PLACES)
    return questions


def _object_questions(scene: Scene, thing: Thing, rng: random.Random) -> list[Question]:
    """Which object is here, or beside another one: answered by color and shape."""
    names = [other.name for other in scene.things if other != thing]
    near = [f"{_other_word(rng, COLORS, thing.color)} {thing.shape}"]
    near.append(f"{thing.color} {_other_word(rng, SHAPES, thing.shape)}")
    wrong = tuple(names + [name for name in near if name not in names])
    questions = [Question("what_at", f"What is {in_place(thing.place)}?", thing.name, wrong)]
    for other in scene.things:
        for relation in RELATIONS:
            if [item for item in scene.things if related(item, relation, other)] == [thing]:
                text = f"What is {RELATION_WORDS[relation][0]} the {other.name}?"
                questions.append(Question("what_beside", text, thing.name, wrong))
    return questions


def _other_word(rng: random.Random, options: tuple[str, ...], word: str) -> str:
    return rng.choice([option for option in options if option != word])


def _counting_questions(scene: Scene, rng: random.Random) -> list[Question]:
    """How many objects, how many of a color, how many of a shape."""
    color, shape = rng.choice(scene.things).color, rng.choice(scene.things).shape
    counts = [
        ("How many objects are there?", len(scene.things)),
        (f"How many {color} objects are there?", sum(thing.color == color for thing in scene.things)),
        (f"How many {PLURALS.get(shape, f'{shape}s')} are there?", sum(t.shape == shape for t in scene.things)),
    ]
    return [
        Question("count", text, NUMBERS[count], tuple(rng.sample([n for n in NUMBERS[1:] if n != NUMBERS[count]], 3)))
        for text, count in counts
    ]


def _yes_no_question(scene: Scene, rng: random.Random) -> Question:
    """Is there such an object, or does such a relation hold: yes and no equally often."""
    truth = rng.random() < 0.5
    if len(scene.things) > 1 and rng.random() < 0.5:
        while True:
            first, second = rng.sample(scene.things, 2)
            relation = rng.choice(RELATIONS)
            if related(first, relation, second) == truth:
                text = f"Is the {first.name} {RELATION_WORDS[relation][0]} the {second.name}?"
                break
    else:
        while True:
            thing = rng.choice(scene.things)
            color, shape = thing.color, thing.shape
            if not truth:
                color, shape = rng.choice(
                    [(_other_word(rng, COLORS, color), shape), (color, _other_word(rng, SHAPES, shape))]
                )
            if holds(Statement((Mention(shape, color),)), scene) == truth:
                text = f"Is there {with_article(f'{color} {shape}')}?"
                break
    return Question("yes_no", text, "yes" if truth else "no", ("no" if truth else "yes",))


def questions_about(scene: Scene, rng: random.Random) -> list[Question]:
    """All kinds of questions the scene answers without ambiguity, in random order."""
    questions = _counting_questions(scene, rng) + [_yes_no_question(scene, rng), _yes_no_question(scene, rng)]
    for thing in scene.things:
        questions += _attribute_questions(scene, thing, rng) + _object_questions(scene, thing, rng)
    rng.shuffle(questions)
    return questions
