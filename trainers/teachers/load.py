# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The teacher class that fits a model."""

import json

from trainers.teachers.folder_teacher import find_model_folder
from trainers.teachers.nv_embed_teacher import MODEL_TYPE, NVEmbedTeacher
from trainers.teachers.sentence_transformers_teacher import SentenceTransformersTeacher
from trainers.teachers.teacher import Teacher


def load_teacher(path_or_name: str, **options) -> Teacher:
    """A teacher for a folder or a name on the Hub.

    Args:
        path_or_name: An NV-Embed-v2 checkpoint, or any model of sentence-transformers.
        options: Those of `FolderTeacher`.

    Returns:
        The teacher; its weights are not loaded yet.
    """
    config = find_model_folder(path_or_name) / "config.json"
    model_type = json.loads(config.read_text(encoding="utf-8")).get("model_type") if config.is_file() else None
    return (NVEmbedTeacher if model_type == MODEL_TYPE else SentenceTransformersTeacher)(path_or_name, **options)
