# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Text-embedding teachers for stage 1, and what keeps their vectors on disk."""

from trainers.teachers.encode import encode_teacher
from trainers.teachers.load import load_teacher
from trainers.teachers.nv_embed_model import NVEmbedModel
from trainers.teachers.nv_embed_teacher import NVEmbedTeacher
from trainers.teachers.sentence_transformers_teacher import SentenceTransformersTeacher
from trainers.teachers.teacher import Teacher

__all__ = [
    "NVEmbedModel",
    "NVEmbedTeacher",
    "SentenceTransformersTeacher",
    "Teacher",
    "encode_teacher",
    "load_teacher",
]
