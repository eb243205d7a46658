# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 1 from the command line: distil a text-embedding teacher into the LLM of a multimodal model.

    python -m trainers.train_stage1 examples/recipes/tiny-cpu/stage1.yaml --model MODEL --texts nli.csv --output_dir OUT

Started again with the same command after it was stopped, it continues.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.command_line import parse_dataclasses

from .data.bad_rows import BadRows
from .data.texts import DEFAULT_COLUMNS, load_texts
from .distillation_config import DistillationConfig
from .distillation_trainer import DistillationCollator, DistillationTrainer, TextDataset
from .run import ModelArguments, begin_run, load_for_training, train_and_save
from .teacher_arguments import TeacherArguments, teacher_vectors


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
        metadata={"help": "Columns with texts, or with lists of texts, of the sources that name none."},
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


def main(argv: Sequence[str] | None = None) -> None:
    """Run stage 1; the last line printed is the path of the model it wrote."""
    model_arguments, arguments, teacher_arguments, config = parse_dataclasses(
        (ModelArguments, Stage1Arguments, TeacherArguments, DistillationConfig),
        argv,
        prog="python -m trainers.train_stage1",
        description="Stage 1: textual discriminative knowledge distillation (UniME, arXiv 2504.17432, section 3.2).",
    )
    if not begin_run(model_arguments, arguments, config, teacher_arguments):
        return
    is_main = config.process_index == 0

    bad_rows = BadRows(arguments.on_bad_row)
    texts = load_texts(arguments.texts, arguments.columns, bad_rows, arguments.max_rows_per_source)
    if is_main and len(bad_rows):
        bad_rows.write(Path(config.output_dir, "bad_rows.json"))
    trained, processor = load_for_training(model_arguments, config)  # before the teacher: a bad model shows at once

    cache = teacher_arguments.teacher_cache or Path(config.output_dir, "teacher_vectors")
    vectors = teacher_vectors(texts, teacher_arguments, cache, str(config.device))

    trainer = DistillationTrainer(
        model=trained,
        args=config,
        train_dataset=TextDataset(texts, vectors.rows(texts)),
        data_collator=DistillationCollator(
            processor, vectors, config.chunk_limits, config.max_length, config.process_index, config.world_size
        ),
    )
    train_and_save(
        trainer,
        processor,
        "stage1",
        {
            "texts": len(texts),
            "skipped_rows": len(bad_rows),
            "teacher": teacher_arguments.teacher,
            "model": model_arguments.model,
        },
    )
    if is_main:
        print(config.output_dir)


if __name__ == "__main__":
    main()
