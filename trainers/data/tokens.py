# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Texts as token ids, made once per run instead of in every step.

The prompt is the processor's, as everywhere. The ids of all texts lie in one array of int32: a million texts of 30
tokens take 120 MB, and DataLoader workers share them, where lists of Python integers would take nine times as much
and be copied into every worker one reference count at a time.
"""

from collections.abc import Sequence

import numpy as np
from tqdm.auto import tqdm

from modeling_unime import UniMEProcessor

BLOCK = 1024  # texts tokenised at a time
PROGRESS_FROM = 20_000  # texts; fewer are done before a bar could be read


class TokenizedTexts:
    """Token ids of N texts, prompt included.

    Args:
        ids: (sum of the lengths,) int32, text after text.
        offsets: (N + 1,) int64; text i has the ids from `offsets[i]` to `offsets[i + 1]`.

    Example:
        >>> tokens = TokenizedTexts(np.array([5, 6, 7], np.int32), np.array([0, 1, 3]))
        >>> len(tokens), tokens[1].tolist()
        (2, [6, 7])
    """

    def __init__(self, ids: np.ndarray, offsets: np.ndarray):
        self.ids = ids
        self.offsets = offsets

    @classmethod
    def of(
        cls, processor: UniMEProcessor, texts: Sequence[str], max_length: int | None = None, progress: bool = True
    ) -> "TokenizedTexts":
        """Tokenise texts.

        Args:
            processor: builds the prompt around each text: "Summary above sentence in one word:".
            texts: N texts.
            max_length: tokens a text may have, prompt included (default: the processor's).
            progress: show a bar when there are many.

        Returns:
            Their ids.

        Raises:
            ValueError: a text cannot be tokenised; the message quotes it.
        """
        parts, lengths = [], []
        with tqdm(
            total=len(texts), desc="Tokens", unit=" texts", disable=not progress or len(texts) < PROGRESS_FROM
        ) as bar:
            for start in range(0, len(texts), BLOCK):
                block = list(texts[start : start + BLOCK])
                rows = _token_ids(processor, block, max_length)
                parts.append(np.array([token for row in rows for token in row], np.int32))
                lengths += map(len, rows)
                bar.update(len(block))
        return cls(np.concatenate(parts), np.concatenate([[0], np.cumsum(lengths)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, number: int) -> np.ndarray:
        """Ids of one text, (L,) int32."""
        return self.ids[self.offsets[number] : self.offsets[number + 1]]


def _token_ids(processor: UniMEProcessor, texts: list[str], max_length: int | None) -> list[list[int]]:
    """Ids of a block of texts; where one of them fails, the error says which."""
    for text in texts:
        if not processor.clean(text):  # who encodes gets the vector of the prompt, but nobody learns from it
            raise ValueError(f"the text {text[:80]!r} cannot be trained on: it is empty or nothing but image tokens")
    try:
        return processor.token_ids(texts, max_length=max_length)
    except ValueError:
        for text in texts:
            try:
                processor.token_ids([text], max_length=max_length)
            except ValueError as error:
                raise ValueError(f"the text {text[:80]!r} cannot be tokenised: {error}") from error
        raise
