# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""NV-Embed-v2 as a teacher: its texts end with an end token, and its instruction is read but not pooled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoTokenizer

from trainers.teachers.folder_teacher import FolderTeacher
from trainers.teachers.nv_embed_model import NVEmbedModel

MODEL_TYPE = "nvembed"
DEFAULT_LENGTH = 512


class NVEmbedTeacher(FolderTeacher):
    """NV-Embed-v2. The weights are loaded at the first `encode`.

    Args:
        path_or_name: folder or name on the Hub.
        prompt: put before every text and left out of the pooling, for example "Instruct: Retrieve semantically similar
            text.\\nQuery: "; keep its last space. Empty: none, as NV-Embed embeds passages.
        max_length: tokens kept of a text, prompt and end token included (default 512).
        device: for example "cuda:1"; None: the accelerator if there is one.
        dtype: precision of the weights: "float32", "float16" or "bfloat16".
        batch_size: texts encoded at a time.

    Raises:
        ValueError: an option is out of range.
    """

    kind = "nv-embed"
    least_length = 2  # the end token is one of them

    def __init__(self, path_or_name: str, prompt: str = "", max_length: int | None = None, **options):
        super().__init__(path_or_name, prompt, DEFAULT_LENGTH if max_length is None else max_length, **options)
        self.device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = None

    @property
    def tokenizer(self):
        """The model's tokenizer, padding on the right with the end token."""
        if self._tokenizer is None:
            self._tokenizer = AutoTokenizer.from_pretrained(self.folder, padding_side="right")
            self._tokenizer.pad_token = self._tokenizer.eos_token
        return self._tokenizer

    def tokenize(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Inputs of [`NVEmbedModel`] for B texts: `input_ids`, `attention_mask` and `pool_mask`, all (B, L).

        Unlike the published code, a text that is too long keeps its end token.

        Raises:
            ValueError: The prompt alone fills `max_length`.
        """
        tokenizer = self.tokenizer
        prompt = len(tokenizer(self.prompt, add_special_tokens=False)["input_ids"]) if self.prompt else 0
        if prompt + 2 >= self.max_length:
            raise ValueError(
                f"the teacher's prompt has {prompt} tokens, which leaves nothing of max_length {self.max_length}"
            )
        rows = tokenizer([self.prompt + text for text in texts], truncation=True, max_length=self.max_length - 1)
        ids = [[*row, tokenizer.eos_token_id] for row in rows["input_ids"]]
        length = max(map(len, ids))
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids])  # (B, L)
        pool_mask = mask.clone()
        pool_mask[:, :prompt] = 0  # as published: as many as the prompt alone has without its start token
        padded = torch.tensor([row + [tokenizer.eos_token_id] * (length - len(row)) for row in ids])
        return {"input_ids": padded, "attention_mask": mask, "pool_mask": pool_mask}

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, (len(texts), D) float32, in the order of the texts."""
        if self._model is None:
            self._model = NVEmbedModel.from_pretrained(self.folder, getattr(torch, self.dtype), self.device)
        vectors = []
        for start in range(0, len(texts), self.batch_size):
            inputs = self.tokenize(texts[start : start + self.batch_size])
            inputs = {name: value.to(self._model.device) for name, value in inputs.items()}
            vectors.append(self._model(**inputs).embeddings.cpu().numpy())
        return np.concatenate(vectors)
