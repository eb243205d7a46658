# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""One step of stage 1 against what people would do instead: time in turns, peak memory.

    python -m benchmarks.stage1_step --texts captions.jsonl.gz::captions --output benchmarks/results/stage1_step.json

- ours: teacher vectors from disk, texts tokenised once, chunks of like length, no LM head, no vision tower;
- straightforward: the teacher encodes in every step, the whole causal LM gives the states of all layers, the batch is
  tokenised in the step and padded to its longest text;
- sentence_transformers: its closest loss, DistillKLDivLoss, on the same model and as many texts: a query, a positive and
  negatives per row with stored teacher scores, each column padded to its longest text.

All train the LLM's weights with AdamW from the same random weights; the learning rate is 0, so that all rounds measure the
same model. Collation is part of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
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
from trainers.chunks import ChunkLimits
from trainers.data.texts import load_texts
from trainers.distillation_config import DistillationConfig
from trainers.distillation_trainer import DistillationTrainer
from trainers.losses import SimilarityDistillationLoss
from trainers.teachers import SentenceTransformersTeacher
from trainers.teachers.vectors import teacher_vectors
from unime.options import parse_dataclasses

TEXTS_PER_ROW = 4  # columns of the sentence-transformers way: a query and three candidates

Step = Callable[[list[int]], None]


@dataclass
class Stage1StepArguments(StepModelArguments):
    """What to measure."""

    texts: list[str] = field(default_factory=list, metadata={"help": "Texts, as train_stage1 takes them."})
    output: str = field(default="stage1_step.json", metadata={"help": "JSON file to write."})
    teacher: str = field(default="all-MiniLM-L6-v2", metadata={"help": "A model of sentence-transformers."})
    max_texts: int = field(default=4096, metadata={"help": "First texts that are used."})
    bucket_size: int = field(default=64, metadata={"help": "Texts that ours pads together."})


class Corpus:
    """The texts, the teacher and its vectors."""

    def __init__(self, folder: Path, arguments: Stage1StepArguments):
        self.texts = load_texts(arguments.texts)["text"][: arguments.max_texts]
        self.teacher = SentenceTransformersTeacher(arguments.teacher, device="cpu")
        self.vectors = teacher_vectors(self.texts, self.teacher, folder / "vectors")
        self.parameters = save_step_model(folder, arguments, self.texts)


def make_ours(folder: Path, corpus: Corpus, arguments: Stage1StepArguments) -> Step:
    """The project's own trainer."""
    config = DistillationConfig(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=arguments.batch_size,
        use_cpu=True,
        report_to="none",
        lora_rank=0,
        disable_tqdm=True,
    )
    trainer = DistillationTrainer(str(folder), config, train_dataset=corpus.texts, teacher=corpus.teacher)
    dataset = trainer.train_dataset
    trainer.current_gradient_accumulation_steps = 1
    trainer.data_collator.limits = ChunkLimits(arguments.bucket_size)
    optimizer = adamw(trainer.model.parameters())

    def step(rows: list[int]) -> None:
        trainer.training_step(trainer.model, trainer.data_collator([dataset[row] for row in rows]))
        optimizer.step()
        optimizer.zero_grad()

    return step


def make_straightforward(folder: Path, corpus: Corpus, arguments: Stage1StepArguments) -> Step:
    """Teacher in the loop, whole causal LM, one padded batch."""
    causal = load_causal_lm(folder)
    processor, loss_function = UniMEProcessor.from_backbone(str(folder)), SimilarityDistillationLoss()
    optimizer = adamw(causal.parameters())

    def step(rows: list[int]) -> None:
        texts = [corpus.texts[row] for row in rows]
        teacher = torch.from_numpy(corpus.teacher.encode(texts))
        inputs = processor(text=texts)
        states = causal(**inputs, output_hidden_states=True).hidden_states[-1]  # (N, L, D)
        student = normalise(pool_last_token(states, inputs["attention_mask"]))
        loss_function(student, teacher).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def make_sentence_transformers(folder: Path, corpus: Corpus, arguments: Stage1StepArguments) -> Step:
    """The library's loss that is closest, fed as its trainer feeds it: one padded batch per column."""
    from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss

    model = load_sentence_transformer(folder)
    loss_function = DistillKLDivLoss(model, temperature=0.05)
    optimizer = adamw(model.parameters())

    def step(rows: list[int]) -> None:
        columns = np.array(rows).reshape(TEXTS_PER_ROW, -1)  # (4, N / 4)
        vectors = np.array(corpus.vectors[rows])
        vectors = torch.from_numpy(vectors).view(TEXTS_PER_ROW, columns.shape[1], -1)
        scores = (vectors[:1] * vectors[1:]).sum(-1).T  # (N / 4, 3)
        features = [dict(model[0].processor(text=[corpus.texts[row] for row in column])) for column in columns]
        loss_function(features, scores).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


MAKERS = {
    "ours": make_ours,
    "straightforward": make_straightforward,
    "sentence_transformers": make_sentence_transformers,
}


def prepare(arguments: Stage1StepArguments, folder: Path) -> tuple[Corpus, Iterator[list[int]], int]:
    """The texts, random batches of their numbers without end, and the number of parameters of the model in `folder`."""
    corpus = Corpus(folder, arguments)
    generator = np.random.default_rng(arguments.seed)

    def batches() -> Iterator[list[int]]:
        while True:
            yield generator.permutation(len(corpus.texts))[: arguments.batch_size].tolist()

    return corpus, batches(), corpus.parameters


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; the last line printed is the file written."""
    (arguments,) = parse_dataclasses(
        (Stage1StepArguments,),
        argv,
        prog="python -m benchmarks.stage1_step",
        description=__doc__.partition("\n")[0],
    )
    run_benchmark("benchmarks.stage1_step", arguments, MAKERS, prepare)


if __name__ == "__main__":
    main()
