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
    backward_calls: int = 0,
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
        backward_calls: call `backward` at least so often, with gradients of zero, for engines in which every call is
            collective and ranks have different numbers of chunks (default 0: once per chunk). Not with `keep_graph`.

    Returns:
        The loss, detached, not scaled.

    Raises:
        ValueError: when there is no chunk.
    """
    if not chunks:
        raise ValueError("the batch has no chunk")
    if keep_graph or (len(chunks) == 1 and backward_calls <= 1):
        loss = loss_function(torch.cat([embed(chunk) for chunk in chunks]))
        backward(loss * scale)
        return loss.detach()

    states, embedded = [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(RandomState(device))
            embedded.append(embed(chunk))  # (n, D)
    sizes = [len(part) for part in embedded]
    embeddings = torch.cat(embedded).requires_grad_()  # (N, D)
    loss = loss_function(embeddings)
    (gradient,) = torch.autograd.grad(loss, embeddings)  # (N, D)

    for _ in range(backward_calls - len(chunks)):
        with states[0].replay(), defer_synchronisation():
            backward((embed(chunks[0]) * 0).sum())
    for index, (chunk, state, part) in enumerate(zip(chunks, states, (gradient * scale).split(sizes), strict=True)):
        is_last = index == len(chunks) - 1
        with state.replay(), contextlib.nullcontext() if is_last else defer_synchronisation():
            backward((embed(chunk) * part).sum())
    return loss.detach()
