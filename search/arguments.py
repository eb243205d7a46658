# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Options of `unime index`, `unime search` and `unime serve-page`."""

from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from evaluation.arguments import EncoderArguments
from search.documents import KINDS
from unime.data.images import DEFAULT_MAX_PIXELS, PIL_MAX_PIXELS, check_max_pixels
from unime.options import check_at_least

DEFAULT_INDEX = "unime_index"


@dataclass
class IndexArguments(EncoderArguments):
    """What to index, with which model, and where. Every option is described in its `help`."""

    _: KW_ONLY
    folder: str = field(
        metadata={
            "help": "Folder whose pictures, text files (.txt, .md) and PDF pages are indexed, at any depth. Hidden files and "
            "links that lead out of it are left out."
        }
    )
    output: str = field(
        default=DEFAULT_INDEX,
        metadata={
            "help": "Folder of the index. One that is there is brought up to date; it may hold several folders."
        },
    )
    document_instruction: str | None = field(
        default=None,
        metadata={
            "help": "Instruction under which the files are embedded, such as 'Represent the given image.'. Default: none, the "
            "model's summary prompts."
        },
    )
    max_image_pixels: int = field(
        default=DEFAULT_MAX_PIXELS,
        metadata={
            "help": "Width times height above which a picture is left out before it is decoded: a small file may claim all "
            f"memory. At most {PIL_MAX_PIXELS}."
        },
    )
    factory: str | None = field(
        default=None,
        metadata={
            "help": "Search approximately, by this index of faiss: HNSW32 (a graph), SQ8 (8-bit integers), 'IVF1024,SQ8', ...; "
            "'exact' goes back to comparing all. Default: what the index has, exact at first, which serves a million vectors."
        },
    )
    dimensions: int | None = field(
        default=None,
        metadata={
            "help": "Only the first so many dimensions in faiss's index, for models trained with matryoshka_dims; its candidates "
            "are compared by all."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, dimensions=1)
        check_max_pixels(self.max_image_pixels)
        if self.dimensions is not None and self.factory in (None, "exact"):
            raise ValueError("--dimensions needs --factory: an exact search compares whole vectors")


@dataclass
class SearchArguments:
    """What to look for. Every option is described in its `help`."""

    text: str | None = field(default=None, metadata={"help": "The text of the query."})
    image: str | None = field(
        default=None, metadata={"help": "Picture file of the query; with a text, both together."}
    )
    instruction: str | None = field(
        default=None,
        metadata={
            "help": "Instruction of the query, such as 'Find me an everyday image that matches the given caption:'."
        },
    )
    index: str = field(default=DEFAULT_INDEX, metadata={"help": "Folder of the index."})
    top: int = field(default=10, metadata={"help": "How many results."})
    kinds: list[str] = field(
        default_factory=lambda: list(KINDS), metadata={"help": f"What may be found: {', '.join(KINDS)}."}
    )
    json: bool = field(default=False, metadata={"help": "One JSON object per result, for scripts."})
    model: str | None = field(
        default=None, metadata={"help": "Where the index's model lies now. Default: where it lay then."}
    )
    device: str = field(default="auto", metadata={"help": "'auto', 'cpu', 'cuda', 'cuda:1', ..."})
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto", metadata={"help": "Type of the weights; 'auto' is bfloat16 on CUDA and float32 elsewhere."}
    )
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Run the Python files in the model folder if its type is not a known one."}
    )

    def __post_init__(self) -> None:
        check_at_least(self, top=1)
        if not (self.text or self.image):
            raise ValueError("the query is empty; give a text, --image FILE, or both")
