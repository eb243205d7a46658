# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Teacher vectors that somebody has computed before: one matrix in a .npy or .safetensors file, read where it lies.

Which row belongs to which text is told by a JSON-Lines file of the same stem beside it. Without one, the rows are those
of the run's distinct texts in their order, and there must be exactly as many.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from trainers.teachers.vector_arrays import TeacherVectorsError, Vectors, truncate, unit_length
from trainers.teachers.vector_reader import VectorReader, text_keys
from unime.data.bad_rows import BadRows
from unime.data.columns import text_fault
from unime.data.rows import read_rows
from unime.distributed import rank

logger = logging.getLogger(__name__)

SUFFIXES = (".npy", ".safetensors")


def _read_npy(file: Path) -> np.ndarray:
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _read_safetensors(file: Path) -> Vectors:
    with safe_open(file, framework="pt") as stored:  # torch, because numpy has no bfloat16; on the CPU a memory map
        names = list(stored.keys())
        if len(names) != 1:
            raise TeacherVectorsError(
                f"{file}: holds {len(names)} tensors ({', '.join(names[:5])}). It must hold one."
            )
        return stored.get_tensor(names[0])


def _map_matrix(file: Path) -> Vectors:
    """Memory map of the matrix in a file.

    Raises:
        TeacherVectorsError: the file cannot be read, or holds something else than one matrix of floating numbers.
    """
    read = {".npy": _read_npy, ".safetensors": _read_safetensors}[file.suffix.lower()]
    try:
        matrix = read(file)
    except (EOFError, OSError, SafetensorError, ValueError) as error:
        if isinstance(error, TeacherVectorsError | FileNotFoundError):
            raise
        raise TeacherVectorsError(f"{file}: cannot be read ({error}). Write it again.") from error
    shape, dtype = tuple(matrix.shape), str(matrix.dtype)
    if len(shape) != 2 or 0 in shape or "float" not in dtype:
        raise TeacherVectorsError(
            f"{file}: an array of shape {shape} and type {dtype}. Vectors must be rows of one matrix (texts, dimensions) "
            "of floating numbers."
        )
    return matrix


def _stored_texts(file: Path, column: str) -> Iterator[str]:
    """Texts of a JSON-Lines file, without surrounding white space, as `trainers.data.texts` reads the run's."""
    bad_rows = BadRows("error")
    for row in read_rows(str(file), bad_rows, [column]):
        fault = text_fault(row.values[column])
        if fault:
            bad_rows.add(row.place, f"column {column!r} {fault}", "Every vector needs its text.")
        yield row.values[column].strip()


class VectorFile(VectorReader):
    """Vectors of a .npy or .safetensors file, by text. Make it with `VectorFile.open`.

    They are read by memory map, cut to `truncate_dim` and normalised when they are taken.

    Example:
        >>> vectors = VectorFile.open("vectors.npy", texts)  # doctest: +SKIP
        >>> vectors.take(vectors.rows(texts[:32])).shape  # doctest: +SKIP
        (32, 4096)
    """

    absent_mend = "Add its vector to the file, or leave the text out."
    bad_mend = "Compute this vector again, or leave the text out."

    def __init__(self, file: Path, truncate_dim: int | None):
        super().__init__(file)
        self._truncate_dim = truncate_dim

    @classmethod
    def open(
        cls, file: str | Path, texts: Sequence[str], text_column: str = "text", truncate_dim: int | None = None
    ) -> "VectorFile":
        """Open a file, and check every vector in it.

        Args:
            file: a .npy file, or a .safetensors file with one tensor: N rows, of any floating type and any length.
            texts: the run's, for a file without texts of its own.
            text_column: of the JSON-Lines file beside it, which has one line per row, in their order. Of equal texts
                the first counts.
            truncate_dim: dimensions kept, None for all; see `truncate`.

        Returns:
            The vectors. One that is not finite or zero is an error only if its text is asked for.

        Raises:
            FileNotFoundError: there is no such file.
            TeacherVectorsError: the file cannot be used, or its rows are not as many as the texts.
        """
        file = Path(file).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file. Check the path of the teacher's vectors.")
        vectors = cls(file, truncate_dim)
        vectors._add(file, vectors._map(file))
        beside = file.with_suffix(".jsonl")
        keys = text_keys(_stored_texts(beside, text_column) if beside.is_file() else dict.fromkeys(texts))  # (texts,)
        if len(keys) != len(vectors):
            example = json.dumps({text_column: "..."})
            raise TeacherVectorsError(
                f"{file}: {len(vectors)} vectors, but {beside} has {len(keys)} texts. Write one line per vector."
                if beside.is_file()
                else f"{file}: {len(vectors)} vectors, but the run has {len(keys)} distinct texts. Vectors without "
                f"texts of their own must be those of the run, one for each. Or write {beside} with one line "
                f"{example} per vector."
            )
        if not beside.is_file() and rank() == 0:
            logger.warning(f"{file}: its rows are taken as those of the run's texts, in their order")
        vectors._index(keys)
        return vectors

    def _map(self, file: Path) -> Vectors:
        return truncate(_map_matrix(file), self._truncate_dim, file)

    def take(self, rows: np.ndarray) -> np.ndarray:
        return unit_length(super().take(rows))
