# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""One step of stage 2 against what people use instead: time in turns, peak memory.

    python -m benchmarks.stage2_step --data DATA --output benchmarks/results/stage2_step.json

- ours: distinct inputs once, chunks by tokens and sorted by length, no LM head, the frozen tower once;
- vlm2vec: a gradient cache as VLM2Vec's released code has it: causal LM with the states of all layers, chunks of a fixed
  number of rows in the order of the data, queries and targets apart, every row embedded;
- sentence_transformers: its CachedMultipleNegativesRankingLoss on the same model.

All take the plain InfoNCE of the same rows, train the same weights (the LLM's) with AdamW, and start from the same random
weights; the learning rate is 0, so that all rounds measure the same model. Collation is part of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.step_model import (
    StepModelArguments,
    adamw,
    load_causal_lm,
    load_sentence_transformer,
    run_benchmark,
    save_step_model,
)
from modeling_unime import UniMEProcessor
from modeling_unime.modeling_unime import normalise, pool_last_token
from trainers.batch_sampler import GlobalBatchSampler
from trainers.data.mmeb import load_mmeb_train
from trainers.data.pairs import Pair, PairDataset
from trainers.hard_negative_config import HardNegativeConfig
from trainers.hard_negative_trainer import HardNegativeTrainer
from trainers.losses import InfoNCELoss
from unime.options import parse_dataclasses

TEMPERATURE = 0.02

Step = Callable[[list[Pair]], None]


@dataclass
class Stage2StepArguments(StepModelArguments):
    """What to measure."""

    data: list[str] = field(
        default_factory=list, metadata={"help": "MMEB-train files or folders, as train_stage2 takes them."}
    )
    output: str = field(default="stage2_step.json", metadata={"help": "JSON file to write."})
    chunk_rows: int = field(default=16, metadata={"help": "Rows that the other two embed at a time."})
    chunk_tokens: int = field(default=512, metadata={"help": "Tokens that ours embeds at a time."})
    rounds: int = field(
        default=3, metadata={"help": "Timed rounds, each with a batch of its own, after one to warm up."}
    )


def inputs_of(dataset: PairDataset, pairs: Sequence[Pair], side: str) -> tuple[list, list]:
    """Texts and images of the rows' queries or positives."""
    examples = [(pair, getattr(pair, side)) for pair in pairs]
    return [example.text for _, example in examples], [pair.open(example) for pair, example in examples]


def make_ours(folder: Path, dataset: PairDataset, arguments: Stage2StepArguments) -> Step:
    """The project's own trainer."""
    config = HardNegativeConfig(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=arguments.batch_size,
        gradient_cache_chunk_tokens=arguments.chunk_tokens,
        loss_type="info_nce",
        temperature=TEMPERATURE,
        use_row_negatives=False,
        lora_rank=0,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = HardNegativeTrainer(str(folder), config, train_dataset=dataset)
    trainer.current_gradient_accumulation_steps = 1
    optimizer = adamw(trainer.model.parameters())

    def step(pairs: list[Pair]) -> None:
        trainer.training_step(trainer.model, trainer.data_collator(pairs))
        optimizer.step()
        optimizer.zero_grad()

    return step


def make_vlm2vec(folder: Path, dataset: PairDataset, arguments: Stage2StepArguments) -> Step:
    """A plain gradient cache on the causal LM."""
    causal = load_causal_lm(folder)
    processor, loss_function = UniMEProcessor.from_backbone(str(folder)), InfoNCELoss(temperature=TEMPERATURE)
    optimizer = adamw(causal.parameters())

    def embed(chunk: dict) -> torch.Tensor:
        states = causal(**chunk, output_hidden_states=True).hidden_states[-1]  # (n, L, D)
        return normalise(pool_last_token(states, chunk["attention_mask"]))

    def chunks_of(pairs: list[Pair], side: str) -> list[dict]:
        texts, images = inputs_of(dataset, pairs, side)
        starts = range(0, len(pairs), arguments.chunk_rows)
        return [
            dict(
                processor(
                    text=texts[i : i + arguments.chunk_rows],
                    images=images[i : i + arguments.chunk_rows],
                    instruction="",
                )
            )
            for i in starts
        ]

    def step(pairs: list[Pair]) -> None:
        chunks = [chunk for side in ("query", "positive") for chunk in chunks_of(pairs, side)]
        with torch.no_grad():
            embedded = [embed(chunk) for chunk in chunks]
        cached = torch.cat(embedded).requires_grad_()
        loss_function(cached[: len(pairs)], cached[len(pairs) :]).backward()
        for chunk, gradient in zip(chunks, cached.grad.split([len(part) for part in embedded]), strict=True):
            (embed(chunk) * gradient).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def make_sentence_transformers(folder: Path, dataset: PairDataset, arguments: Stage2StepArguments) -> Step:
    """The library's cached loss, fed as its trainer feeds it: one column of queries, one of positives."""
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    model = load_sentence_transformer(folder)
    model[0].processor.tokenizer.padding_side = "right"  # it trims a chunk's padding on the right only
    loss_function = CachedMultipleNegativesRankingLoss(
        model, scale=1 / TEMPERATURE, mini_batch_size=arguments.chunk_rows
    )
    optimizer = adamw(model.parameters())

    def column(pairs: list[Pair], side: str) -> dict:
        texts, images = inputs_of(dataset, pairs, side)
        features = dict(model[0].processor(text=texts, images=images, instruction=""))
        # How the library knows which of the images belong to a chunk.
        features["num_images_per_sample"] = torch.tensor([int(image is not None) for image in images])
        return features

    def step(pairs: list[Pair]) -> None:
        loss_function([column(pairs, "query"), column(pairs, "positive")], labels=None).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


MAKERS = {"ours": make_ours, "vlm2vec": make_vlm2vec, "sentence_transformers": make_sentence_transformers}


def prepare(arguments: Stage2StepArguments, folder: Path) -> tuple[PairDataset, Iterator[list[Pair]], int]:
    """The data, its batches without end, and the number of parameters of the model saved in `folder`."""
    dataset = load_mmeb_train(arguments.data, on_bad_row="skip", progress=False)
    sampler = GlobalBatchSampler(len(dataset), arguments.batch_size, arguments.seed)
    texts = [example.text for index in range(len(dataset)) for example in dataset[index].examples if example.text]
    parameters = save_step_model(folder, arguments, texts)

    def batches() -> Iterator[list[Pair]]:
        while True:
            yield from ([dataset[index] for index in rows] for rows in sampler)
            sampler.set_epoch(sampler.epoch + 1)

    return dataset, batches(), parameters


def count_inputs(pairs: list[Pair]) -> dict:
    """How many inputs of a batch are distinct."""
    inputs = [example for pair in pairs for example in (pair.query, pair.positive)]
    return {"inputs_of_the_last_batch": {"all": len(inputs), "distinct": len(set(inputs))}}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; the last line printed is the file written."""
    (arguments,) = parse_dataclasses(
        (Stage2StepArguments,),
        argv,
        prog="python -m benchmarks.stage2_step",
        description=__doc__.partition("\n")[0],
    )
    run_benchmark("benchmarks.stage2_step", arguments, MAKERS, prepare, count_inputs)


if __name__ == "__main__":
    main()
