# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The data set of stage 1: distinct texts as token ids, each with the teacher's vector."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from trainers.data.held_rows import HeldRows, parts_of
from trainers.data.texts import TextFault, texts_of
from trainers.data.tokens import TokenizedTexts
from trainers.teacher_arguments import TeacherArguments, teacher_vectors
from unime.data.bad_rows import BadRows, Place
from unime.distributed import LongWaitGroup

TEXT_COLUMNS = (
    "text texts sentence sentences sent0 sent1 hard_neg sentence1 sentence2 anchor query positive negative negatives "
    "caption captions"
).split()


class TextDataset(Dataset):
    """Token ids of N texts with their teacher's vectors.

    Args:
        tokens: the ids.
        vectors: anything whose `take(rows)` gives (n, D_teacher) float32; None where `add_teacher` follows.
        rows: (N,) row of each text's vector (default: 0 .. N-1).
        texts: what the teacher is given.
    """

    def __init__(
        self, tokens: TokenizedTexts, vectors, rows: Sequence[int] | None = None, texts: Sequence[str] | None = None
    ):
        self.tokens = tokens
        self.vectors = vectors
        self.rows = np.arange(len(tokens)) if rows is None else rows
        self.texts = texts

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray, np.ndarray]:
        return index, self.tokens[index], self.vectors.take(self.rows[index : index + 1])[0]


class ArrayVectors:
    """A teacher's vectors in memory, (N, D)."""

    def __init__(self, vectors: np.ndarray):
        self.array = np.ascontiguousarray(vectors, dtype=np.float32)
        bad = np.flatnonzero(~np.isfinite(self.array).all(axis=1) | ~self.array.any(axis=1))
        if len(bad):
            raise ValueError(f"the teacher's vector of text {bad[0] + 1} is zero or not finite: leave that text out")

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.array[rows]


def held_texts(data: Any, name: str, teacher: Any, columns: Sequence[str] | None, processor, args) -> TextDataset:
    """The data set of texts that the caller already holds, without a teacher's vectors unless the rows have them.

    Raises:
        ValueError, TypeError: data, columns or teacher cannot be used; names them.
    """
    if teacher is None:
        raise ValueError("DistillationTrainer needs a teacher: a model, a file of vectors, or the name of a column")
    if isinstance(data, list | tuple) and data and isinstance(data[0], str):
        data = [{"text": text} for text in data]
    parts = [HeldRows(part, part_name) for part_name, part in parts_of(data, name)]
    column = teacher if isinstance(teacher, str) and teacher in parts[0][0] else None
    texts: dict[str, Any] = {}  # each with its row's vector, where the rows have some
    for rows in parts:
        wanted = text_columns(rows, columns)
        for number, row in enumerate(rows):
            try:
                for text in (text for wanted_column in wanted for text in texts_of(wanted_column, row[wanted_column])):
                    texts.setdefault(text, row[column] if column else None)
            except TextFault as fault:
                BadRows("error").add(Place(rows.name, number + 1), str(fault), "Fill or remove the row.")
    distinct = list(texts)
    tokens = TokenizedTexts.of(processor, distinct, args.max_length, progress=args.process_index == 0)
    if column:
        vectors = ArrayVectors(np.stack([np.asarray(vector, np.float32) for vector in texts.values()]))
        return TextDataset(tokens, vectors)
    return TextDataset(tokens, None, texts=distinct)


def add_teacher(dataset: TextDataset, teacher: Any, args) -> TextDataset:
    """Have the texts of a data set encoded; every rank must call it.

    Raises:
        ValueError, TypeError: the teacher cannot be used; names it.
    """
    if isinstance(teacher, str | Path):
        teacher = TeacherArguments(teacher=str(teacher))
    if isinstance(teacher, TeacherArguments):
        cache = teacher.teacher_cache or Path(args.output_dir, "teacher_vectors")
        found = teacher_vectors(dataset.texts, teacher, cache, str(args.device))
        return TextDataset(dataset.tokens, found, found.rows(dataset.texts))
    if not hasattr(teacher, "encode"):
        raise TypeError(
            f"teacher is a {type(teacher).__name__}; give a model, its name, a file or a column of vectors"
        )
    with LongWaitGroup() as ranks:  # one process encodes for all
        encoded = ranks.broadcast_from_main(lambda: np.asarray(teacher.encode(dataset.texts), np.float32))
    return TextDataset(dataset.tokens, ArrayVectors(encoded))


def text_columns(rows: HeldRows, columns: Sequence[str] | None) -> list[str]:
    """The columns of a data set that hold texts.

    Raises:
        ValueError: one that is asked for is not there, or which ones are meant cannot be told.
    """
    present = list(rows[0])
    if columns is not None:
        absent = [column for column in columns if column not in present]
        if absent:
            raise ValueError(f"{rows.name} has no column {absent[0]!r}; its columns are {', '.join(present)}")
        return list(columns)
    known = [column for column in TEXT_COLUMNS if column in present]
    strings = [column for column, value in rows[0].items() if isinstance(value, str)]
    if known or len(strings) == 1:
        return known or strings
    raise ValueError(
        f"which columns of {rows.name} hold texts? Name them as text_columns; it has {', '.join(present)}"
    )
