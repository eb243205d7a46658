# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The data set of stage 1: distinct texts as token ids, each with the teacher's vector.

Texts are tokenised once per run instead of in every step, with the processor's prompt. The ids of all lie in one Arrow
array of int32: a million texts of 30 tokens take 120 MB, which DataLoader workers share.
"""

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from modeling_unime import UniMEProcessor
from trainers.data.held_rows import HeldRows, is_plain, parts_of
from trainers.data.texts import row_texts
from trainers.teachers.vector_files import as_matrix, is_list_of
from unime.data.bad_rows import Place

BLOCK = 1024  # texts tokenised, or rows read, at a time


class TextDataset(Dataset):
    """Token ids of N texts, the texts, and the teacher's vectors of them, (N, D_teacher) float32, once it has encoded."""

    def __init__(self, tokens: pa.LargeListArray, vectors: np.ndarray | None, texts: Sequence[str] = ()):
        self.tokens = tokens
        self.vectors = vectors
        self.texts = texts

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray, np.ndarray]:
        return index, self.tokens[index].values.to_numpy(), np.asarray(self.vectors[index])

    def __getstate__(self) -> dict:
        """Another process maps the file itself: pickled, a memory map would be copied as a whole."""
        mapped = isinstance(self.vectors, np.memmap)
        return {**self.__dict__, "vectors": str(self.vectors.filename) if mapped else self.vectors}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        if isinstance(self.vectors, str):
            self.vectors = np.load(self.vectors, mmap_mode="r")


def make_text_dataset(
    data: Any, name: str, teacher: Any, text_columns: Sequence[str] | None, processor: UniMEProcessor, args
) -> TextDataset:
    """The data set of rows with texts, of which equal ones count once; without vectors unless the rows have them."""
    if teacher is None:
        raise ValueError("DistillationTrainer needs a teacher: a model, a file of vectors, or the name of a column")
    if isinstance(data, list | tuple) and data and isinstance(data[0], str):
        data = [{"text": text} for text in data]
    parts = parts_of(data, name)
    has_vectors = isinstance(teacher, str) and teacher in HeldRows(parts[0][1], name).columns
    first: dict[str, int] = {}  # each distinct text with its number among all
    count, matrices = 0, []
    for part_name, rows in parts:
        held = row_texts(rows, part_name, text_columns)
        if has_vectors:
            matrices.append(column_vectors(rows, part_name, teacher, [len(texts) for texts in held]))
        for texts in held:
            for number, text in enumerate(texts, start=count):
                first.setdefault(text, number)
            count += len(texts)
    distinct = list(first)
    tokens = tokenize(processor, distinct, args.max_length, progress=args.process_index == 0)
    return TextDataset(tokens, np.concatenate(matrices)[list(first.values())] if has_vectors else None, distinct)


def column_vectors(rows: Any, name: str, column: str, counts: Sequence[int]) -> np.ndarray:
    """A column's vectors, (sum of counts, D) float32: one vector, or a list of them, for each row's `counts` texts."""
    if not is_plain(rows):
        rows = datasets.Dataset.from_list([{column: rows[number][column]} for number in range(len(rows))])
    kind = rows.with_format("arrow")[:1][column].type
    nested = is_list_of(kind, is_list_of)
    if not nested and not is_list_of(kind):
        raise ValueError(f"{name}: column {column!r} is of type {kind}, not lists of floating numbers")
    matrices, start, dimension = [], 0, None
    for table in rows.select_columns([column]).with_format("arrow").iter(batch_size=BLOCK):
        lists = table[column].combine_chunks()
        lengths = np.ones(len(lists), int)
        if nested:
            lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
            lists = pc.list_flatten(lists)
        for row in np.flatnonzero(lengths != counts[start : start + len(lengths)])[:1]:
            raise ValueError(
                f"{Place(name, start + int(row) + 1)}: {counts[start + row]} texts, but {lengths[row]} vectors in column "
                f"{column!r}"
            )
        numbers = np.repeat(np.arange(start, start + len(lengths)), lengths)
        matrices.append(as_matrix(lists, [Place(name, number + 1) for number in numbers], dimension))
        dimension = matrices[0].shape[1]
        start += len(lengths)
    return np.concatenate(matrices)


def tokenize(
    processor: UniMEProcessor, texts: Sequence[str], max_length: int | None = None, progress: bool = True
) -> pa.LargeListArray:
    """Token ids of texts, each in the processor's prompt: "Summary above sentence in one word:"."""
    ids, lengths = [], []
    for start in tqdm(range(0, len(texts), BLOCK), desc="tokens", unit="block", disable=not progress, delay=2):
        rows = _token_ids(processor, list(texts[start : start + BLOCK]), max_length)
        ids.append(np.array([token for row in rows for token in row], np.int32))
        lengths += map(len, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.concatenate(ids)))


def _token_ids(processor: UniMEProcessor, texts: list[str], max_length: int | None) -> list[list[int]]:
    """Ids of a block of texts; where one of them fails, the error says which."""
    for text in texts:
        if not processor.clean(text):  # who encodes gets the vector of the prompt, but nobody learns from it
            raise ValueError(f"the text {text[:80]!r} cannot be trained on: it is empty or nothing but image tokens")
    try:
        return processor.token_ids(texts, max_length=max_length)
    except ValueError:
        for text in texts:
            try:
                processor.token_ids([text], max_length=max_length)
            except ValueError as error:
                raise ValueError(f"the text {text[:80]!r} cannot be tokenised: {error}") from error
        raise
