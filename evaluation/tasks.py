# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The four forms of tasks: which fields their rows have, how these become a query with candidates, how that is scored.

Where a form has strings of its own, they carry instruction and image token and are encoded raw; bare captions and sentences
get the paper's prompts ("Summary above ... in one word:", arXiv 2504.17432, section 4).
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from evaluation.metrics.mrr.mrr import MRR
from evaluation.metrics.paired_accuracy.paired_accuracy import PairedAccuracy
from evaluation.metrics.precision_at_1.precision_at_1 import PrecisionAt1
from evaluation.metrics.recall_at_k.recall_at_k import RecallAtK
from evaluation.metrics.spearman.spearman import Spearman
from evaluation.row_values import KEPT, rank_rows
from evaluation.score_files import score_fields
from evaluation.similarities import Similarities
from evaluation.task import Row, RowError, Score, Task, make_example, require
from unime.data.data_files import SUGARCREPE_STEMS, stem_of
from unime.data.example import Example

IMAGE_TOKEN = "<|image_1|>"
RAW = ""  # the instruction that makes the processor use a text as it is
HUMAN_SCORES = ("score", "relatedness")  # their fields; only the order of the numbers matters


class MMEBTask(Task):
    """MMEB: each row has a query and its own list of candidates, of which the first is right, and every copy of it.

    Two layouts are read: MMEB-eval, and that of VLM2Vec-V2 with the instructions split off into `qry_inst` and `tgt_inst`,
    which the processor puts together again; `tgt_inst` is one string for all candidates or a list with one for each.
    """

    form = "mmeb"
    fields = {"qry_text", "tgt_text"}
    accepts = "qry_text, qry_img_path, tgt_text, tgt_img_path (MMEB; with qry_inst, tgt_inst: VLM2Vec-V2 layout)"
    headline = ("precision@1",)

    def parse_row(self, values: dict[str, Any]) -> Row:
        return Row(*parse_fields(values))

    def measure(self, similarities: Similarities) -> Score:
        ranks, worst = rank_rows(
            (query, candidates, scores, np.flatnonzero(candidates == candidates[0]))
            for query, candidates, scores in self.scored(similarities)
        )
        counts = [len(candidates) for candidates in self.candidates]
        # Contents in random order: those identical to the right one are right as well, identical wrong ones take one place.
        chance = float(np.mean([1 / len(np.unique(candidates)) for candidates in self.candidates]))
        return Score.of_rows(
            {
                **PrecisionAt1.row_values(ranks),
                **RecallAtK.row_values(ranks, 5),
                **RecallAtK.row_values(ranks, 10),
                **MRR.row_values(ranks),
            },
            chance={"precision@1": chance},
            details={
                "candidates": {"min": min(counts), "mean": float(np.mean(counts)), "max": max(counts)},
                # The right ones are copies of each other, so the first of them is the one that counts.
                "scores": score_fields([row[:1] for row in ranks]),
            },
            misses=worst,
        )


def parse_fields(values: dict[str, Any]) -> tuple[Example, list[Example]]:
    """The query and its candidates, the right one first, of a row of either layout."""
    texts = require(values, "tgt_text", list, "texts of the candidates")
    images = require(values, "tgt_img_path", list, "image paths of the candidates")
    if not texts:
        raise RowError("field 'tgt_text' is empty; the first candidate must be the right one")
    if len(texts) != len(images):
        raise RowError(f"'tgt_text' has {len(texts)} entries but 'tgt_img_path' has {len(images)}")
    instructions = values.get("tgt_inst")
    if not isinstance(instructions, list):
        instructions = [instructions] * len(texts)
    if len(instructions) != len(texts):
        raise RowError(
            f"'tgt_inst' has {len(instructions)} entries but there are {len(texts)} candidates; give one string or all"
        )
    query = make_example(
        "the query (qry_text, qry_img_path)",
        require(values, "qry_text", str, "text of the query"),
        require(values, "qry_img_path", str, "image path of the query"),
        _instruction(values.get("qry_inst"), "qry_inst"),
    )
    candidates = []
    for number, (text, image, instruction) in enumerate(zip(texts, images, instructions, strict=True)):
        for name, value in (("tgt_text", text), ("tgt_img_path", image)):
            if not isinstance(value, str | None):
                raise RowError(f"entry {number} of {name!r} must be a str, got {type(value).__name__}")
        candidate = _candidate(text, image, _instruction(instruction, "tgt_inst"))
        if candidate.is_empty:
            raise RowError(f"candidate {number} (tgt_text, tgt_img_path) has neither a text nor an image")
        candidates.append(candidate)
    return query, candidates


_candidate = lru_cache(2**16)(Example.from_fields)  # rows share candidates


def _instruction(value: Any, name: str) -> str:
    """Read an instruction; without one the text is raw. The image token is dropped: the processor puts it first."""
    if value is None:
        return RAW
    if not isinstance(value, str):
        raise RowError(f"field {name!r} (instruction) must be a str, got {type(value).__name__}")
    return value.replace(IMAGE_TOKEN, "").strip()


class SugarCrepeTask(Task):
    """SugarCrepe: does an image lie nearer to its caption than to a caption with one thing changed?

    Two layouts are read: the original JSON object, one file per subset and named after it, and rows of MMEB-eval's layout
    with a `subset`.
    """

    form = "sugarcrepe"
    fields = {"filename", "caption", "negative_caption"}
    accepts = "filename, caption, negative_caption (SugarCrepe), or MMEB fields with a SugarCrepe 'subset'"
    headline = ("accuracy",)
    sides = ("images", "captions")

    @classmethod
    def recognises(cls, values: dict[str, Any]) -> bool:
        return super().recognises(values) or (MMEBTask.recognises(values) and values.get("subset") in SUGARCREPE_STEMS)

    def parse_row(self, values: dict[str, Any]) -> Row:
        names = ", ".join(SUGARCREPE_STEMS)
        if "subset" in values:
            subset = values["subset"]
            if subset not in SUGARCREPE_STEMS:
                raise RowError(f"field 'subset' must be one of {names}; got {subset!r}")
            image, captions = parse_fields(values)
            if len(captions) != 2:
                raise RowError(f"expected 2 candidates (caption, negative caption), got {len(captions)}")
        else:
            subset = stem_of(self.source).lower()
            if subset not in SUGARCREPE_STEMS:
                raise RowError(f"the file name gives the subset and must be one of {names}; got {subset!r}")
            image = make_example("field 'filename'", image=require(values, "filename", str, "image path"))
            captions = [
                make_example(f"field {name!r}", require(values, name, str, "caption"))
                for name in ("caption", "negative_caption")
            ]
        if captions[0] == captions[1]:
            raise RowError("the caption and the negative caption are the same")
        return Row(image, captions, subset)

    def measure(self, similarities: Similarities) -> Score:
        ranks, worst = rank_rows(
            (image, captions, scores, np.array([0])) for image, captions, scores in self.scored(similarities)
        )
        of_subset: dict[str, list] = {}
        for subset, row in zip(self.labels, ranks, strict=True):
            of_subset.setdefault(subset, []).append(row)
        subsets = {subset: {"rows": len(own), **PairedAccuracy.of_ranks(own)} for subset, own in of_subset.items()}
        values = {**PairedAccuracy.row_values(ranks)}
        values |= {subset: PairedAccuracy.row_values(own)["accuracy"] for subset, own in of_subset.items()}
        return Score(
            PairedAccuracy.of_ranks(ranks),
            chance={"accuracy": 0.5},
            details={"candidates": {"min": 2, "mean": 2.0, "max": 2}, "subsets": subsets},
            values=values,
            misses=worst,
        )


class CaptionTask(Task):
    """Caption retrieval over a whole set, both ways: Flickr30K, COCO, ShareGPT4V, Urban1K.

    Rows hold `image` (a path) and `captions` (one string or a list). In `t2i_recall@k` a caption ranks all images (the first
    number of each pair in the paper's table), in `i2t_recall@k` an image ranks all captions, and any of its own counts.
    """

    form = "captions"
    fields = {"image", "captions"}
    accepts = "image, captions (retrieval over the whole set, both ways)"
    headline = ("t2i_recall@1", "i2t_recall@1")
    sides = ("images", "captions")

    def parse_row(self, values: dict[str, Any]) -> Row:
        image = make_example("field 'image'", image=require(values, "image", str, "image path"))
        captions = values.get("captions")
        captions = [captions] if isinstance(captions, str) else require(values, "captions", list, "captions")
        if not captions or not all(isinstance(caption, str) for caption in captions):
            raise RowError("field 'captions' must be a str or a non-empty list of str")
        return Row(image, [make_example("field 'captions'", caption) for caption in captions])

    def contrast(self, row: int) -> tuple[int, np.ndarray, np.ndarray]:
        own = self.candidates[row]
        other = self.candidates[(row + 1) % len(self.candidates)]
        return self.queries[row], own, np.setdiff1d(other, own)

    def measure(self, similarities: Similarities) -> Score:
        pairs = np.array(
            [(image, caption) for image, own in zip(self.queries, self.candidates, strict=True) for caption in own]
        )  # (P, 2)
        images, captions = (np.unique(side) for side in pairs.T)  # distinct contents
        values, chance, found = {}, {}, []
        for direction, way in (("t2i", pairs[:, ::-1]), ("i2t", pairs)):
            everything = AllPairs.of(way)
            ranks, worst = rank_rows(everything.rows(similarities))
            found += worst
            for k in (1, 5, 10):
                values |= {f"{direction}_{name}": rows for name, rows in RecallAtK.row_values(ranks, k).items()}
            chance[f"{direction}_recall@1"] = everything.chance
        counts = {"images": len(images), "captions": len(captions)}
        return Score.of_rows(values, chance, details=counts, misses=sorted(found, reverse=True)[:KEPT])


class AllPairs(NamedTuple):
    """Each distinct query with all distinct items."""

    queries: np.ndarray  # (Q,)
    items: np.ndarray  # (C,)
    right: list[np.ndarray]  # of each query, the places of its right items

    @classmethod
    def of(cls, pairs: np.ndarray) -> "AllPairs":
        """Out of (P, 2) right pairs of a query and an item."""
        pairs = np.unique(pairs, axis=0)  # in the order of the queries
        queries, counts = np.unique(pairs[:, 0], return_counts=True)  # (Q,), (Q,)
        items, item_of_pair = np.unique(pairs[:, 1], return_inverse=True)  # (C,), (P,)
        return cls(queries, items, np.split(item_of_pair, np.cumsum(counts)[:-1]))

    def rows(self, similarities: Similarities) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
        """What `rank_rows` takes, computed in blocks."""
        scores = (row for block in similarities.blocks(self.queries, self.items) for row in block)
        for query, row, own in zip(self.queries, scores, self.right, strict=True):
            yield query, self.items, row, own

    @property
    def chance(self) -> float:
        """Of a right item in the first place."""
        return float(np.mean([len(own) / len(self.items) for own in self.right]))


class STSTask(Task):
    """Semantic textual similarity: do cosines of sentence pairs have the order of human scores (STS-B, SICK)?"""

    form = "sts"
    fields = {"sentence1", "sentence2"}
    accepts = "sentence1, sentence2 and score or relatedness (STS)"
    headline = ("spearman",)
    sides = ("sentences", "sentences")

    @classmethod
    def recognises(cls, values: dict[str, Any]) -> bool:
        return super().recognises(values) and any(name in values for name in HUMAN_SCORES)

    def parse_row(self, values: dict[str, Any]) -> Row:
        first, second = (
            make_example(f"field {name!r}", require(values, name, str, "sentence"))
            for name in ("sentence1", "sentence2")
        )
        return Row(first, [second], _human_score(values))

    def measure(self, similarities: Similarities) -> Score:
        cosines = np.array([scores[0] for _, _, scores in self.scored(similarities)])  # (N,)
        labels = np.array(self.labels)
        # Of each row its part in the correlation, and what a resampled correlation needs.
        parts = np.prod(
            [(ranks - ranks.mean()) / (ranks.std() or 1) for ranks in map(rankdata, (cosines, labels))], axis=0
        )
        values = {"spearman": parts, "cosine": cosines, "human": labels}
        return Score(Spearman.of_scores(cosines, labels, self.name), chance={"spearman": 0.0}, values=values)


def _human_score(values: dict[str, Any]) -> float:
    name = next((name for name in HUMAN_SCORES if name in values), None)
    if name is None:
        raise RowError(f"field {' or '.join(map(repr, HUMAN_SCORES))} (human score) is missing")
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise RowError(f"field {name!r} (human score) must be a number, got {type(value).__name__}")
    try:
        number = float(value)  # CSV gives text
    except (ValueError, OverflowError) as error:
        raise RowError(f"field {name!r} (human score) must be a number, got {str(value)[:60]!r}") from error
    if not math.isfinite(number):
        raise RowError(f"field {name!r} (human score) must be finite, got {value!r}")
    return number
