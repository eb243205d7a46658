# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What a saved folder has besides transformers' files: a digest of the weights, and sentence-transformers' files."""

import hashlib
import json
import stat
import uuid
from collections.abc import Mapping
from pathlib import Path

import torch

from .needed_versions import NEEDED

DIGEST_FILE = "weights_digest.json"
DIGEST_BYTES = 16

_FORWARD = {"method": "forward", "method_output_name": "embeddings"}
_MESSAGE = {**_FORWARD, "format": "structured"}  # every input reaches our processor as a chat message

# One module: sentence-transformers' own `Transformer`, which loads our model and processor through the Auto classes. No
# pooling module follows, for the model pools and normalises by itself.
_FILES = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    ],
    "sentence_bert_config.json": {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": _FORWARD, "image": _FORWARD, "image+text": _FORWARD, "message": _MESSAGE},
        "module_output_name": "sentence_embedding",
        # Our processor shortens the user's text and keeps the prompt's end, so there is no suffix to restore.
        "processing_kwargs": {"chat_template": {"restore_suffix": False}},
    },
    "config_sentence_transformers.json": {
        "model_type": "SentenceTransformer",
        # A prompt is the instruction of the MMEB form; a blank one leaves the text bare (MMEB targets).
        "prompts": {"query": "", "document": "", "bare": " "},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
        # sentence-transformers 6 refuses to load what these do not allow; older ones warn of a newer version.
        "requirements": {package: f">={version}" for package, version in NEEDED.items()},
        "__version__": {"sentence_transformers": f"{NEEDED['sentence-transformers']}.0"},
    },
}


def write_sentence_transformers_files(folder: str | Path) -> None:
    """Write what is not there: sentence-transformers may have written it, with a user's prompts and further modules."""
    for name, content in _FILES.items():
        file = Path(folder, name)
        if not file.exists():
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def digest_weight(tensor: torch.Tensor) -> str:
    """Hash of a weight's dtype, shape and all its values."""
    digest = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)}".encode(), digest_size=DIGEST_BYTES)
    if tensor.numel():
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def digest_weights(weights: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Hashes by name; `unime check` finds weights by them that are changed or mixed up, which no use would show."""
    return {name: digest_weight(tensor) for name, tensor in sorted(weights.items())}


def write_digests(folder: str | Path, digests: Mapping[str, str]) -> None:
    Path(folder, DIGEST_FILE).write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")


def read_digest(folder: str | Path) -> dict[str, str] | None:
    """The digests of a folder, by weight; None when it has none."""
    file = Path(folder, DIGEST_FILE)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def give_weights_the_usual_mode(folder: str | Path) -> None:
    """Let others read weights where the umask does: safetensors writes files readable by their owner alone."""
    new = Path(folder, f".mode-{uuid.uuid4().hex}")  # asking the system for its umask would change it for a moment
    new.touch()
    mode = stat.S_IMODE(new.stat().st_mode)
    new.unlink()
    for file in Path(folder).glob("*.safetensors"):
        if stat.S_IMODE(file.stat().st_mode) == stat.S_IRUSR | stat.S_IWUSR:
            file.chmod(mode)
