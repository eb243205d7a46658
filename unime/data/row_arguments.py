# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Options of every command that reads rows with images, to train, to mine or to evaluate."""

from dataclasses import dataclass, field
from typing import Literal

from unime.data.bad_rows import POLICIES
from unime.data.images import DEFAULT_MAX_PIXELS, PIL_MAX_PIXELS, check_max_pixels


@dataclass(kw_only=True)
class RowArguments:
    """Where the images of rows are, and what is done about rows that cannot be used."""

    image_root: str | None = field(
        default=None,
        metadata={
            "help": "Folder (also with an images.zip in it) or zip archive of all images. Default: the folder of each data "
            "file, then images.zip beside it. Links in a folder are followed."
        },
    )
    max_image_pixels: int = field(
        default=DEFAULT_MAX_PIXELS,
        metadata={
            "help": "Width times height above which an image is refused before it is decoded: a small file may claim all "
            f"memory. At most {PIL_MAX_PIXELS}."
        },
    )
    on_bad_row: Literal[POLICIES] = field(
        default="error",
        metadata={
            "help": "Rows with wrong fields, or with an image that is missing, damaged or cannot be processed: stop before "
            "the model is loaded, or in evaluation report their data set as failed (error), or leave them out and list "
            "them in bad_rows.json or the results (skip)."
        },
    )

    def __post_init__(self) -> None:
        check_max_pixels(self.max_image_pixels)
