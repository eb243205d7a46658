# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Hard negatives for rows in memory; `python -m trainers.mine_negatives` does the same for files that need days."""

import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets

from evaluation.encoder import Encoder
from evaluation.run import make_encoder
from trainers.data.held_rows import hold_rows
from trainers.mining.arguments import MiningArguments
from trainers.mining.neighbours import find_neighbours
from trainers.mining.pool import Pool
from trainers.mining.selection import Selector
from trainers.mining.vectors import encode_contents
from unime.data.example import Example
from unime.shards import Shards

COLUMNS = {"query": "negatives", "sent0": "hard_neg"}  # by the column of the queries, that of the negatives
OF_FILES = frozenset(
    "model data output candidates image_root max_rows_per_source image_check on_bad_row format cache "
    "expected_world_size".split()
)


def mine_hard_negatives(
    dataset: datasets.Dataset, model: Any, processor: Any = None, *, num_negatives: int = 8, **options: Any
) -> datasets.Dataset:
    """Find each row's most similar candidates that are not right: among the positives of all rows, pictures too.

    Left out are the row's own positive, what any row calls a positive of the same query, and what exceeds the positive's
    similarity by `false_negative_margin` (UniME, arXiv 2504.17432, Eq. 3).

    Example:
        >>> from trainers import mine_hard_negatives
        >>> mined = mine_hard_negatives(dataset, "my-stage1", num_negatives=4)      # doctest: +SKIP
        >>> HardNegativeTrainer(model="my-stage1", train_dataset=mined)             # doctest: +SKIP

    Args:
        dataset: columns `query`, `positive` (and `instruction`, `source`), or `sent0`, `sent1`; see `unime.data.forms`.
        model: folder or Hub name of a UniME model, a multimodal LLM or CLIP, or a loaded model.
        processor: of a loaded model.
        num_negatives: wanted for each row; one has fewer where fewer are left.
        options: of the command that are not about files: `false_negative_margin`, `max_similarity`, `min_similarity`,
            `rank_from`, `rank_to`, `sampling`, `step`, `seed`, `pool`, `backend`, `batch_size`, `device`, `dtype`, ...

    Returns:
        The rows in their order with the negatives in place of any that they had, the most similar first: texts, or, where any
        positive has a picture, dicts of `text` and `image`.

    Raises:
        TypeError: it is no `datasets.Dataset`, or an option is not known.
        ValueError: rows or options cannot be used; names them.
    """
    if not isinstance(dataset, datasets.Dataset):
        raise TypeError(f"dataset is a {type(dataset).__name__}; give a datasets.Dataset")
    column = next((COLUMNS[name] for name in COLUMNS if name in dataset.column_names), None)
    if column is None:
        raise ValueError(f"dataset has no column {' or '.join(COLUMNS)}; it has {', '.join(dataset.column_names)}")
    known = {entry.name for entry in fields(MiningArguments)} - OF_FILES
    if unknown := sorted(options.keys() - known):
        raise TypeError(f"mine_hard_negatives has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")
    name = model if isinstance(model, str | Path) else ""
    options = {"step": 1, "rank_to": max(50, num_negatives), **options}
    arguments = MiningArguments(str(name), data=[], output="", num_negatives=num_negatives, **options)

    pool = Pool(hold_rows(dataset, "dataset"))
    encoder = make_encoder(arguments) if name else Encoder(model, processor, arguments.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(Path(folder))
        vectors = tuple(
            encode_contents(kind, contents, digests, None, shards, arguments.shard_size, lambda: encoder)
            for kind, contents, digests in (
                ("queries", pool.queries, pool.query_digests),
                ("candidates", pool.candidates, pool.candidate_digests),
            )
        )
        selector = Selector(pool, arguments, None, 0.0)
        lines = pool.dataset.table["line"].to_numpy()
        mined: list[list[Example]] = [[] for _ in range(len(dataset))]
        for search in pool.searches(by_source=arguments.pool == "source"):
            for part in find_neighbours(pool, search, vectors, None, arguments, shards):
                for row, negatives in zip(part.rows, selector.select(part), strict=True):
                    mined[lines[row] - 1] = [pool.candidates[number] for number in negatives.candidates]
    rest = dataset.remove_columns([column]) if column in dataset.column_names else dataset
    return datasets.concatenate_datasets([rest, _as_column(column, mined)], axis=1)


def _as_column(column: str, mined: list[list[Example]]) -> datasets.Dataset:
    """The negatives of all rows as a data set of one column."""
    text = datasets.Value("string")
    if not any(example.image for examples in mined for example in examples):
        values = [[example.text for example in examples] for examples in mined]
        return datasets.Dataset.from_dict({column: values}, datasets.Features({column: datasets.List(text)}))
    values = [[{"text": example.text, "image": example.open()} for example in examples] for examples in mined]
    value = {"text": text, "image": datasets.Image()}
    return datasets.Dataset.from_dict({column: values}, datasets.Features({column: datasets.List(value)}))
