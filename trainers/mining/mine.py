# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Hard negatives of every row: encode, search, ask the judge, choose. What is costly is kept in pieces."""

import uuid
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa

from evaluation.arguments import EncoderArguments
from evaluation.encoder import BaseEncoder, Encoder, pick_device
from evaluation.encoders import encoder_identity, make_encoder
from trainers.data.held_rows import hold_rows, is_plain
from trainers.mining.judge import Judge, JudgeOptions
from trainers.mining.neighbours import Found, find_neighbours
from trainers.mining.options import MiningOptions
from trainers.mining.pool import Pool
from trainers.mining.selection import Mined, in_range, select
from unime.data.example import Example
from unime.store import Store, key_of

# By the column of the queries, those of the positives and of the negatives.
COLUMNS = {
    "query": {"positive": "negatives"},
    "sent0": {"sent1": "hard_neg"},
    "qry": {"pos_text": "neg_text", "pos_image_path": "neg_image_path"},
}
ROWS_AT_A_TIME = 256  # whose negatives, pictures among them, are in memory


def mine_hard_negatives(
    dataset: datasets.Dataset,
    model: Any,
    processor: Any = None,
    *,
    num_negatives: int = 8,
    range_min: int = 0,
    range_max: int | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    absolute_margin: float | None = -0.1,
    relative_margin: float | None = None,
    sampling_strategy: Literal["top", "step", "random"] = "top",
    step: int = 5,
    seed: int = 0,
    pool: Literal["all", "source"] = "all",
    judge: str | Path | Judge | None = None,
    judge_margin: float = 0.01,
    batch_size: int = 32,
    cache_folder: str | Path | None = None,
) -> datasets.Dataset:
    """Find each row's most similar candidates that are not right, among the positives of all rows, pictures too.

    Example::

        from unime import mine_hard_negatives
        mined = mine_hard_negatives(dataset, model, processor, num_negatives=2)
        mined[0]["negatives"]

    The options are named as in `sentence_transformers.util.mine_hard_negatives`, which knows texts only. Left out are the
    row's own positive, what any row calls a positive of the same query, the query itself, and what the margins and scores
    say. Equal texts with equal pictures are one candidate. The processes of a run (torchrun) share the work.

    Args:
        dataset: columns `query`, `positive` (and `instruction`, `source`); `sent0`, `sent1`; or MMEB's (`qry`, ...). A value
            is a text, a picture (PIL, path, bytes, `datasets.Image`), or a dict of `text` and `image`; see `unime.data.forms`.
        model: folder or Hub name of a UniME model, a multimodal LLM or CLIP; a loaded model; or an `Encoder`, for other than
            its default device, type or length.
        processor: of a loaded model.
        num_negatives: wanted for each row; one has fewer where fewer are left.
        range_min: so many of the most similar candidates that are not left out are skipped.
        range_max: the last rank that counts (default 50, or what `num_negatives` needs).
        max_score: a candidate whose cosine is greater is left out.
        min_score: a candidate whose cosine is smaller is left out.
        absolute_margin: a candidate's cosine must be below the positive's by this; the default allows it 0.1 above (UniME,
            arXiv 2504.17432, Eq. 3). None: no limit.
        relative_margin: the same as a share of the positive's cosine.
        sampling_strategy: of the ranks, "top" takes the first; "step" every `step`-th, beginning anew with the second
            (UniME-V2); "random" a random choice by `seed`.
        step: see `sampling_strategy`.
        seed: see `sampling_strategy`.
        pool: "source" searches each row among the positives of its own `source`.
        judge: folder or Hub name of a multimodal chat model, or a `Judge`, which is asked whether a candidate meets the
            query (UniME-V2, arXiv 2510.13515); what it affirms is left out. Its scores become the columns
            `query_pos_scores` and `hard_negatives_scores`.
        judge_margin: a candidate is left out when its score, 0 to 1, exceeds the positive's less this.
        batch_size: examples of a forward pass.
        cache_folder: where vectors and scores are kept in pieces, so that a run that was stopped goes on; needs the model by
            folder or name. None: nothing is kept.

    Returns:
        The rows in their order with the negatives in place of any that they had, the most similar first, as a list of values
        of the positive's form: column `negatives` (`hard_neg` beside `sent0`, MMEB's beside `qry`).

    Raises:
        TypeError: it is no `datasets.Dataset`.
        ValueError: rows or options cannot be used; names them.
    """
    options = MiningOptions(
        num_negatives=num_negatives,
        range_min=range_min,
        range_max=range_max,
        absolute_margin=absolute_margin,
        relative_margin=relative_margin,
        max_score=max_score,
        min_score=min_score,
        sampling_strategy=sampling_strategy,
        step=step,
        seed=seed,
        pool=pool,
        judge_margin=judge_margin,
    )
    if not isinstance(dataset, datasets.Dataset):
        raise TypeError(f"dataset is a {type(dataset).__name__}; give a datasets.Dataset")
    if not is_plain(dataset):  # what a transform makes of the rows is what counts
        dataset = datasets.Dataset.from_list(list(dataset))
    columns = next((COLUMNS[name] for name in COLUMNS if name in dataset.column_names), None)
    if columns is None:
        raise ValueError(f"dataset has no column {' or '.join(COLUMNS)}; it has {', '.join(dataset.column_names)}")
    if isinstance(model, str | Path):
        arguments = EncoderArguments(str(model), batch_size=batch_size)
        load_encoder, device, identity = partial(make_encoder, arguments), "auto", encoder_identity(arguments)
    else:
        encoder = model if isinstance(model, BaseEncoder) else Encoder(model, processor, batch_size)
        load_encoder, device, identity = lambda: encoder, str(getattr(encoder, "device", "auto")), None
        if cache_folder is not None:
            raise ValueError(
                "cache_folder keeps vectors by the files of the model: give its folder or name instead of it"
            )
    if judge is not None and not isinstance(judge, Judge):
        judge = Judge(JudgeOptions(judge=str(judge)))
    rows = Pool(hold_rows(dataset, "dataset"))
    mined = mine(rows, load_encoder, options, device, judge, *open_stores(cache_folder, identity, judge))
    return _with_negatives(dataset, columns, rows, mined)


def open_stores(folder: str | Path | None, identity: object, judge: Judge | None) -> tuple[Store, Store]:
    """Where the vectors of an encoder of this identity, and the scores of a judge, are kept."""
    return Store(folder, identity), Store(folder, judge and judge.identity())


def mine(
    pool: Pool,
    load_encoder: Callable[[], BaseEncoder],
    options: MiningOptions,
    device: str,
    judge: Judge | None,
    vectors: Store,
    scores: Store,
    shard_size: int = 4096,
) -> Mined:
    """Mine the rows of a pool; all processes of a run call it, and share what is kept in the stores."""
    for search in pool.searches(by_source=options.pool == "source"):
        if len(search.candidates) <= options.range_min + 1:
            source = pool.dataset.sources[pool.sources[search.rows[0]]]
            raise ValueError(
                f"{source.file}: {len(search.candidates)} distinct candidates, a row's own positive among them, leave nothing "
                f"after the first {options.range_min}. Lower range_min, add candidates, search pool all, or leave the source out."
            )
    found = find_neighbours(pool, _encode(pool, load_encoder, vectors, shard_size), options, pick_device(device))
    judged = None if judge is None else _judge(pool, found, judge, options, scores, shard_size)
    return select(pool, found, judged, options)


def _encode(
    pool: Pool, load_encoder: Callable[[], BaseEncoder], store: Store, shard_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of queries and candidates. The model is loaded if some are missing, and let go of afterwards."""

    @cache
    def encoder() -> BaseEncoder:
        loaded = load_encoder()
        loaded.check(pool.queries, "queries")
        loaded.check(pool.candidates, "candidates")
        return loaded

    def encode(what: str, examples: Sequence[Example], keys: Sequence[bytes]) -> np.ndarray:
        def compute(part: Sequence[int]) -> np.ndarray:
            vectors = encoder().encode([examples[i] for i in part], what)  # (n, D)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

        # The costliest first: pieces of like work, which pad little, and memory runs out at once if it does.
        order = sorted(range(len(examples)), key=lambda i: examples[i].cost, reverse=True)
        store.ensure(keys, order, shard_size, compute, what)
        return store.read(keys)

    return encode("queries", pool.queries, pool.query_keys), encode("candidates", pool.candidates, pool.candidate_keys)


def _judge(
    pool: Pool, found: Found, judge: Judge, options: MiningOptions, store: Store, shard_size: int
) -> np.ndarray:
    """The judge's scores of each row's positive and neighbours, (n, 1 + k), NaN where it has no say; each distinct pair is
    judged once."""
    candidates = pool.positive_of_row[np.concatenate([found.rows[:, None], found.neighbours], axis=1)]  # (n, 1 + k)
    asked = np.pad(in_range(found, options), ((0, 0), (1, 0)), constant_values=True)
    numbers = pool.query_of_row[found.rows][:, None] * len(pool.candidates) + candidates
    distinct, place = np.unique(numbers[asked], return_inverse=True)
    pairs = list(zip(*np.divmod(distinct, len(pool.candidates)), strict=True))  # (P,)

    def compute(part: Sequence[int]) -> np.ndarray:
        chosen = [pairs[number] for number in part]
        return judge.scores([(pool.queries[query], pool.candidates[candidate]) for query, candidate in chosen])

    keys = [key_of(pool.query_keys[query], pool.candidate_keys[candidate]) for query, candidate in pairs]
    scores = np.full(asked.shape, np.nan, np.float32)
    store.ensure(keys, range(len(pairs)), shard_size, compute, "scores")
    scores[asked] = store.read(keys)[place]
    return scores


def _with_negatives(dataset: datasets.Dataset, columns: dict[str, str], pool: Pool, mined: Mined) -> datasets.Dataset:
    """The data set with lists of the values that the negatives have as positives."""
    row_of = pool.dataset.table["line"].to_numpy() - 1  # in the data set, by that of the pool
    negatives = np.full_like(mined.negatives, -1)
    negatives[row_of[mined.rows]] = np.where(mined.negatives < 0, -1, row_of[mined.negatives])
    values = dataset.select_columns(list(columns)).with_format("arrow")
    features = {new: datasets.List(dataset.features[old]) for old, new in columns.items()}

    def take(_: Any, rows: list[int]) -> pa.Table:
        chosen = negatives[rows]
        offsets = np.concatenate([[0], (chosen >= 0).sum(axis=1).cumsum()]).astype(np.int32)
        found = values[chosen[chosen >= 0].tolist()]
        lists = [pa.ListArray.from_arrays(offsets, found[old].combine_chunks()) for old in columns]
        return pa.table(lists, names=list(columns.values()))

    lists = dataset.with_format("arrow").map(
        take,
        with_indices=True,
        batched=True,
        batch_size=ROWS_AT_A_TIME,
        remove_columns=dataset.column_names,
        features=datasets.Features(features),
        new_fingerprint=uuid.uuid4().hex,
        desc="negatives",
    )
    if mined.scores is not None:
        order = row_of[mined.rows].argsort()
        scores = [row[~np.isnan(row)].tolist() for row in mined.scores[order]]
        lists = lists.add_column("query_pos_scores", [row[0] for row in scores])
        lists = lists.add_column("hard_negatives_scores", [row[1:] for row in scores])
    rest = dataset.remove_columns([name for name in lists.column_names if name in dataset.column_names])
    return datasets.concatenate_datasets([rest, lists.with_format(None)], axis=1)
