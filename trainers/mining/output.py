# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Mined rows as files: the form that stage 2 reads, or that in which UniME-V2's training data are published."""

import json
import re
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from trainers.data.pairs import PairSource
from trainers.mining.selection import Negatives
from unime.data.bad_rows import BadRows
from unime.data.example import Example
from unime.data.forms import find_form
from unime.data.images import DEFAULT_ARCHIVE, ImageStore
from unime.data.rows import read_rows, suffix_of
from unime.files import write_atomically
from unime.shards import MiningError

SUFFIXES = {"mmeb": ".jsonl", "unime_v2": ".json"}
PREFIX = "train_"  # what stage 2 looks for in a folder


def output_files(sources: Sequence[PairSource], stores: Sequence[int], output: Path, form: str) -> list[Path]:
    """A file for each source, in a folder named like the source's own, so that stage 2 finds them in `output`.

    Args:
        sources: what is mined.
        stores: where the images of each source's rows and negatives are; those of one folder must be in one place.
        output: the folder of all.
        form: "mmeb" or "unime_v2".

    Returns:
        Paths, each once.
    """
    files: list[Path] = []
    used: dict[str, int] = {}  # store of each folder
    for source, store in zip(sources, stores, strict=True):
        name = source.name.removesuffix(suffix_of(source.name) or "").strip("/").replace(":", "/")
        *parents, stem = (re.sub(r"[^\w.-]+", "_", part) for part in name.split("/"))
        stem = stem if stem.startswith(PREFIX) else PREFIX + stem
        for number in count(1):
            folder = ("_".join(parents) or "data") + (f"-{number}" if number > 1 else "")
            file = output / folder / f"{stem}{SUFFIXES[form]}"
            if used.setdefault(folder, store) == store and file not in files:
                files.append(file)
                break
    return files


def link_images(folder: Path, store: ImageStore, images: Sequence[str]) -> None:
    """Make images that were found beside a data file be found beside the mined one, by links.

    Args:
        folder: of the mined file.
        store: where the images are.
        images: their relative paths.

    Raises:
        MiningError: a link cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets = {}
    for root in store.roots:
        if root.is_file():
            targets[DEFAULT_ARCHIVE] = root
        else:
            located = filter(None, map(store.locate, images))
            tops = {name.split("/")[0] for place, name in located if place == root}
            targets |= {top: root / top for top in tops}
    for name, target in targets.items():
        link = folder / name
        if link.is_symlink() and link.resolve() == target.resolve():
            continue
        try:
            link.symlink_to(target.resolve())
        except OSError as error:
            raise MiningError(
                f"{link} cannot be made a link to {target} ({error}). Name the images with --image_root, and again when "
                "you train"
            ) from error


def write_source(
    file: Path,
    form: str,
    source: PairSource,
    max_rows: int | None,
    negatives: dict[int, Negatives],
    example_of: Callable[[int], Example],
) -> None:
    """Write the mined rows of a source, in their order.

    Args:
        file: what to write.
        form: "mmeb": the rows as they were, with new negatives; "unime_v2": the published fields.
        source: where the rows come from; they are read again for what the form keeps of them.
        max_rows: how many were read.
        negatives: by line.
        example_of: a candidate by its number.
    """
    make = {"mmeb": _mmeb_row, "unime_v2": _unime_v2_row}[form]
    lines = []
    for row in read_rows(source.file, BadRows("skip"), max_rows=max_rows):
        found = negatives.get(row.place.line)
        if found is not None:
            content = make(row.values, found, [example_of(number) for number in found.candidates.tolist()])
            lines.append(json.dumps(content, ensure_ascii=False, default=str))
    text = "\n".join(lines) + "\n" if form == "mmeb" else "[\n" + ",\n".join(lines) + "\n]\n"
    # A column that nobody reads may hold half a character, which plain UTF-8 cannot carry.
    write_atomically(file, text.encode("utf-8", "backslashreplace"))


def _mmeb_row(values: dict[str, Any], found: Negatives, examples: Sequence[Example]) -> dict[str, Any]:
    mined = {
        "neg_text": [example.text or "" for example in examples],
        "neg_image_path": [example.image or "" for example in examples],
    }
    return {**values, **mined, **_scores(found)}


def _unime_v2_row(values: dict[str, Any], found: Negatives, examples: Sequence[Example]) -> dict[str, Any]:
    row = find_form(list(values)).parse(values)
    return {
        "query_text": row.query.text or "",
        "query_image": row.query.image or "",
        "pos_text": row.positive.text or "",
        "pos_image": row.positive.image or "",
        "hard_negatives": [[example.text or "", example.image or ""] for example in examples],
        **_scores(found),
    }


def _scores(found: Negatives) -> dict[str, Any]:
    """The judge's scores, under UniME-V2's names."""
    if found.positive_score is None:
        return {}
    return {"query_pos_scores": found.positive_score, "hard_negatives_scores": found.scores.tolist()}
