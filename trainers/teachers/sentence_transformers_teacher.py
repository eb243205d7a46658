# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Any text model of sentence-transformers as a teacher."""

import numpy as np

from evaluation.plain_text import as_texts
from trainers.teachers.folder_teacher import FolderTeacher


class SentenceTransformersTeacher(FolderTeacher):
    """A teacher that sentence-transformers can load; the weights are loaded at the first `encode`.

    Example::

        from trainers.teachers import SentenceTransformersTeacher

        teacher = SentenceTransformersTeacher("my-model", device="cpu")
        vectors = teacher.encode(["a dog", "a puppy"])  # (2, D), unit length

    The options are those of `FolderTeacher`. A `max_length` of None is what the model was saved with. Without `prompt`
    there is none, even where the model has a default one.
    """

    kind = "sentence-transformers"

    def _load(self):
        # Imported here, because the library is an optional extra and takes seconds to import.
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(self.folder), device=self.device, model_kwargs={"dtype": self.dtype})
        if self.max_length is not None:
            model.max_seq_length = self.max_length
        return model.eval()

    def _encode(self, texts: list[str]) -> np.ndarray:
        return self._model.encode(
            as_texts(self._model, texts),
            prompt=self.prompt,
            batch_size=self.batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
