# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Stage 1 from the command line: distil a text-embedding teacher into the LLM of a multimodal model.

    python -m trainers.train_stage1 examples/recipes/tiny-cpu/stage1.yaml --model MODEL --texts nli.csv --output_dir OUT

Started again with the same command after it was stopped, it continues.
"""

from collections.abc import Sequence
from pathlib import Path

from trainers.data.texts import TextArguments, load_texts
from trainers.distillation_config import DistillationConfig
from trainers.distillation_trainer import DistillationTrainer
from trainers.run import ModelArguments, begin_run, train_and_save
from trainers.teachers.load import TeacherArguments
from unime.data.bad_rows import BadRows
from unime.options import parse_dataclasses, run_command
from unime.output_folder import only_writer


def main(argv: Sequence[str] | None = None, prog: str = "python -m trainers.train_stage1") -> None:
    """Run stage 1; the last line printed is the path of the model it wrote."""
    options = parse_dataclasses(
        (ModelArguments, TextArguments, TeacherArguments, DistillationConfig),
        argv,
        required=("output_dir",),
        stage="stage1",
        prog=prog,
        description="Stage 1: textual discriminative knowledge distillation (UniME, arXiv 2504.17432, section 3.2).",
    )
    config = options[-1]
    with only_writer(config.output_dir, "output_dir", active=config.process_index == 0):
        train(*options)


def train(
    model_arguments: ModelArguments,
    arguments: TextArguments,
    teacher_arguments: TeacherArguments,
    config: DistillationConfig,
) -> None:
    """Train and save; the last line printed is the path of the model."""
    if not begin_run(model_arguments, arguments, config, teacher_arguments):
        return
    teacher = teacher_arguments.load(config.teacher_cache, str(config.device))
    bad_rows = BadRows(arguments.on_bad_row)
    texts = load_texts(arguments.texts, arguments.columns, bad_rows, arguments.max_rows_per_source)
    if config.process_index == 0 and len(bad_rows):
        bad_rows.write(Path(config.output_dir, "bad_rows.json"))
    trainer = DistillationTrainer(model_arguments.model, config, train_dataset=texts, teacher=teacher)
    record = {"texts": len(texts), "teacher": teacher_arguments.teacher, "skipped_rows": len(bad_rows)}
    train_and_save(trainer, "stage1", {**record, "model": model_arguments.model})
    if config.process_index == 0:
        print(config.output_dir)


if __name__ == "__main__":
    run_command(main)
