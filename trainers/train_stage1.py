# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 1 from the command line: distil a text-embedding teacher into the LLM of a multimodal model.

    python -m trainers.train_stage1 examples/recipes/tiny-cpu/stage1.yaml --model MODEL --texts nli.csv --output_dir OUT

With `loss_type: contrastive` it trains the baseline E5-V instead, on the same texts as triplets and without a teacher.

Started again with the same command after it was stopped, it continues.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.command_line import parse_dataclasses
from modeling_unime import UniMEProcessor

from .data.bad_rows import BadRows
from .data.texts import DEFAULT_COLUMNS, load_texts
from .data.tokens import TokenizedTexts
from .data.triplets import load_triplets
from .distillation_config import DistillationConfig
from .distillation_trainer import DistillationCollator, DistillationTrainer, TextDataset
from .run import ModelArguments, begin_run, load_for_training, train_and_save
from .teachers import TeacherVectors, load_teacher
from .triplet_trainer import TripletCollator, TripletDataset, TripletTrainer


@dataclass
class Stage1Arguments:
    """The texts of stage 1 and its teacher."""

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
    teacher: str = field(
        default="all-MiniLM-L6-v2",
        metadata={
            "help": "Text-embedding teacher: folder or Hub name of NV-Embed-v2 or any sentence-transformers model. None is "
            "loaded with loss_type contrastive."
        },
    )
    teacher_prompt: str = field(default="", metadata={"help": "Text put before every text for the teacher."})
    teacher_max_length: int | None = field(
        default=None, metadata={"help": "Tokens the teacher reads of a text. Default: the teacher's own."}
    )
    teacher_cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder of the teacher's vectors; runs may share it. Default: teacher_vectors in output_dir."
        },
    )
    teacher_batch_size: int = field(default=64, metadata={"help": "Texts the teacher encodes at a time."})
    teacher_dtype: str = field(
        default="float32", metadata={"help": "Precision of the teacher: float32, float16 or bfloat16."}
    )
    teacher_device: str | None = field(
        default=None, metadata={"help": "Device of the teacher. Default: an accelerator if there is one."}
    )


def write_bad_rows(bad_rows: BadRows, config: DistillationConfig) -> None:
    """List the rows that were left out, before anything long begins."""
    if config.process_index == 0 and len(bad_rows):
        bad_rows.write(Path(config.output_dir, "bad_rows.json"))


def distillation_trainer(
    model_arguments: ModelArguments, arguments: Stage1Arguments, config: DistillationConfig, bad_rows: BadRows
) -> tuple[DistillationTrainer, UniMEProcessor, dict]:
    """The trainer of UniME's stage 1, its processor, and what the record says of the data."""
    texts = load_texts(arguments.texts, arguments.columns, bad_rows, arguments.max_rows_per_source)
    write_bad_rows(bad_rows, config)
    # Before the teacher: a bad model, or a text that cannot be tokenised, shows at once.
    trained, processor = load_for_training(model_arguments, config)
    tokens = TokenizedTexts.of(processor, texts, config.max_length, progress=config.process_index == 0)
    teacher = load_teacher(
        arguments.teacher,
        prompt=arguments.teacher_prompt,
        max_length=arguments.teacher_max_length,
        device=arguments.teacher_device,
        dtype=arguments.teacher_dtype,
        batch_size=arguments.teacher_batch_size,
    )
    cache = arguments.teacher_cache or str(Path(config.output_dir, "teacher_vectors"))
    with config.main_process_first(local=False, desc="encoding with the teacher"):
        vectors = TeacherVectors.open(cache, teacher).ensure(texts)
    teacher.unload()
    trainer = DistillationTrainer(
        model=trained,
        args=config,
        train_dataset=TextDataset(tokens, vectors.rows(texts)),
        data_collator=DistillationCollator(processor, vectors, config.chunk_size),
    )
    return trainer, processor, {"texts": len(texts), "teacher": arguments.teacher}


def triplet_trainer(
    model_arguments: ModelArguments, arguments: Stage1Arguments, config: DistillationConfig, bad_rows: BadRows
) -> tuple[TripletTrainer, UniMEProcessor, dict]:
    """The same for the baseline E5-V."""
    texts, rows = load_triplets(arguments.texts, arguments.columns, bad_rows, arguments.max_rows_per_source)
    write_bad_rows(bad_rows, config)
    trained, processor = load_for_training(model_arguments, config)
    tokens = TokenizedTexts.of(processor, texts, config.max_length, progress=config.process_index == 0)
    trainer = TripletTrainer(
        model=trained,
        args=config,
        train_dataset=TripletDataset(tokens, rows),
        data_collator=TripletCollator(processor, config.chunk_size),
    )
    return trainer, processor, {"texts": len(texts), "triplets": len(rows)}


def main(argv: Sequence[str] | None = None) -> None:
    """Run stage 1; the last line printed is the path of the model it wrote."""
    model_arguments, arguments, config = parse_dataclasses(
        (ModelArguments, Stage1Arguments, DistillationConfig),
        argv,
        prog="python -m trainers.train_stage1",
        description="Stage 1: textual discriminative knowledge distillation (UniME, arXiv 2504.17432, section 3.2).",
    )
    if not begin_run(model_arguments, arguments, config):
        return
    bad_rows = BadRows(arguments.on_bad_row)
    make_trainer = distillation_trainer if config.loss_type == "distillation" else triplet_trainer
    trainer, processor, record = make_trainer(model_arguments, arguments, config, bad_rows)
    stage = "stage1" if config.loss_type == "distillation" else "stage1 (E5-V)"
    train_and_save(
        trainer, processor, stage, {**record, "skipped_rows": len(bad_rows), "model": model_arguments.model}
    )
    if config.process_index == 0:
        print(config.output_dir)


if __name__ == "__main__":
    main()
