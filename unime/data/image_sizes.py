# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Whether a model's processor can take pictures of some size, known before the model is loaded."""

import threading
from collections.abc import Callable

from modeling_unime import UniMEProcessor


class ImageSizes:
    """Asks the processor, loaded at the first picture, once for each size and instruction. Safe in threads.

    With `beside`, the sizes of another model, pictures have to suit that one, too.
    """

    def __init__(
        self,
        get_processor: Callable[[], UniMEProcessor],
        max_length: int | None = None,
        beside: "ImageSizes | None" = None,
    ):
        self.get_processor = get_processor
        self.max_length = max_length
        self.beside = beside
        self._lock = threading.Lock()
        self._processor: UniMEProcessor | None = None
        self._faults: dict[tuple[int, int, str | None], str | None] = {}

    def fault(self, width: int, height: int, instruction: str | None = "") -> str | None:
        """Why pictures of a size in pixels cannot be processed under an instruction, whose tokens need room, too."""
        key = (width, height, instruction)
        with self._lock:
            if key not in self._faults:
                self._faults[key] = (self.beside and self.beside.fault(*key)) or self._ask(*key)
            return self._faults[key]

    def tokens(self, width: int, height: int) -> int:
        """Tokens of a picture that can be processed."""
        with self._lock:
            return self._get().count_image_tokens(width, height)

    def _get(self) -> UniMEProcessor:
        if self._processor is None:
            self._processor = self.get_processor()
        return self._processor

    def _ask(self, width: int, height: int, instruction: str | None) -> str | None:
        try:
            self._get().check_image_size(width, height, self.max_length, instruction)
        except ValueError as error:
            return str(error)
        return None
