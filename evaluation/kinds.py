# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What the names of data sets say: the kind (classification, vqa, retrieval, grounding), the split, SugarCrepe's group."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache

from evaluation.suites import Benchmark, load_suites

KINDS = ("classification", "vqa", "retrieval", "grounding")

SUGARCREPE_GROUPS = {
    "replace": ("replace_obj", "replace_att", "replace_rel"),
    "swap": ("swap_obj", "swap_att"),
    "add": ("add_obj", "add_att"),
}

DEFAULT_PATTERNS = (
    ("*class*", "classification"),
    ("*vqa*", "vqa"),
    ("*grounding*", "grounding"),
    ("*", "retrieval"),
)


def parse_patterns(patterns: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of glob and kind out of the `kinds` option's strings `glob=kind`."""
    pairs = []
    for pattern in patterns:
        glob, separator, kind = pattern.rpartition("=")
        if not separator or not glob or kind not in KINDS:
            raise ValueError(f"kinds: {pattern!r} must be GLOB=KIND with a kind out of {', '.join(KINDS)}")
        pairs.append((glob, kind))
    return pairs


def mmeb_set(name: str) -> tuple[str, str] | None:
    """Kind and split of one of MMEB's 36 sets by a name such as "mmeb/GQA" or "GQA/test"; None for any other."""
    known = mmeb_sets().get(bare_name(name).lower())
    return known and (known.task, known.split)


def bare_name(name: str) -> str:
    """A data set's name without its folder, its suite or, in the layout of the Hub, its split: "GQA"."""
    return name.removesuffix("/test").rpartition("/")[2]


@cache
def mmeb_sets() -> dict[str, Benchmark]:
    """MMEB's 36 sets by their names in small letters."""
    (mmeb,) = load_suites(["mmeb"])
    return {benchmark.name.lower(): benchmark for benchmark in mmeb.benchmarks}


def kind_of(name: str, patterns: Sequence[tuple[str, str]] = ()) -> str:
    """Kind of a data set: by the patterns, then by MMEB's names, then by DEFAULT_PATTERNS; capitals do not matter."""
    known = mmeb_set(name)
    defaults = ((name, known[0]), *DEFAULT_PATTERNS) if known else DEFAULT_PATTERNS
    return next(kind for glob, kind in (*patterns, *defaults) if fnmatchcase(name.lower(), glob.lower()))
