# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""From a name to a teacher, and the options of the commands that need one."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainers.teachers.folder_teacher import DTYPES, find_teacher_folder
from trainers.teachers.nv_embed_teacher import MODEL_TYPE, NVEmbedTeacher
from trainers.teachers.sentence_transformers_teacher import SentenceTransformersTeacher
from trainers.teachers.teacher import Teacher
from trainers.teachers.vector_files import VectorFiles, find_vector_files
from unime.model_files import read_model_type


def load_teacher(path_or_name: str | Path, **options: Any) -> Teacher | VectorFiles:
    r"""A teacher for a folder or a name on the Hub, or for vectors in Parquet files.

    Example::

        from trainers.teachers import load_teacher

        teacher = load_teacher("nvidia/NV-Embed-v2", prompt="Instruct: Retrieve similar text.\nQuery: ", device="cpu")
        vectors = teacher.encode(["a dog", "a puppy"])  # (2, D)

    Args:
        path_or_name: NV-Embed-v2, any model of sentence-transformers, or Parquet files: one, a folder with some, or a
            pattern, with the columns "text" and "embedding" or those named as "FILE::text,vector".
        options: `prompt`, `max_length`, `device`, `dtype`, `batch_size`; see
            `trainers.teachers.folder_teacher.FolderTeacher`. Stored vectors have none.

    Returns:
        The teacher; its weights are not loaded yet.

    Raises:
        ValueError: an option does not fit the teacher.
        FileNotFoundError: the teacher is not there.
    """
    name = str(path_or_name)
    files = find_vector_files(name)
    if files is not None:
        for option in ("prompt", "max_length"):
            if options.get(option):
                raise ValueError(f"teacher {option} has no effect on the stored vectors of {name}; leave it out")
        return files
    if Path(name).is_file():
        raise ValueError(f"teacher {name}: vectors are read from .parquet files, with columns text and embedding")
    model_type = read_model_type(find_teacher_folder(name))
    return (NVEmbedTeacher if model_type == MODEL_TYPE else SentenceTransformersTeacher)(name, **options)


@dataclass
class TeacherArguments:
    """The text-embedding teacher."""

    teacher: str = field(
        default="all-MiniLM-L6-v2",
        metadata={
            "help": "Text-embedding teacher: folder or Hub name of NV-Embed-v2 or any sentence-transformers model. Or "
            "vectors computed before: a .parquet file, a folder of them or a glob, with columns text and embedding; "
            "FILE::text,vector names other columns."
        },
    )
    teacher_prompt: str = field(default="", metadata={"help": "Text put before every text for the teacher."})
    teacher_max_length: int | None = field(
        default=None, metadata={"help": "Tokens the teacher reads of a text. Default: the teacher's own."}
    )
    teacher_batch_size: int = field(default=64, metadata={"help": "Texts the teacher encodes at a time."})
    teacher_dtype: str = field(
        default="float32", metadata={"help": "Precision of the teacher.", "choices": list(DTYPES)}
    )
    teacher_device: str | None = field(
        default=None, metadata={"help": "Device of the teacher. Default: each process's own."}
    )

    def load(self, cache: str | None, device: str | None = None) -> Teacher | VectorFiles:
        """The teacher, before any text is read.

        Args:
            cache: folder of its vectors; where it holds some, the package that computes others is not asked for.
            device: of this process; `teacher_device` goes before it.
        """
        options = {name: getattr(self, f"teacher_{name}") for name in ("prompt", "max_length", "batch_size", "dtype")}
        teacher = load_teacher(self.teacher, device=self.teacher_device or device, **options)
        cached = cache is not None and Path(cache).is_dir() and any(Path(cache).iterdir())
        needs_package = isinstance(teacher, SentenceTransformersTeacher) and not cached
        if needs_package and find_spec("sentence_transformers") is None:
            raise ImportError(
                f"teacher {self.teacher} needs the package sentence-transformers: "
                'pip install -c constraints.txt -e ".[st]"'
            )
        return teacher
