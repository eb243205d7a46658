# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A teacher's vectors as a column of a data set; `python -m trainers.encode_texts` does the same for files."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa

from trainers.data.texts import row_texts
from trainers.teachers.load import load_teacher
from trainers.teachers.vectors import teacher_vectors
from unime.distributed import world_size


def encode_teacher(
    dataset: datasets.Dataset,
    teacher: Any,
    text_columns: Sequence[str] | None = None,
    column: str = "embedding",
    cache: str | Path | None = None,
) -> datasets.Dataset:
    """Add a column of a teacher's vectors, which `DistillationTrainer(teacher="embedding")` reads.

    Example::

        from trainers import DistillationTrainer, encode_teacher

        encoded = encode_teacher(texts, "nvidia/NV-Embed-v2")
        trainer = DistillationTrainer(model="my-backbone", train_dataset=encoded, teacher="embedding")

    Equal texts are encoded once. With several ranks every rank must call it, with the same rows and a `cache`.

    Args:
        dataset: with columns of texts or lists of texts.
        teacher: a model's folder or name, a [`Teacher`], a `SentenceTransformer`, or Parquet files; see `load_teacher`.
        text_columns: columns with texts (default: those of a known name, else the only column of texts).
        column: name of the new column (default "embedding"); one of that name is replaced.
        cache: folder in which vectors are kept, so that a call that was interrupted goes on (default: none is).

    Returns:
        The rows in their order. The new column holds a vector of D float32 numbers where each row has one text, else a
        list of vectors, one for each of the row's texts in the order of the columns and of the lists' members.

    Raises:
        TypeError: it is no `datasets.Dataset` or no teacher.
        ValueError: a text or vector cannot be used; names it.
    """
    if not isinstance(dataset, datasets.Dataset):
        raise TypeError(f"dataset is a {type(dataset).__name__}; give a datasets.Dataset")
    if cache is None and world_size() > 1:
        raise ValueError("encode_teacher on several processes needs cache, a folder that all of them see")
    teacher = load_teacher(teacher) if isinstance(teacher, str | Path) else teacher
    rows = row_texts(dataset, "dataset", text_columns)
    number_of: dict[str, int] = {}
    numbers = [number_of.setdefault(text, len(number_of)) for texts in rows for text in texts]
    with contextlib.nullcontext(cache) if cache is not None else tempfile.TemporaryDirectory() as folder:
        vectors = teacher_vectors(list(number_of), teacher, folder)
        if cache is None or len(numbers) != len(vectors):  # else they stay on disk
            vectors = vectors[numbers]  # (T, D)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(vectors)), vectors.shape[1])
    counts = [len(texts) for texts in rows]
    if max(counts) > 1:
        lists = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32()), lists)
    rest = dataset.remove_columns([column]) if column in dataset.column_names else dataset
    return datasets.concatenate_datasets([rest, datasets.Dataset(pa.table({column: lists}))], axis=1)
