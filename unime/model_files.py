# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Where the files of a model are, what their JSON says and their weights; whatever is wrong with them is one sentence that names them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import safe_open


def find_model_folder(path_or_name: str | Path, **download: Any) -> Path:
    """The folder itself, or a download from the Hub by the options of `snapshot_download`."""
    folder = Path(path_or_name).expanduser()
    if str(path_or_name).strip() and folder.is_dir():
        return folder
    try:
        return Path(huggingface_hub.snapshot_download(str(path_or_name), **download))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise _not_found(path_or_name, error) from error


def read_model_type(path_or_name: str | Path) -> str | None:
    """The `model_type` of a folder or of a repository on the Hub, of which no more is downloaded; None: it has none."""
    file = Path(path_or_name, "config.json")
    if not Path(path_or_name).is_dir():
        try:
            file = Path(huggingface_hub.hf_hub_download(str(path_or_name), "config.json"))
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise _not_found(path_or_name, error) from error
    model_type = read_json_object(file).get("model_type") if file.is_file() else None
    if not isinstance(model_type, str | None):
        raise ValueError(f"{file}: model_type is {model_type!r}, not a name")
    return model_type


def read_json_object(file: Path) -> dict[str, Any]:
    """The content of a JSON file that must be an object, as all configurations are."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}, not a JSON object")
    return content


def read_weights(folder: str | Path, device: str | torch.device = "cpu") -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of all safetensors files of a folder; nothing when it has none."""
    for file in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(file, framework="pt", device=str(device)) as stored:
            for name in stored.keys():  # noqa: SIM118 (the object is no dict)
                yield name, stored.get_tensor(name)


def _not_found(path_or_name: str | Path, error: Exception) -> FileNotFoundError:
    return FileNotFoundError(
        f"model {str(path_or_name)!r} is neither a folder nor can it be had from the Hub: {error}"
    )
