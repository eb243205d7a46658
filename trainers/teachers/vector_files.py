# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Texts and their teacher's vectors in Parquet files, as they are shared.

Parquet is compressed in pages: a batch of random rows would decode most of a file in every step. So the vectors of a
run's texts are copied once into one array, whose row i is the vector of text i, and training maps that into memory.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from trainers.data.texts import split_columns
from unime.data.bad_rows import Place
from unime.data.columns import check_columns
from unime.data.rows import expand_source
from unime.distributed import rank
from unime.files import atomic_path, remembered_digest
from unime.store import digest

COLUMNS = ("text", "embedding")
BLOCK_ROWS = 1024  # read or written at a time


def shorten(text: str, length: int = 80) -> str:
    """A text for a message: quoted, and cut if it is long."""
    return repr(text if len(text) <= length else f"{text[:length]}...")


def find_fault(vectors: np.ndarray) -> tuple[int, str] | None:
    """The first of (N, D) vectors that cannot be used, and what is wrong with it."""
    finite, zero = np.isfinite(vectors).all(axis=1), ~vectors.any(axis=1)
    rows = np.flatnonzero(~finite | zero)
    return (int(rows[0]), "all zeros" if zero[rows[0]] else "not finite (NaN or infinity)") if len(rows) else None


def is_list_of(kind: pa.DataType, check=pa.types.is_floating) -> bool:
    """Whether an Arrow type is a list, of fixed length or not, of what `check` takes."""
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and check(kind.value_type)


def as_matrix(lists: pa.Array, places: Sequence[object], dimension: int | None = None) -> np.ndarray:
    """Arrow lists of one length as usable vectors, (n, D) float32; `places` name them in messages."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)  # (n,)
    dimension = dimension or int(lengths[0])
    for row in np.flatnonzero((lengths != dimension) | (lengths == 0))[:1]:
        raise ValueError(f"{places[row]}: a vector of {lengths[row]} dimensions, where others have {dimension}")
    values = pc.list_flatten(lists).to_numpy(zero_copy_only=False)  # a null within becomes NaN
    vectors = values.astype(np.float32).reshape(len(lists), dimension)
    if fault := find_fault(vectors):
        raise ValueError(f"{places[fault[0]]}: the vector is {fault[1]}; compute it again, or leave its text out")
    return vectors


def find_vector_files(source: str) -> "VectorFiles | None":
    """The Parquet files that a teacher's name stands for; None where it does not look like any."""
    path, columns = split_columns(source, COLUMNS)
    folder = Path(path).expanduser()
    files = sorted(folder.glob("*.parquet")) if folder.is_dir() else []
    if not files and not path.lower().endswith(".parquet"):
        return None
    if len(columns) != 2:
        raise ValueError(f"teacher {source} names {len(columns)} columns; 2 are needed, of texts and of vectors")
    files = files or [Path(file) for file in expand_source(path)]
    if not files[0].is_file():
        raise FileNotFoundError(f"teacher {path}: no such file of vectors")
    return VectorFiles(files, columns)


class VectorFiles:
    """Parquet files with a column of texts, of equal ones of which the first counts, and one of vectors, lists of floating
    numbers of any length but zero."""

    def __init__(self, files: Sequence[Path], columns: Sequence[str] = COLUMNS):
        self.files = files
        self.columns = list(columns)

    @cached_property
    def fingerprint(self) -> str:
        """What the vectors depend on."""
        return digest("parquet", [remembered_digest(file) for file in self.files], self.columns)

    def _check_schema(self, schema: pa.Schema, file: Path) -> None:
        check_columns(schema.names, self.columns, str(file))
        texts, vectors = (schema.field(column).type for column in self.columns)
        if not pa.types.is_string(texts) and not pa.types.is_large_string(texts):
            raise ValueError(f"{file}: column {self.columns[0]!r} is of type {texts}, not texts")
        if not is_list_of(vectors):
            raise ValueError(f"{file}: column {self.columns[1]!r} is of type {vectors}, not lists of floating numbers")

    def write_array(self, texts: Sequence[str], path: Path) -> None:
        """Copy the vectors of distinct texts into a .npy file, (len(texts), D) float32, in the order of the texts."""
        absent = {text: row for row, text in enumerate(texts)}
        vectors, dimension = None, None
        with (
            atomic_path(path) as temporary,
            tqdm(total=len(texts), desc="vectors", disable=rank() != 0, delay=2) as bar,
        ):
            for file, start, batch in self._read():
                found = {}  # row of the block -> row of the array
                for row, text in enumerate(batch[0].to_pylist()):
                    place = absent.pop((text or "").strip(), None)  # as the run's texts are read
                    if place is not None:
                        found[row] = place
                if not found:
                    continue
                lists = batch[1].take(pa.array(list(found)))
                places = [Place(str(file), start + row + 1) for row in found]
                block = as_matrix(lists, places, dimension)  # (n, D)
                dimension = dimension or len(lists[0])
                if vectors is None:
                    shape = (len(texts), block.shape[1])
                    vectors = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
                vectors[list(found.values())] = block
                bar.update(len(found))
                if not absent:
                    break
            if absent:
                raise ValueError(
                    f"{self.files[0]}{' and others' if len(self.files) > 1 else ''}: no vectors of {len(absent)} texts of "
                    f"the run, the first {shorten(next(iter(absent)))}; add them to the file, or leave the texts out"
                )
            vectors.flush()

    def _read(self) -> Iterator[tuple[Path, int, pa.RecordBatch]]:
        """Blocks of rows, each with its file and the number of its first row."""
        for file in self.files:
            start = 0
            try:
                with pq.ParquetFile(file, memory_map=True, page_checksum_verification=True) as table:
                    self._check_schema(table.schema_arrow, file)
                    for batch in table.iter_batches(BLOCK_ROWS, columns=self.columns):
                        yield file, start, batch.select(self.columns)
                        start += len(batch)
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"{file}: broken Parquet ({error}); delete it, or fetch it again") from error
