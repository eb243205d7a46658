# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The small JSON files that let `SentenceTransformer(folder, trust_remote_code=True)` load a UniME folder.

One module does everything: sentence-transformers' own `Transformer`, which loads our model and processor through the
Auto classes and takes the model's `embeddings` as the sentence embedding. No pooling module follows, for the model
pools and normalises by itself.
"""

import json
from pathlib import Path

from .needed_versions import NEEDED

_FORWARD = {"method": "forward", "method_output_name": "embeddings"}
_MESSAGE = {**_FORWARD, "format": "structured"}  # every input reaches our processor as a chat message

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


def write_sentence_transformers_files(folder: str) -> None:
    """Write `modules.json`, `sentence_bert_config.json` and `config_sentence_transformers.json` into a model folder.

    A file that is there stays: sentence-transformers may have written it, with a user's prompts and further modules.
    """
    for name, content in _FILES.items():
        file = Path(folder, name)
        if not file.exists():
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
