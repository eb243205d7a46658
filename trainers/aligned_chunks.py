# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Keeps ranks in step: whatever the engine, a forward or backward may be a collective.

An engine that splits weights over ranks gathers those of a layer when the layer runs, on all ranks at once. DDP broadcasts
buffers, and agrees on its buckets, in forwards. A rank that runs a chunk more than the others, or the vision tower when
another rank has only texts, would wait for ever. So all ranks run as many chunks with images, and as many without, as the
rank that has most of them; what a rank lacks is filled with chunks that do not count. They cost little time: the rank
would have waited.
"""

from collections.abc import Callable, Sequence

import torch

from unime.distributed import largest


def align_chunks(
    chunks: Sequence[dict], make_filler: Callable[[bool], dict], device: torch.device
) -> tuple[list[dict], list[bool]]:
    """Chunks of this rank with fillers between them, and which of them are fillers.

    Args:
        chunks: this rank's model inputs; those without images come first.
        make_filler: whether it is to have an image -> model inputs of a small chunk; asked only when the rank has no
            chunk of that kind to repeat.
        device: where numbers are exchanged between ranks.

    Raises:
        ValueError: when a chunk without images follows one with images.
    """
    has_image = ["pixel_values" in chunk for chunk in chunks]
    texts = has_image.count(False)
    if any(has_image[:texts]):
        raise ValueError("chunks without images must come before those with images")
    kinds = (chunks[:texts], chunks[texts:])
    aligned, is_filler = [], []
    for own, count, with_image in zip(kinds, largest([len(own) for own in kinds], device), (False, True), strict=True):
        aligned += own
        is_filler += [False] * len(own)
        if len(own) < count:
            missing = count - len(own)
            # Copies, so that image features are kept (frozen_vision.py) where other ranks keep theirs.
            aligned += [dict(own[0] if own else make_filler(with_image)) for _ in range(missing)]
            is_filler += [True] * missing
    return aligned, is_filler
