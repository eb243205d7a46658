# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The prompts that other embedders on the same multimodal LLMs are evaluated with, as data: `--prompts NAME`.

Sources: E5-V (arXiv 2407.12580, its evaluation code, and for image and text VLM2Vec's code of it on MMEB); VLM2Vec (arXiv
2410.05160, its code for MMEB and Flickr30K; UniME-V2 evaluates retrieval with the same strings).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.plain_text import plain_text
from modeling_unime import UniMEProcessor
from modeling_unime.families import IMAGE_SLOT, TEXT_SLOT, build_prompts

OWN = "unime"  # those of the model's own processor


@dataclass(frozen=True)
class Prompts:
    """Templates by modality of what has no instruction of its own, and whether the rest goes into them, too."""

    templates: dict[str, str]
    wraps_all: bool  # False: MMEB's strings are used as they are, the image token replaced by the backbone's


PROMPTS: dict[str, Prompts] = {
    # The space behind the colon is in E5-V's evaluation, not in its training.
    "e5v": Prompts(build_prompts("llama3"), wraps_all=True),
    "vlm2vec": Prompts(
        {
            "text": TEXT_SLOT,
            "image": f"{IMAGE_SLOT} Find an image caption describing the given image.",
            "image_text": f"{IMAGE_SLOT}\n{TEXT_SLOT}",  # our choice: its data has an instruction wherever both are
        },
        wraps_all=False,
    ),
}


class TemplateProcessor:
    """A `UniMEProcessor` whose templates all examples go into, also those that carry an instruction."""

    def __init__(self, processor: UniMEProcessor):
        self.processor = processor

    def __call__(self, text: Sequence[str | None], images: Sequence[Any], instruction=None, **options):
        """See `UniMEProcessor.__call__`; MMEB's image token is taken out, an instruction is put before its text."""
        before = [instruction] * len(text) if isinstance(instruction, str | None) else instruction
        texts = [plain_text(*parts) for parts in zip(text, before, strict=True)]
        return self.processor(text=texts, images=images, **options)


def baseline_processor(folder: str, name: str) -> UniMEProcessor | TemplateProcessor:
    """The processor of a multimodal LLM with the prompts of a name in `PROMPTS`."""
    prompts = PROMPTS[name]
    processor = UniMEProcessor.from_backbone(folder, prompts=prompts.templates)
    return TemplateProcessor(processor) if prompts.wraps_all else processor
