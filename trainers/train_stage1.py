# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 1 from the command line: distil a text-embedding teacher into the LLM of a multimodal model.

    python -m trainers.train_stage1 examples/recipes/tiny-cpu/stage1.yaml --model MODEL --texts nli.csv --output_dir OUT

With `loss_type: contrastive` it trains the baseline E5-V instead, on the same texts as triplets and without a teacher.

Started again with the same command after it was stopped, it continues.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modeling_unime import UniMEProcessor
from trainers.data.texts import DEFAULT_COLUMNS, load_texts
from trainers.data.tokens import TokenizedTexts
from trainers.data.triplets import load_triplets
from trainers.distillation_config import DistillationConfig
from trainers.distillation_trainer import DistillationCollator, DistillationTrainer, TextDataset
from trainers.run import ModelArguments, begin_run, load_for_training, train_and_save
from trainers.start_checks import check_batch
from trainers.teacher_arguments import TeacherArguments, check_teacher, teacher_vectors
from trainers.triplet_trainer import TripletCollator, TripletDataset, TripletTrainer
from unime.data.bad_rows import BadRows
from unime.options import parse_dataclasses, run_command
from unime.output_folder import only_writer


@dataclass
class Stage1Arguments:
    """The texts of stage 1."""

    texts: list[str] = field(
        metadata={
            "help": "Files (.jsonl, .jsonl.gz, .json, .csv, .parquet), globs, folders or names of data sets. "
            "FILE::column1,column2 gives a source columns of its own."
        }
    )
    columns: list[str] = field(
        default_factory=lambda: list(DEFAULT_COLUMNS),
        metadata={
            "help": "Columns with texts, or with lists of texts, of the sources that name none. With loss_type contrastive: "
            "query, positive and, if there is one, hard negative."
        },
    )
    max_rows_per_source: int | None = field(default=None, metadata={"help": "Rows read of each file. Default: all."})
    on_bad_row: str = field(
        default="error",
        metadata={
            "help": "Rows with a missing or empty text: stop before training (error), or leave them out and list them "
            "(skip).",
            "choices": ["error", "skip"],
        },
    )


def write_bad_rows(bad_rows: BadRows, config: DistillationConfig) -> None:
    """List the rows that were left out, before anything long begins."""
    if config.process_index == 0 and len(bad_rows):
        bad_rows.write(Path(config.output_dir, "bad_rows.json"))


def distillation_trainer(
    model_arguments: ModelArguments,
    arguments: Stage1Arguments,
    teacher_arguments: TeacherArguments,
    config: DistillationConfig,
    bad_rows: BadRows,
) -> tuple[DistillationTrainer, UniMEProcessor, dict]:
    """The trainer of UniME's stage 1, its processor, and what the record says of the data."""
    texts = load_texts(arguments.texts, arguments.columns, bad_rows, arguments.max_rows_per_source)
    write_bad_rows(bad_rows, config)
    check_batch(len(texts), config)
    # Before the teacher: a bad model, or a text that cannot be tokenised, shows at once.
    trained, processor = load_for_training(model_arguments, config, language_model_only=True)
    tokens = TokenizedTexts.of(processor, texts, config.max_length, progress=config.process_index == 0)
    cache = teacher_arguments.teacher_cache or Path(config.output_dir, "teacher_vectors")
    vectors = teacher_vectors(texts, teacher_arguments, cache, str(config.device))
    trainer = DistillationTrainer(
        model=trained,
        args=config,
        train_dataset=TextDataset(tokens, vectors.rows(texts)),
        data_collator=DistillationCollator(processor, vectors, config.chunk_limits, config.share),
    )
    return trainer, processor, {"texts": len(texts), "teacher": teacher_arguments.teacher}


def triplet_trainer(
    model_arguments: ModelArguments, arguments: Stage1Arguments, config: DistillationConfig, bad_rows: BadRows
) -> tuple[TripletTrainer, UniMEProcessor, dict]:
    """The same for the baseline E5-V."""
    texts, rows = load_triplets(arguments.texts, arguments.columns, bad_rows, arguments.max_rows_per_source)
    write_bad_rows(bad_rows, config)
    check_batch(len(rows), config)
    trained, processor = load_for_training(model_arguments, config, language_model_only=True)
    tokens = TokenizedTexts.of(processor, texts, config.max_length, progress=config.process_index == 0)
    dataset = TripletDataset(tokens, rows)
    known = dataset.known_positives() if config.exclude_known_positives else None
    trainer = TripletTrainer(
        model=trained,
        args=config,
        train_dataset=dataset,
        data_collator=TripletCollator(processor, config.chunk_limits, config.share, known),
    )
    return trainer, processor, {"texts": len(texts), "triplets": len(rows)}


def main(argv: Sequence[str] | None = None, prog: str = "python -m trainers.train_stage1") -> None:
    """Run stage 1; the last line printed is the path of the model it wrote."""
    model_arguments, arguments, teacher_arguments, config = parse_dataclasses(
        (ModelArguments, Stage1Arguments, TeacherArguments, DistillationConfig),
        argv,
        required=("output_dir",),
        prog=prog,
        description="Stage 1: textual discriminative knowledge distillation (UniME, arXiv 2504.17432, section 3.2).",
    )
    with only_writer(config.output_dir, "output_dir", active=config.process_index == 0):
        train(model_arguments, arguments, teacher_arguments, config)


def train(
    model_arguments: ModelArguments,
    arguments: Stage1Arguments,
    teacher_arguments: TeacherArguments,
    config: DistillationConfig,
) -> None:
    """Train and save; the last line printed is the path of the model."""
    if not begin_run(model_arguments, arguments, config, teacher_arguments):
        return
    if config.loss_type == "distillation":
        check_teacher(teacher_arguments)
    bad_rows = BadRows(arguments.on_bad_row)
    if config.loss_type == "distillation":
        stage = "stage1"
        trainer, processor, record = distillation_trainer(
            model_arguments, arguments, teacher_arguments, config, bad_rows
        )
    else:
        stage = "stage1 (E5-V)"
        trainer, processor, record = triplet_trainer(model_arguments, arguments, config, bad_rows)
    train_and_save(
        trainer,
        processor,
        model_arguments,
        stage,
        {**record, "skipped_rows": len(bad_rows), "model": model_arguments.model},
    )
    if config.process_index == 0:
        print(config.output_dir)


if __name__ == "__main__":
    run_command(main)
