# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The teacher of stage 1: its options, and the one function that gives its vectors for texts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from trainers.data.texts import split_columns
from trainers.teachers import (
    SentenceTransformersTeacher,
    Teacher,
    TeacherVectors,
    VectorFile,
    VectorReader,
    import_parquet,
    load_teacher,
)
from trainers.teachers.folder_teacher import DTYPES
from trainers.teachers.parquet_vectors import COLUMNS
from trainers.teachers.vector_file import SUFFIXES


@dataclass
class TeacherArguments:
    """The text-embedding teacher."""

    teacher: str = field(
        default="all-MiniLM-L6-v2",
        metadata={
            "help": "Text-embedding teacher: folder or Hub name of NV-Embed-v2 or any sentence-transformers model. Or "
            "vectors computed before: a .npy or .safetensors file with one matrix, whose rows are those of the .jsonl "
            "file of the same stem beside it (column text) or else of the run's distinct texts in their order; or "
            ".parquet files (also a glob) with columns text and embedding. FILE::column or FILE::text,vector names "
            "other columns."
        },
    )
    teacher_prompt: str = field(default="", metadata={"help": "Text put before every text for the teacher."})
    teacher_prompt_name: str | None = field(
        default=None, metadata={"help": "Instead of teacher_prompt: the name of one of the model's own prompts."}
    )
    teacher_max_length: int | None = field(
        default=None, metadata={"help": "Tokens the teacher reads of a text. Default: the teacher's own."}
    )
    teacher_truncate_dim: int | None = field(
        default=None,
        metadata={
            "help": "Dimensions kept of the teacher's vectors, which are normalised again; for teachers trained for "
            "that (Matryoshka). Default: all."
        },
    )
    teacher_cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder of the teacher's vectors; runs may share it, and all machines of a run must. Default: "
            "teacher_vectors in output_dir. What is needed of .parquet files is copied there once; a .npy or "
            ".safetensors file is read where it lies."
        },
    )
    teacher_batch_size: int = field(default=64, metadata={"help": "Texts the teacher encodes at a time."})
    teacher_dtype: str = field(
        default="float32", metadata={"help": "Precision of the teacher.", "choices": list(DTYPES)}
    )
    teacher_device: str | None = field(
        default=None, metadata={"help": "Device of the teacher. Default: each process's own."}
    )

    def __post_init__(self):
        if self.teacher_prompt and self.teacher_prompt_name is not None:
            raise ValueError("teacher_prompt and teacher_prompt_name are both given. Give one of them.")
        if self.teacher_truncate_dim is not None and self.teacher_truncate_dim < 1:
            raise ValueError(f"teacher_truncate_dim is {self.teacher_truncate_dim}. It must be at least 1.")
        if self.stored_suffix is not None:
            for name in ("teacher_prompt", "teacher_prompt_name", "teacher_max_length"):
                if getattr(self, name):
                    raise ValueError(f"{name} has no effect on the stored vectors of {self.teacher}. Leave it out.")

    @property
    def stored_suffix(self) -> str | None:
        """ ".npy", ".safetensors" or ".parquet" where the teacher is a file of vectors; None where it is a model."""
        suffix = Path(split_columns(self.teacher, COLUMNS)[0]).suffix.lower()
        return suffix if suffix in (*SUFFIXES, ".parquet") else None


def make_teacher(arguments: TeacherArguments, device: str | None = None) -> Teacher:
    """The model that the options name; its weights are not loaded yet.

    Raises:
        ValueError: an option does not fit the teacher.
        FileNotFoundError: the teacher is not there.
    """
    return load_teacher(
        arguments.teacher,
        prompt=arguments.teacher_prompt,
        prompt_name=arguments.teacher_prompt_name,
        max_length=arguments.teacher_max_length,
        truncate_dim=arguments.teacher_truncate_dim,
        device=arguments.teacher_device or device,
        dtype=arguments.teacher_dtype,
        batch_size=arguments.teacher_batch_size,
    )


def check_teacher(arguments: TeacherArguments) -> None:
    """Refuse a teacher that is not there or cannot be loaded, before any text is read.

    Raises:
        ValueError: an option does not fit the teacher.
        FileNotFoundError: the teacher is not there.
        ImportError: the package that loads it is missing.
    """
    if arguments.stored_suffix is not None:
        path = Path(split_columns(arguments.teacher, COLUMNS)[0])
        if not path.exists() and not any(path.parent.glob(path.name)):
            raise FileNotFoundError(f"teacher {path}: no such file of vectors")
        return
    teacher = make_teacher(arguments)
    # What is in a cache may be all that is needed, and the package was needed only where it was made.
    cache = arguments.teacher_cache
    cached = cache is not None and Path(cache).is_dir() and any(Path(cache).iterdir())
    if isinstance(teacher, SentenceTransformersTeacher) and not cached and find_spec("sentence_transformers") is None:
        raise ImportError(
            f"teacher {arguments.teacher} needs the package sentence-transformers: "
            'pip install -c constraints.txt -e ".[st]"'
        )


def teacher_vectors(
    texts: Sequence[str], arguments: TeacherArguments, cache: str | os.PathLike, device: str
) -> VectorReader:
    """The teacher's vectors of texts, computed where they are missing. Every rank must call it.

    Args:
        texts: the run's.
        arguments: the teacher.
        cache: folder of its vectors.
        device: of this process; `teacher_device` goes before it.

    Returns:
        Vectors of all texts.

    Raises:
        ValueError: the teacher's options or stored vectors do not fit the texts; names the option, text, file or row.
        FileNotFoundError: the teacher is not there.
    """
    if arguments.stored_suffix is None:
        return TeacherVectors.open(cache, make_teacher(arguments, device)).ensure(texts)
    defaults = COLUMNS if arguments.stored_suffix == ".parquet" else COLUMNS[:1]
    source, columns = split_columns(arguments.teacher, defaults)
    if len(columns) != len(defaults):
        raise ValueError(f"teacher {arguments.teacher} names {len(columns)} columns, {len(defaults)} are needed.")
    if arguments.stored_suffix == ".parquet":
        return import_parquet(source, cache, texts, columns, arguments.teacher_truncate_dim)
    return VectorFile.open(source, texts, columns[0], arguments.teacher_truncate_dim)
