# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What stage 1 asks of a teacher."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Teacher(Protocol):
    """A text encoder whose similarities the student learns.

    Example::

        import numpy as np

        class LengthTeacher:
            fingerprint = "lengths of words, version 1"

            def encode(self, texts):
                return np.array([[len(text), text.count(" ") + 1] for text in texts], np.float32)

    What else has `encode`, such as a `SentenceTransformer`, is a teacher whose vectors are not kept on disk.

    Attributes:
        fingerprint: equal only for teachers that give equal vectors: it covers weights, prompt, length and precision,
            and no path. To know it must not need the weights in memory.
    """

    fingerprint: str

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors, (len(texts), D) float32 of any length but zero, in the order of the texts.

        Where there is also a method `unload`, it is called once all texts are encoded, to free the weights.
        """
