# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""The gradient cache gives the plain loss's value and gradients, with dropout and uneven chunks; ranks stay in step."""

import contextlib

import pytest
import torch
from torch import nn

from trainers import gradient_cache
from trainers.gradient_cache import add_fillers, gradient_cached_step
from trainers.losses import HardNegativeInfoNCELoss, InfoNCELoss, MatryoshkaLoss, SimilarityDistillationLoss

CHUNKS = [5, 5, 3]  # the last one is smaller


def make_model(dropout: float) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 8)).double().train()


def make_loss(name: str):
    torch.manual_seed(1)
    teacher = torch.randn(13, 5, dtype=torch.float64)
    if name.startswith("distillation"):
        loss = SimilarityDistillationLoss(temperature=0.5, block_size=4)
        loss = MatryoshkaLoss(loss, [3, 8], [0.5, 2.0]) if name.endswith("matryoshka") else loss
        return lambda embeddings: loss(embeddings, teacher)
    hard_negative = HardNegativeInfoNCELoss(temperature=0.1, num_hard_negatives=3, block_size=4)
    loss = InfoNCELoss(0.1) if name == "info_nce" else hard_negative
    loss = MatryoshkaLoss(loss, [3, 8], [0.5, 2.0]) if name.endswith("matryoshka") else loss
    return lambda embeddings: loss(embeddings[:6], embeddings[6:])


def chunks_of(inputs: torch.Tensor) -> list[dict]:
    return [{"x": part} for part in inputs.split(CHUNKS)]


def plain_step(model: nn.Module, chunks: list[dict], loss_function) -> torch.Tensor:
    """All chunks with a graph, one loss, one backward."""
    loss = loss_function(torch.cat([model(chunk["x"]) for chunk in chunks]))
    loss.backward()
    return loss.detach()


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters()]


def run(step, dropout: float, loss_name: str) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    model = make_model(dropout)
    inputs = torch.randn(13, 6, dtype=torch.float64)
    torch.manual_seed(3)
    loss = step(model, chunks_of(inputs), make_loss_with_kept_state(loss_name))
    return loss, gradients(model), torch.rand(1)


def make_loss_with_kept_state(name: str):
    with torch.random.fork_rng():
        return make_loss(name)


def cached_step(model, chunks, loss_function):
    return gradient_cached_step(chunks, lambda chunk: model(chunk["x"]), loss_function, lambda loss: loss.backward())


@pytest.mark.parametrize(
    "loss_name", ["distillation", "hard_negative", "info_nce", "distillation matryoshka", "hard_negative matryoshka"]
)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_equals_plain_step(loss_name, dropout):
    plain_loss, plain, plain_random = run(plain_step, dropout, loss_name)
    cached_loss, cached, cached_random = run(cached_step, dropout, loss_name)
    torch.testing.assert_close(cached_loss, plain_loss, rtol=1e-12, atol=1e-12)
    for a, b in zip(plain, cached, strict=True):
        assert a.abs().max() > 1e-6, "a gradient of zero proves nothing"
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)
    assert torch.equal(plain_random, cached_random), "what follows the step must draw the same random numbers"


def test_dropout_is_active_and_replay_is_needed(monkeypatch):
    """The control: without replaying the random state the gradients differ."""
    _, without_dropout, _ = run(plain_step, 0.0, "info_nce")
    _, plain, _ = run(plain_step, 0.4, "info_nce")
    assert max((a - b).abs().max() for a, b in zip(plain, without_dropout, strict=True)) > 1e-3
    monkeypatch.setattr(gradient_cache.RandomState, "replay", lambda self: contextlib.nullcontext())
    _, broken, _ = run(cached_step, 0.4, "info_nce")
    assert max((a - b).abs().max() for a, b in zip(plain, broken, strict=True)) > 1e-3


def test_single_chunk_is_embedded_once():
    calls = []
    model = make_model(0.0)

    def embed(chunk):
        calls.append(1)
        return model(chunk["x"])

    inputs = torch.randn(13, 6, dtype=torch.float64)
    gradient_cached_step([{"x": inputs}], embed, make_loss("info_nce"), lambda loss: loss.backward())
    assert len(calls) == 1


def test_kept_graph_equals_recomputation():
    def kept_step(model, chunks, loss_function):
        embed = lambda chunk: model(chunk["x"])  # noqa: E731
        return gradient_cached_step(chunks, embed, loss_function, lambda loss: loss.backward(), keep_graph=True)

    kept_loss, kept, kept_random = run(kept_step, 0.4, "hard_negative")
    cached_loss, cached, cached_random = run(cached_step, 0.4, "hard_negative")
    torch.testing.assert_close(kept_loss, cached_loss)
    assert torch.equal(kept_random, cached_random)
    for a, b in zip(kept, cached, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)


def test_scale_and_synchronisation():
    """What `backward` scales reaches the gradients, not the reported loss; only the last chunk synchronises."""
    events = []

    @contextlib.contextmanager
    def defer():
        events.append("deferred")
        yield

    def backward(value: torch.Tensor) -> None:
        events.append("backward")
        (3.0 * value).backward()

    inputs = torch.randn(13, 6, dtype=torch.float64)
    reference, scaled = make_model(0.0), make_model(0.0)
    loss = plain_step(reference, chunks_of(inputs), make_loss("info_nce"))
    other = gradient_cached_step(
        chunks_of(inputs),
        lambda chunk: scaled(chunk["x"]),
        make_loss("info_nce"),
        backward,
        defer_synchronisation=defer,
    )
    torch.testing.assert_close(other, loss)
    for a, b in zip(gradients(reference), gradients(scaled), strict=True):
        torch.testing.assert_close(b, 3 * a)
    assert events == ["deferred", "backward"] * (len(CHUNKS) - 1) + ["backward"]


@pytest.mark.parametrize("keep_graph", [False, True])
def test_fillers_change_nothing(keep_graph):
    """Neither the loss nor a gradient nor the random numbers of the chunks that count, with dropout."""
    backwards = []

    def step_with_fillers(model, chunks, loss_function):
        first, *others = chunks
        filled = [first, first, *others, others[0]]
        is_filler = [False, True, False, False, True]
        backward = lambda loss: backwards.append(loss.backward())  # noqa: E731
        embed = lambda chunk: model(chunk["x"])  # noqa: E731
        return gradient_cached_step(filled, embed, loss_function, backward, keep_graph=keep_graph, is_filler=is_filler)

    plain_loss, plain, plain_random = run(plain_step, 0.4, "hard_negative")
    loss, filled, random = run(step_with_fillers, 0.4, "hard_negative")
    torch.testing.assert_close(loss, plain_loss, rtol=1e-12, atol=1e-12)
    for a, b in zip(plain, filled, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)
    assert torch.equal(plain_random, random)
    assert len(backwards) == (1 if keep_graph else 5), "a filler must be sent backward as well"


def test_no_chunk_is_refused():
    with pytest.raises(ValueError, match="no chunk"):
        gradient_cached_step([], None, None, None)
    with pytest.raises(ValueError, match="no chunk"):
        gradient_cached_step([{}], None, None, None, is_filler=[True])


CPU = torch.device("cpu")


def chunk(name: str, image: bool = False) -> dict:
    return {"input_ids": name} | ({"pixel_values": name} if image else {})


def names(chunks: list[dict]) -> list[str]:
    return [entry["input_ids"] for entry in chunks]


@pytest.fixture
def ranks(monkeypatch):
    """Another rank has 2 chunks of text and 3 with images."""
    monkeypatch.setattr(
        gradient_cache, "largest", lambda numbers, device: [max(pair) for pair in zip(numbers, (2, 3), strict=True)]
    )


def test_missing_chunks_are_repeated(ranks):
    filled, is_filler = add_fillers([chunk("a"), chunk("b", True)], lambda with_image: pytest.fail(), CPU)
    assert names(filled) == ["a", "a", "b", "b", "b"]
    assert is_filler == [False, True, False, True, True]


def test_a_kind_that_is_not_there_is_made(ranks):
    filled, is_filler = add_fillers([chunk("a")], lambda with_image: chunk(f"made {with_image}", True), CPU)
    assert names(filled) == ["a", "a", "made True", "made True", "made True"]
    filled, is_filler = add_fillers([chunk("b", True)] * 4, lambda with_image: chunk(f"made {with_image}"), CPU)
    assert names(filled) == ["made False", "made False", "b", "b", "b", "b"]
    assert is_filler == [True, True, False, False, False, False]


def test_nothing_is_added_to_the_rank_with_most(ranks):
    chunks = [chunk("a"), chunk("b"), chunk("c", True), chunk("d", True), chunk("e", True)]
    assert add_fillers(chunks, None, CPU) == (chunks, [False] * 5)


def test_the_order_of_chunks_is_checked(ranks):
    with pytest.raises(ValueError, match="must come before"):
        add_fillers([chunk("b", True), chunk("a")], None, CPU)
