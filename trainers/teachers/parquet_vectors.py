# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Teacher vectors in Parquet files, the form in which they are shared: a column of texts, a column of vectors.

Parquet is compressed in pages and cannot be read by memory map; a batch of random rows would decode most of the file
in every step. So the vectors that a run needs are copied once into its store, from which training reads.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from tqdm.auto import tqdm

from trainers.teachers.vector_arrays import TeacherVectorsError, find_faults, truncate, unit_length
from trainers.teachers.vector_reader import VectorReader, shorten
from trainers.teachers.vector_store import SHARD_SIZE, TeacherVectors, file_hash
from unime.data.bad_rows import Place
from unime.data.columns import check_columns
from unime.data.rows import expand_source
from unime.distributed import LongWaitGroup
from unime.files import atomic_path

COLUMNS = ("text", "embedding")
BLOCK_ROWS = 1024  # read or written at a time
MEND = "Compute this vector again, or leave its text out."
LIST_TYPES = (pyarrow.ListType, pyarrow.LargeListType, pyarrow.FixedSizeListType)


def import_parquet(
    source: str,
    folder: str | os.PathLike,
    texts: Sequence[str],
    columns: Sequence[str] = COLUMNS,
    truncate_dim: int | None = None,
    progress: bool = True,
) -> TeacherVectors:
    """Bring the vectors of texts from Parquet files into a store. With several ranks every rank must call it.

    Args:
        source: a .parquet file, or a glob pattern.
        folder: the store, see `TeacherVectors.open`. What it has of these files is not read again.
        texts: any texts; all must be in the files. Of equal ones in the files the first counts.
        columns: of the texts, and of the vectors: lists of floating numbers, of any length but zero.
        truncate_dim: dimensions kept, None for all; see `truncate`.
        progress: show a bar, on rank 0.

    Returns:
        The store, opened without a teacher.

    Raises:
        FileNotFoundError: there is no such file.
        SourceError: a file has no such column.
        TeacherVectorsError: a file is broken, a vector cannot be used (names its row), or a text has no vector.
    """
    files = [Path(file) for file in expand_source(source)]
    if not files[0].is_file():
        raise FileNotFoundError(f"{source}: no such file. Check the path of the teacher's vectors.")
    with LongWaitGroup() as ranks:
        hashes = ranks.broadcast_from_main(lambda: [file_hash(file) for file in files])
        facts = {"kind": "parquet", "files": hashes, "columns": list(columns), "truncate_dim": truncate_dim}
        store = TeacherVectors.open(folder, json.dumps(facts, ensure_ascii=False))
        ranks.broadcast_from_main(lambda: _copy(files, columns, truncate_dim, store, texts, progress))
    return store.see(texts)


def _copy(
    files: list[Path],
    columns: Sequence[str],
    truncate_dim: int | None,
    store: TeacherVectors,
    texts: Sequence[str],
    progress: bool,
) -> None:
    """Write the vectors that the store lacks, shard by shard."""
    wanted = set(store.missing(texts))
    if not wanted:
        return
    held: list[tuple[list[str], np.ndarray]] = []  # texts and their vectors, for the next shard

    def write() -> None:
        if held:
            store.write([text for part, _ in held for text in part], np.concatenate([part for _, part in held]))
            held.clear()

    with tqdm(total=len(wanted), desc="Vectors", unit=" texts", disable=not progress) as bar:
        for found, vectors in _read(files, columns, truncate_dim, wanted):
            held.append((found, unit_length(vectors)))
            bar.update(len(found))
            if sum(len(part) for part, _ in held) >= SHARD_SIZE:
                write()
        write()
    if wanted:
        first = next(text for text in texts if text in wanted)
        raise TeacherVectorsError(
            f"{files[0]}{' and others' if len(files) > 1 else ''}: no vectors of {len(wanted)} texts of the run, the "
            f"first {shorten(first)}. Add them to the file, or leave the texts out."
        )


def _read(
    files: list[Path], columns: Sequence[str], truncate_dim: int | None, wanted: set[str]
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Some of the wanted texts with their vectors (n, D) float32. A text that was found is wanted no more."""
    dimension = None
    for file in files:
        try:
            with pyarrow.parquet.ParquetFile(file, memory_map=True) as table:
                _check_schema(table.schema_arrow, columns, file)
                start = 0
                for batch in table.iter_batches(BLOCK_ROWS, columns=list(columns)):
                    found: dict[str, int] = {}  # text -> row of the batch
                    for row, text in enumerate(batch[columns[0]].to_pylist()):
                        text = (text or "").strip()  # as the run's texts are read
                        if text in wanted:
                            wanted.discard(text)
                            found[text] = row
                    if found:
                        places = [Place(str(file), start + row + 1) for row in found.values()]
                        vectors = _matrix(batch[columns[1]].take(pyarrow.array(found.values())), places, dimension)
                        dimension = vectors.shape[1]
                        vectors = truncate(vectors, truncate_dim, file)
                        for row, fault in find_faults(vectors).items():
                            raise TeacherVectorsError(f"{places[row]}: the vector is {fault}. {MEND}")
                        yield list(found), vectors
                    if not wanted:
                        return
                    start += len(batch)
        except (pyarrow.ArrowException, OSError) as error:
            raise TeacherVectorsError(f"{file}: broken Parquet ({error}). Fetch the file again.") from error


def _check_schema(schema: pyarrow.Schema, columns: Sequence[str], file: Path) -> None:
    check_columns(schema.names, columns, str(file))
    types = [schema.field(column).type for column in columns]
    if not isinstance(types[1], LIST_TYPES) or not pyarrow.types.is_floating(types[1].value_type):
        raise TeacherVectorsError(
            f"{file}: column {columns[1]!r} is of type {types[1]}, not lists of floating numbers."
        )
    if not pyarrow.types.is_string(types[0]) and not pyarrow.types.is_large_string(types[0]):
        raise TeacherVectorsError(f"{file}: column {columns[0]!r} is of type {types[0]}, not texts.")


def _matrix(lists: pyarrow.Array, places: list[Place], dimension: int | None) -> np.ndarray:
    """Lists of one length as (n, D) float32."""
    lengths = pyarrow.compute.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)  # (n,)
    dimension = dimension or int(lengths[0])
    for row in np.flatnonzero((lengths != dimension) | (lengths == 0)):
        raise TeacherVectorsError(
            f"{places[row]}: a vector of {lengths[row]} dimensions, where others have {dimension}. {MEND}"
        )
    values = pyarrow.compute.list_flatten(lists).to_numpy(zero_copy_only=False)  # a null within becomes NaN
    return values.astype(np.float32).reshape(len(lists), dimension)


def export_parquet(path: str | os.PathLike, texts: Sequence[str], vectors: VectorReader) -> Path:
    """Write texts and their vectors as a Parquet file that `import_parquet` reads.

    Args:
        path: the file to make or replace.
        texts: any texts that have vectors; equal ones are written once.
        vectors: where they are.

    Returns:
        The path written.
    """
    texts = list(dict.fromkeys(texts))
    rows = vectors.rows(texts)
    types = (pyarrow.string(), pyarrow.list_(pyarrow.float32(), vectors.dimension))
    schema = pyarrow.schema(list(zip(COLUMNS, types, strict=True)))
    with (
        atomic_path(path) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, schema, use_dictionary=False) as writer,
    ):
        for start in range(0, len(texts), BLOCK_ROWS):
            block = vectors.take(rows[start : start + BLOCK_ROWS])  # (n, D)
            lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(block.ravel()), vectors.dimension)
            writer.write_table(pyarrow.table([texts[start : start + BLOCK_ROWS], lists], schema=schema))
    return Path(path)
