# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Text-embedding teachers for stage 1, and what keeps their vectors on disk."""

from trainers.teachers.load import load_teacher
from trainers.teachers.nv_embed_model import NVEmbedModel, NVEmbedOutput
from trainers.teachers.nv_embed_teacher import NVEmbedTeacher
from trainers.teachers.parquet_vectors import export_parquet, import_parquet
from trainers.teachers.sentence_transformers_teacher import SentenceTransformersTeacher
from trainers.teachers.teacher import Teacher
from trainers.teachers.vector_arrays import TeacherVectorsError
from trainers.teachers.vector_file import VectorFile
from trainers.teachers.vector_reader import VectorReader
from trainers.teachers.vector_store import TeacherVectors

__all__ = [
    "NVEmbedModel",
    "NVEmbedOutput",
    "NVEmbedTeacher",
    "SentenceTransformersTeacher",
    "Teacher",
    "TeacherVectors",
    "TeacherVectorsError",
    "VectorFile",
    "VectorReader",
    "export_parquet",
    "import_parquet",
    "load_teacher",
]
