# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Any text model of sentence-transformers as a teacher."""

from collections.abc import Sequence

import numpy as np

from trainers.teachers.folder_teacher import FolderTeacher


class SentenceTransformersTeacher(FolderTeacher):
    """A teacher that sentence-transformers can load. The weights are loaded at the first `encode`.

    Args:
        path_or_name: folder, packaged model or name on the Hub, see `find_model_folder`.
        prompt: put before every text; "" for none, even where the model has a default prompt.
        max_length: tokens kept of a text, prompt included; None: what the model was saved with.
        device: for example "cpu" or "cuda:1"; None: the accelerator if there is one.
        dtype: precision of the weights: "float32", "float16" or "bfloat16".
        batch_size: texts encoded at a time.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> teacher = SentenceTransformersTeacher("all-MiniLM-L6-v2", device="cpu")  # doctest: +SKIP
        >>> teacher.encode(["a dog", "a puppy"]).shape  # doctest: +SKIP
        (2, 384)
    """

    kind = "sentence-transformers"

    def _load(self):
        # Imported here, because the library is an optional extra and takes seconds to import.
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(self.folder), device=self.device, model_kwargs={"dtype": self.dtype})
        if self.max_length is not None:
            model.max_seq_length = self.max_length
        return model.eval()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts.

        Args:
            texts: any number of texts.

        Returns:
            Unit vectors, (len(texts), D) float32. Normalised in float32 whatever the dtype. A vector of zeros or with
            NaN stays one, for `TeacherVectors` to name its text.
        """
        if self._model is None:
            self._model = self._load()
        vectors = self._model.encode(
            list(texts), prompt=self.prompt, batch_size=self.batch_size, show_progress_bar=False, convert_to_numpy=True
        )  # (N, D)
        vectors = np.asarray(vectors, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)  # (N, 1)
        return vectors / np.where(lengths == 0, 1, lengths)
