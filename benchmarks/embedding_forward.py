# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""An embedding forward against the causal-LM way that released scripts use: arithmetic, memory, time.

    python -m benchmarks.embedding_forward --output benchmarks/results/embedding_forward.json

The causal-LM way runs `...ForConditionalGeneration(..., output_hidden_states=True)` and takes the last state: it computes
logits for every token and keeps the states of every layer. Both run the same random weights on the same tokens; the
vectors are compared before anything is measured. Memory is measured in a process of its own for each way.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from transformers import CLIPVisionConfig, LlavaNextConfig, LlavaNextForConditionalGeneration, MistralConfig

from benchmarks.measure import (
    flops,
    interleaved_seconds,
    median_ratio,
    peak_extra_bytes,
    peak_extra_bytes_in_own_process,
    settings_of,
    show_and_write,
)
from evaluation.encoder import pick_device
from evaluation.report import environment
from modeling_unime import UniMEConfig, UniMEModel
from unime.options import parse_dataclasses

WAYS = ("embedding", "causal_lm")


@dataclass
class ForwardArguments:
    """Sizes of the model and of the batch."""

    output: str = field(metadata={"help": "JSON file to write."})
    batch_size: int = field(default=16, metadata={"help": "Rows."})
    length: int = field(default=64, metadata={"help": "Tokens of a row."})
    vocab_size: int = field(default=151936, metadata={"help": "Tokens of the vocabulary; Qwen's by default."})
    hidden_size: int = field(default=512, metadata={"help": "Width of the LLM."})
    num_layers: int = field(default=8, metadata={"help": "Layers of the LLM."})
    rounds: int = field(default=5, metadata={"help": "Timed rounds; both ways run once in each."})
    device: str = field(default="auto", metadata={"help": "cpu, cuda, ...; auto takes a GPU if there is one."})
    dtype: str = field(default="float32", metadata={"help": "float32 or bfloat16."})
    seed: int = field(default=0, metadata={"help": "Of weights and tokens."})
    memory_of: str | None = field(
        default=None, metadata={"help": f"Only print the peak memory of one way ({', '.join(WAYS)}); used internally."}
    )


def build(arguments: ForwardArguments) -> tuple[dict[str, Callable[[], torch.Tensor]], torch.device]:
    """Both ways as functions without arguments that return unit vectors (B, D)."""
    torch.manual_seed(arguments.seed)
    device, dtype = pick_device(arguments.device), getattr(torch, arguments.dtype)
    text = MistralConfig(
        vocab_size=arguments.vocab_size,
        hidden_size=arguments.hidden_size,
        intermediate_size=3 * arguments.hidden_size,
        num_hidden_layers=arguments.num_layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        sliding_window=None,
    )
    vision = CLIPVisionConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    config = LlavaNextConfig(text_config=text, vision_config=vision, image_token_index=1)
    causal = LlavaNextForConditionalGeneration(config).to(device, dtype).eval()
    with torch.device("meta"):
        model = UniMEModel(UniMEConfig(backbone=config))
    model.model = causal.model  # the same weights, once in memory
    ids = torch.randint(2, arguments.vocab_size, (arguments.batch_size, arguments.length), device=device)
    mask = torch.ones_like(ids)

    @torch.no_grad()
    def embedding() -> torch.Tensor:
        return model(input_ids=ids, attention_mask=mask).embeddings

    @torch.no_grad()
    def causal_lm() -> torch.Tensor:
        states = causal(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1][:, -1]
        return torch.nn.functional.normalize(states.float(), dim=-1)

    return {"embedding": embedding, "causal_lm": causal_lm}, device


def run(arguments: ForwardArguments) -> dict:
    """Everything measured, ready for JSON."""
    actions, device = build(arguments)
    difference = (actions["embedding"]() - actions["causal_lm"]()).abs().max().item()
    operations = {way: flops(action) for way, action in actions.items()}
    seconds = interleaved_seconds(actions, arguments.rounds, device)
    memory = {way: peak_extra_bytes_in_own_process("benchmarks.embedding_forward", arguments, way) for way in WAYS}
    return {
        "settings": settings_of(arguments),
        **environment(device),
        "largest_difference_of_the_vectors": difference,
        "gflop": {way: value / 1e9 for way, value in operations.items()},
        "peak_extra_mib": {way: value / 2**20 for way, value in memory.items()},
        "median_seconds": {way: statistics.median(values) for way, values in seconds.items()},
        "seconds": seconds,
        "causal_lm_over_embedding": {
            "flop": operations["causal_lm"] / operations["embedding"],
            "memory": memory["causal_lm"] / max(memory["embedding"], 1),
            "seconds": median_ratio(seconds["causal_lm"], seconds["embedding"]),
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; the last line printed is the file written."""
    (arguments,) = parse_dataclasses(
        (ForwardArguments,),
        argv,
        prog="python -m benchmarks.embedding_forward",
        description=__doc__.partition("\n")[0],
    )
    if arguments.memory_of:
        actions, device = build(arguments)
        print(peak_extra_bytes(actions[arguments.memory_of], device))
        return
    show_and_write(run(arguments), ("gflop", "peak_extra_mib", "causal_lm_over_embedding"), arguments.output)


if __name__ == "__main__":
    main()
