# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Teachers for tests: one without a model, and a tiny random NV-Embed-v2."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from safetensors.torch import save_file
from tiny_models import make_tokenizer

from trainers.teachers import NVEmbedModel

NV_EMBED_CONFIG = {
    "model_type": "nvembed",
    "auto_map": {"AutoConfig": "configuration_nvembed.NVEmbedConfig", "AutoModel": "modeling_nvembed.NVEmbedModel"},
    "latent_attention_config": {
        "num_latents_value": 5,
        "num_cross_heads": 2,
        "cross_dim_head": 8,
        "hidden_dim": 16,
        "latent_dim": 16,
    },
    "text_config": {
        "model_type": "bidir_mistral",
        "vocab_size": 300,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
    },
}


def write_parquet(path: Path, texts: Sequence[str], vectors: np.ndarray) -> None:
    """Texts and their vectors (N, D) as people share them."""
    lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])
    path.parent.mkdir(exist_ok=True)
    table = pyarrow.table([pyarrow.array(texts), lists], names=["text", "embedding"])
    pyarrow.parquet.write_table(table, path, row_group_size=1024)


class FakeTeacher:
    """Vectors that follow from the text alone. Keeps what it was asked, and tells `on_encode` before it answers."""

    def __init__(self, fingerprint="fake", dimension=6, faults=None, on_encode: Callable | None = None):
        self.fingerprint = fingerprint
        self.dimension = dimension
        self.faults = faults or {}
        self.on_encode = on_encode
        self.encoded = []
        self.unloaded = 0

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        if self.on_encode is not None:
            self.on_encode(texts)
        self.encoded += texts
        vectors = np.stack([self.vector(text) for text in texts])
        for row, text in enumerate(texts):
            if text in self.faults:
                vectors[row] = self.faults[text]
        return vectors

    def vector(self, text: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        vector = np.random.default_rng(seed).standard_normal(self.dimension).astype(np.float32)
        return vector / np.linalg.norm(vector)

    def unload(self) -> None:
        self.unloaded += 1


def expected(texts: Sequence[str]) -> np.ndarray:
    """The vectors of a `FakeTeacher`."""
    return np.stack([FakeTeacher().vector(text) for text in texts])


def make_nv_embed(folder: Path) -> Path:
    """A tiny random NV-Embed-v2 with a tokenizer of one token per byte."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = NVEmbedModel(NV_EMBED_CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    save_file(dict(model.named_parameters()), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(NV_EMBED_CONFIG))
    make_tokenizer([], bos=True).save_pretrained(folder)
    return folder
