# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Which data sets of evaluation the `data` option stands for, and what they are called."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from unime.data.bad_rows import BadRows, DataError
from unime.data.rows import SUFFIXES, expand_source, read_rows, suffix_of
from unime.files import file_digest

SUGARCREPE_STEMS = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
# What a folder stands for, at any depth; the last is the layout of MMEB-eval on the Hub.
FOLDER_PATTERNS = (
    *(f"eval_*{suffix}" for suffix in SUFFIXES),
    *(f"{stem}.json" for stem in SUGARCREPE_STEMS),
    "test-*.parquet",
)


def find_data_files(places: Sequence[str]) -> list[str]:
    """Files and `datasets` sources, without repeats; of a folder only what `FOLDER_PATTERNS` say."""
    sources = {os.path.realpath(source): source for place in places for source in _expand(str(place))}
    names: dict[str, str] = {}
    for source in sources.values():
        other = names.setdefault(data_set_name(source), source)
        if other != source:
            raise DataError(
                f"{other} and {source} would both be called {data_set_name(source)!r}; run them separately"
            )
    return list(sources.values())


def _expand(place: str) -> list[str]:
    if not Path(place).exists() and (Path(place).is_absolute() or place.count("/") > 1) and "*" not in place:
        raise FileNotFoundError(f"data {place!r} does not exist; give files, folders or names of data sets")
    return expand_source(place, FOLDER_PATTERNS)


def stem_of(source: str | Path) -> str:
    """File name without suffix and without the shard number of a single Parquet file (`-00000-of-00001`)."""
    return Path(source).name.removesuffix(suffix_of(source) or "").removesuffix("-00000-of-00001")


def data_set_name(source: str | Path) -> str:
    """Name of a data set: of a file its folder, a slash, and its name without suffix and `eval_`; else name and config.

    For example "grocery/i2t_class" for `.../grocery/eval_i2t_class.jsonl`, "MMEB-eval/GQA" for
    `TIGER-Lab/MMEB-eval:GQA:test`.
    """
    if suffix_of(source) is None:
        name, *rest = str(source).split(":")
        return f"{Path(name).name}/{rest[0]}" if rest else name
    return f"{Path(source).resolve().parent.name}/{stem_of(source).removeprefix('eval_')}"


def source_digest(source: str | Path) -> str:
    """What a data set holds, as hexadecimal digits: of a file's bytes, else of all rows."""
    if Path(source).is_file():
        return file_digest(Path(source))
    digest = hashlib.sha256()
    for row in read_rows(source, BadRows("skip")):
        digest.update(repr(row.values).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
