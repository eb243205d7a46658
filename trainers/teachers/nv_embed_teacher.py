# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""NV-Embed-v2 as a teacher: its texts end with an end token, and its instruction is read but not pooled."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from transformers import AutoTokenizer, MistralConfig

from trainers.teachers.folder_teacher import FolderTeacher
from trainers.teachers.nv_embed_model import NVEmbedModel

logger = logging.getLogger(__name__)

MODEL_TYPE = "nvembed"


class NVEmbedTeacher(FolderTeacher):
    r"""NV-Embed-v2 as a teacher; the weights are loaded at the first `encode`.

    Example::

        from trainers.teachers import NVEmbedTeacher

        teacher = NVEmbedTeacher("nvidia/NV-Embed-v2", prompt="Instruct: Retrieve similar text.\nQuery: ", device="cpu")
        vectors = teacher.encode(["a dog", "a puppy"])  # (2, D)

    The options are those of `FolderTeacher`; a text keeps 512 tokens by default, prompt and end token included. The
    prompt is left out of the pooling, for example "Instruct: Retrieve semantically similar text.\nQuery: "; its last
    space belongs to it. Without one, texts are embedded as NV-Embed embeds passages.

    Raises:
        ValueError: an option is out of range.
    """

    kind = "nv-embed"
    least_length = 2  # the end token is one of them
    default_length = 512

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if self.prompt and not self.prompt.endswith(" "):
            logger.warning(
                f"The prompt {self.prompt!r} of the NV-Embed teacher does not end in a space: its last token is pooled, "
                "as in the published code. End it with 'Query: ' to leave the whole of it out."
            )

    @cached_property
    def tokenizer(self):
        """The model's tokenizer, padding on the right with the end token."""
        # With a config of its own, the library does not ask whether to run the remote code that config.json names.
        tokenizer = AutoTokenizer.from_pretrained(self.folder, config=MistralConfig(), padding_side="right")
        tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

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

    def _load(self) -> NVEmbedModel:
        return NVEmbedModel.from_pretrained(self.folder, getattr(torch, self.dtype), self.device)

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> np.ndarray:
        vectors = []
        for start in range(0, len(texts), self.batch_size):
            inputs = self.tokenize(texts[start : start + self.batch_size])
            inputs = {name: value.to(self._model.device) for name, value in inputs.items()}
            vectors.append(self._model(**inputs).embeddings.cpu().numpy())
        return np.concatenate(vectors)
