# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Gradients of a whole-batch loss with the memory of one chunk (GradCache, arXiv 2101.06983), exactly.

1. Embed every chunk without a graph, noting the random state before each.
2. Take the loss on all embeddings at once and its gradient with respect to them.
3. Embed each chunk again, with a graph and from its noted random state, so that dropout draws the same masks, and
   send its part of that gradient into the weights.

Where memory allows, the first pass can keep its graph instead and no chunk is embedded twice; chunks then only save
padding. The result is the same.

Ranks are kept in step, since whatever the engine, a forward or backward may be a collective: an engine that splits
weights over ranks gathers those of a layer when the layer runs, on all ranks at once; DDP broadcasts buffers, and agrees
on its buckets, in forwards. A rank that runs a chunk more than the others, or the vision tower when another rank has only
texts, would wait for ever. So all ranks run as many chunks with images, and as many without, as the rank that has most of
them; what a rank lacks is filled with chunks that do not count. They cost little time: the rank would have waited.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch

from unime.distributed import largest


class RandomState:
    """Random state of the CPU and of the device that a chunk is embedded on."""

    def __init__(self, device: torch.device):
        self.devices = [device] if device.type == "cuda" else []
        self.cpu = torch.get_rng_state()
        self.cuda = [torch.cuda.get_rng_state(cuda) for cuda in self.devices]

    @contextlib.contextmanager
    def replay(self) -> Iterator[None]:
        """Run a block from this state; afterwards the generators are as if the block had not run."""
        with torch.random.fork_rng(devices=self.devices):
            torch.set_rng_state(self.cpu)
            for device, state in zip(self.devices, self.cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


def gradient_cached_step(
    chunks: Sequence[dict],
    embed: Callable[[dict], torch.Tensor],
    loss_function: Callable[[torch.Tensor], torch.Tensor],
    backward: Callable[[torch.Tensor], None],
    defer_synchronisation: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    device: torch.device = torch.device("cpu"),
    keep_graph: bool = False,
    is_filler: Sequence[bool] | None = None,
) -> torch.Tensor:
    """Back-propagate the loss of a batch that comes in chunks, and return it, detached.

    Args:
        chunks: inputs of each chunk, at least one.
        embed: chunk -> (n, D) embeddings, with a graph when gradients are enabled.
        loss_function: (N, D) embeddings of all chunks, in order -> scalar. May gather from other ranks.
        backward: called instead of `tensor.backward()`, once per chunk, or once in all when graphs are kept.
        defer_synchronisation: context of all chunks but the last, in which ranks must not exchange gradients.
        device: where the chunks are embedded; its random state is replayed besides the CPU's.
        keep_graph: hold the graphs of all chunks, for speed, instead of embedding each chunk twice, for memory. A
            single chunk is never embedded twice.
        is_filler: of each chunk, whether its rows reach the loss not at all and its gradient is 0 (default: none's).
    """
    is_filler = [False] * len(chunks) if is_filler is None else list(is_filler)
    if all(is_filler):
        raise ValueError("the batch has no chunk")

    def embed_next(chunk: dict, filler: bool) -> torch.Tensor:
        # A filler must not use up random numbers: what follows draws the same ones as without it.
        with RandomState(device).replay() if filler else contextlib.nullcontext():
            return embed(chunk)  # (n, D)

    if keep_graph or len(chunks) == 1:
        embedded = [embed_next(*entry) for entry in zip(chunks, is_filler, strict=True)]
        loss = loss_function(torch.cat([part for part, filler in zip(embedded, is_filler, strict=True) if not filler]))
        nothing = sum(part.sum() * 0 for part, filler in zip(embedded, is_filler, strict=True) if filler)
        backward(loss + nothing)
        return loss.detach()

    states, embedded = [], []
    with torch.no_grad():
        for chunk, filler in zip(chunks, is_filler, strict=True):
            states.append(RandomState(device))
            embedded.append(embed_next(chunk, filler))  # (n, D)
    kept = [part for part, filler in zip(embedded, is_filler, strict=True) if not filler]
    embeddings = torch.cat(kept).requires_grad_()  # (N, D)
    loss = loss_function(embeddings)
    (gradient,) = torch.autograd.grad(loss, embeddings)  # (N, D)
    parts = iter(gradient.split([len(part) for part in kept]))

    for index, (chunk, state, filler) in enumerate(zip(chunks, states, is_filler, strict=True)):
        part = 0 if filler else next(parts)
        is_last = index == len(chunks) - 1
        with state.replay(), contextlib.nullcontext() if is_last else defer_synchronisation():
            backward((embed(chunk) * part).sum())
    return loss.detach()


def add_fillers(
    chunks: Sequence[dict], make_filler: Callable[[bool], dict], device: torch.device
) -> tuple[list[dict], list[bool]]:
    """Chunks of this rank, those without images first, with fillers between them, and which of them are fillers.

    `make_filler` gives a small chunk, with an image or without, where the rank has none of that kind to repeat.
    """
    has_image = ["pixel_values" in chunk for chunk in chunks]
    texts = has_image.count(False)
    if any(has_image[:texts]):
        raise ValueError("chunks without images must come before those with images")
    by_kind = (chunks[:texts], chunks[texts:])
    filled, is_filler = [], []
    for own, count, with_image in zip(
        by_kind, largest([len(own) for own in by_kind], device), (False, True), strict=True
    ):
        missing = count - len(own)
        filled += own
        if missing:
            # Copies, so that image features are kept (frozen_vision.py) where other ranks keep theirs.
            filled += [dict(own[0] if own else make_filler(with_image)) for _ in range(missing)]
        is_filler += [False] * len(own) + [True] * missing
    return filled, is_filler
