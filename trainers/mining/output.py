# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Mined rows as files: the form that they had, or that in which UniME-V2's training data are published."""

import json
import re
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from trainers.mining.pool import Pool, Search
from trainers.mining.selection import Mined
from unime.data.bad_rows import BadRows
from unime.data.images import DEFAULT_ARCHIVE, ImageStore
from unime.data.rows import read_rows, suffix_of
from unime.files import write_atomically

SUFFIXES = {"mmeb": ".jsonl", "unime_v2": ".json"}
PREFIX = "train_"  # what stage 2 looks for in a folder


def plan_files(pool: Pool, by_source: bool, output: Path, form: str, link: bool) -> dict[int, Path]:
    """A file for each source that is mined, by its number, in a folder named like the source's own, so that stage 2 finds
    them in `output`. Images that were found beside a data file are found beside the mined one by links, with `link`."""
    files: dict[int, Path] = {}
    used: dict[str, int] = {}  # store of each folder: images of one folder must be in one place
    for search in pool.searches(by_source):
        store = _image_store(pool, search)
        for number in np.unique(pool.sources[search.rows]).tolist():
            name = pool.dataset.sources[number].name
            name = name.removesuffix(suffix_of(name) or "").strip("/").replace(":", "/")
            *parents, stem = (re.sub(r"[^\w.-]+", "_", part) for part in name.split("/"))
            stem = stem if stem.startswith(PREFIX) else PREFIX + stem
            for attempt in count(1):
                folder = ("_".join(parents) or "data") + (f"-{attempt}" if attempt > 1 else "")
                file = output / folder / f"{stem}{SUFFIXES[form]}"
                if used.setdefault(folder, store) == store and file not in files.values():
                    files[number] = file
                    break
            if link and store >= 0:
                _link_images(files[number].parent, pool, store)
    return files


def _image_store(pool: Pool, search: Search) -> int:
    """Which of the data set's stores has all images of a search, so that a row can have any candidate's; -1: none."""
    with_image = search.places[pool.has("positive", "image")[search.places]]
    sources = np.unique(pool.sources[np.concatenate([search.rows, with_image])])
    stores = sorted({pool.dataset.sources[source].store for source in sources} - {-1})
    if len(stores) > 1:
        names = ", ".join(repr(pool.dataset.stores[store]) for store in stores[:3])
        raise ValueError(
            f"images of rows and candidates lie in {len(stores)} places ({names}), but those of a row and its negatives "
            "must lie in one. Search each source by itself (--pool source), or bring all images into one folder or "
            "archive and name it (--image_root)."
        )
    return stores[0] if stores else -1


def _link_images(folder: Path, pool: Pool, number: int) -> None:
    store: ImageStore = pool.dataset.stores[number]
    here = np.isin(pool.sources, [i for i, source in enumerate(pool.dataset.sources) if source.store == number])
    archives = [root for root in store.roots if root.is_file()]
    targets = dict.fromkeys([DEFAULT_ARCHIVE] if archives else [], archives[-1] if archives else None)
    for side in ("query", "positive"):
        images = pool.dataset.table[side].combine_chunks().field("image").filter(pa.array(here))
        for root, name in filter(None, map(store.locate, images.unique().drop_null().to_pylist())):
            if not root.is_file():
                top = name.split("/")[0]
                targets[top] = root / top
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in targets.items():
        link = folder / name
        if link.is_symlink() and link.resolve() == target.resolve():
            continue
        try:
            link.symlink_to(target.resolve())
        except OSError as error:
            raise ValueError(
                f"{link} cannot be made a link to {target} ({error}). Name the images with --image_root, and again when "
                "you train"
            ) from error


def write_results(pool: Pool, mined: Mined, files: dict[int, Path], form: str, max_rows: int | None) -> None:
    """Write the file of each source. Its rows, `max_rows` at most, are read again for what the form keeps of them."""
    table = pool.dataset.table
    queries, positives = table["query"].combine_chunks(), table["positive"].combine_chunks()
    lines = table["line"].to_numpy()[mined.rows]
    for source, file in files.items():
        number_of = {int(lines[i]): i for i in np.flatnonzero(pool.sources[mined.rows] == source)}
        rows = []
        for values, place in read_rows(pool.dataset.sources[source].file, BadRows("skip"), max_rows=max_rows):
            i = number_of.get(place.line)
            if i is None:
                continue
            row, chosen = int(mined.rows[i]), mined.negatives[i]
            negatives = positives.take(pa.array(chosen[chosen >= 0])).to_pylist()
            if form == "mmeb":
                content = _with_negatives(values, negatives)
            else:
                content = _published(queries[row].as_py(), positives[row].as_py(), negatives)
            if mined.scores is not None:
                scores = mined.scores[i][: 1 + len(negatives)].tolist()
                content |= {"query_pos_scores": scores[0], "hard_negatives_scores": scores[1:]}
            rows.append(json.dumps(content, ensure_ascii=False, default=str))
        text = "\n".join(rows) + "\n" if form == "mmeb" else "[\n" + ",\n".join(rows) + "\n]\n"
        # A column that nobody reads may hold half a character, which plain UTF-8 cannot carry.
        write_atomically(file, text.encode("utf-8", "backslashreplace"))


def _with_negatives(values: dict[str, Any], negatives: Sequence[dict]) -> dict[str, Any]:
    """A row as it was, with new negatives in its own form."""
    for query, column in (("query", "negatives"), ("sent0", "hard_neg")):
        if query in values:
            return {**values, column: [{"text": entry["text"], "image": entry["image"]} for entry in negatives]}
    texts, images = ([entry[part] or "" for entry in negatives] for part in ("text", "image"))
    return {**values, "neg_text": texts, "neg_image_path": images}


def _published(query: dict, positive: dict, negatives: Sequence[dict]) -> dict[str, Any]:
    """A row in the fields of UniME-V2's training data."""
    return {
        "query_text": query["text"] or "",
        "query_image": query["image"] or "",
        "pos_text": positive["text"] or "",
        "pos_image": positive["image"] or "",
        "hard_negatives": [[entry["text"] or "", entry["image"] or ""] for entry in negatives],
    }
