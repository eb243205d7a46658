# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""An example with text and image as the sum of the embeddings of its parts (UniME, arXiv 2504.17432, section 3.1.2).

That is how the paper embeds mixed inputs after stage 1, when the model has not yet seen a text and an image together:
each part under its own summary prompt, added element by element.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from evaluation.encoder import BaseEncoder, EncodingError
from unime.data.example import MMEB_IMAGE, Example


def split_modalities(example: Example) -> list[Example]:
    """The text and the image of an example by themselves, without an instruction; an example of one modality as it is."""
    if example.text is None or example.image is None:
        return [example]
    text = MMEB_IMAGE.sub("", example.text).strip()
    parts = [Example(image=example.image, store=example.store)]
    return [Example(text=text), *parts] if text else parts


class ModalitySum(BaseEncoder):
    """Any encoder, with the parts of mixed examples added up to unit length."""

    def __init__(self, encoder: BaseEncoder):
        super().__init__(encoder.batch_size)
        self.encoder = encoder
        self.modalities = encoder.modalities

    def refusal(self, example: Example) -> str | None:
        """See `BaseEncoder.refusal`."""
        return next(filter(None, map(self.encoder.refusal, split_modalities(example))), None)

    def encode_batches(self, batches: list[list[Example]]) -> Iterator[np.ndarray]:
        """See `BaseEncoder.encode_batches`; of parts."""
        return self.encoder.encode_batches(batches)

    def encode(self, examples: Sequence[Example], description: str = "encoding") -> np.ndarray:
        """See `BaseEncoder.encode`; parts that several examples share are encoded once, parts that cancel out an error."""
        self.check(examples, description)
        groups = [split_modalities(example) for example in examples]
        vectors = self.encoder.encode([part for group in groups for part in group], description)
        return add_parts(examples, groups, vectors, description)


def add_parts(
    examples: Sequence[Example], groups: Sequence[Sequence[Example]], vectors: np.ndarray, description: str
) -> np.ndarray:
    """Unit sums (N, D) of the vectors of each example's parts, which come one after the other; one part as it is."""
    starts = np.cumsum([0, *map(len, groups[:-1])])
    sums = np.add.reduceat(vectors, starts, axis=0)  # (N, D)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    if (norms < 1e-6).any():
        number = int(np.argmin(norms))
        raise EncodingError(f"{description}: the parts of {examples[number].describe()} cancel out")
    mixed = np.array([len(group) > 1 for group in groups])[:, None]  # (N, 1)
    return np.where(mixed, sums / norms, sums).astype(np.float32)
