# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Gradients of a whole-batch loss with the memory of one chunk (GradCache, arXiv 2101.06983), exactly.

1. Embed every chunk without a graph, noting the random state before each.
2. Take the loss on all embeddings at once and its gradient with respect to them.
3. Embed each chunk again, with a graph and from its noted random state, so that dropout draws the same masks, and
   send its part of that gradient into the weights.

Where memory allows, the first pass can keep its graph instead and no chunk is embedded twice; chunks then only save
padding. The result is the same.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch


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
    scale: float = 1.0,
    device: torch.device = torch.device("cpu"),
    keep_graph: bool = False,
    is_filler: Sequence[bool] | None = None,
) -> torch.Tensor:
    """Back-propagate `scale` x loss of a batch that comes in chunks.

    Args:
        chunks: inputs of each chunk, at least one.
        embed: chunk -> (n, D) embeddings, with a graph when gradients are enabled.
        loss_function: (N, D) embeddings of all chunks, in order -> scalar. May gather from other ranks.
        backward: what to call instead of `tensor.backward()` (loss scaling, DeepSpeed). Called once per chunk, or once
            in all when graphs are kept.
        defer_synchronisation: context under which `backward` must not exchange gradients between ranks; entered for
            all chunks but the last.
        scale: factor on the gradient, e.g. world size / accumulation steps (default 1).
        device: where the chunks are embedded; its random state is replayed besides the CPU's.
        keep_graph: hold the graphs of all chunks, for speed, instead of embedding each chunk twice, for memory. A
            single chunk is never embedded twice.
        is_filler: of each chunk, whether it is only there to keep the ranks in step (see aligned_chunks.py): it is
            embedded like the others, but its rows do not reach the loss and its gradient is 0 (default: none is).

    Returns:
        The loss, detached, not scaled.

    Raises:
        ValueError: when there is no chunk but fillers.
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
        backward(loss * scale + nothing)
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
    parts = iter((gradient * scale).split([len(part) for part in kept]))

    for index, (chunk, state, filler) in enumerate(zip(chunks, states, is_filler, strict=True)):
        part = 0 if filler else next(parts)
        is_last = index == len(chunks) - 1
        with state.replay(), contextlib.nullcontext() if is_last else defer_synchronisation():
            backward((embed(chunk) * part).sum())
    return loss.detach()
