# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Any SentenceTransformer under the same harness: `--model sentence-transformers:FOLDER`.

Text goes in as it is and as nothing but text, whatever it looks like, an image as a picture, both together as the
dictionary that multimodal SentenceTransformers take. MMEB's image token means nothing to these models and is left out; an
instruction is put before the text.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sentence_transformers import SentenceTransformer

from evaluation.encoder import BaseEncoder, pick_device, pick_dtype
from evaluation.plain_text import as_texts, plain_text
from unime.data.example import Example


class SentenceTransformerEncoder(BaseEncoder):
    """A SentenceTransformer as encoder."""

    def __init__(self, model: SentenceTransformer, batch_size: int = 32):
        super().__init__(batch_size)
        self.model = model.eval()
        self.modalities = tuple(name for name in ("text", "image") if model.supports(name))

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int = 32,
        max_length: int | None = None,
        trust_remote_code: bool = False,
    ) -> "SentenceTransformerEncoder":
        """Load from a folder or from the Hub; options as in `Encoder.from_pretrained`."""
        where = pick_device(device)
        loaded = SentenceTransformer(
            str(model),
            device=str(where),
            trust_remote_code=trust_remote_code,
            model_kwargs={"dtype": pick_dtype(dtype, where)},
        )
        if max_length is not None:
            loaded.max_seq_length = max_length
        return cls(loaded, batch_size)

    def refusal(self, example: Example) -> str | None:
        """See `BaseEncoder.refusal`: what the model does not read."""
        if self.model.supports(_modality(example)):
            return None
        return (
            f"this baseline reads {', '.join(map(str, self.model.modalities))}, but the data set has {example.describe()}; "
            "leave the data set out for it"
        )

    def encode_batches(self, batches: list[list[Example]]) -> Iterator[np.ndarray]:
        """See `BaseEncoder.encode_batches`."""
        for batch in batches:
            vectors: list[np.ndarray | None] = [None] * len(batch)
            for modality in dict.fromkeys(map(_modality, batch)):  # not every model takes mixed batches
                rows = [row for row, example in enumerate(batch) if _modality(example) == modality]
                inputs = [self._to_input(batch[row]) for row in rows]
                output = self.model.encode(
                    inputs, batch_size=len(rows), normalize_embeddings=True, show_progress_bar=False
                )
                for row, vector in zip(rows, output, strict=True):
                    vectors[row] = vector
            yield np.stack(vectors).astype(np.float32)  # (B, D)

    def _to_input(self, example: Example) -> str | Image.Image | dict[str, Any]:
        text, image = plain_text(example.text, example.instruction), example.open()
        if image is None:
            return as_texts(self.model, [text])[0]
        return {"text": text, "image": image} if text else image


def _modality(example: Example) -> str | tuple[str, str]:
    if example.image is None:
        return "text"
    return ("image", "text") if plain_text(example.text, example.instruction) else "image"
