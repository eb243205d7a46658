# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Compute the teacher's vectors before stage 1, on as many processes as there are, and perhaps share them.

    python -m unime.launch encode_teacher RECIPE.yaml --texts nli.csv --teacher_cache CACHE [--parquet FILE]

It takes the recipe of stage 1, from which it reads the teacher. Training with the same teacher, texts and
`--teacher_cache` then computes nothing anew. Started again after it was stopped, it continues.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState

from trainers.data.texts import load_texts
from trainers.distillation_config import DistillationConfig
from trainers.run import ModelArguments
from trainers.teacher_arguments import TeacherArguments, check_teacher, teacher_vectors
from trainers.teachers import export_parquet
from trainers.train_stage1 import Stage1Arguments
from unime.data.bad_rows import BadRows
from unime.distributed import check_world_size
from unime.options import parse_dataclasses, run_command
from unime.output_folder import check_writable


@dataclass
class EncodeArguments:
    """What is written, and by how many processes."""

    parquet: str | None = field(
        default=None,
        metadata={
            "help": "Also write the vectors to this Parquet file (columns text and embedding), which stage 1 takes as "
            "teacher on another machine."
        },
    )
    expected_world_size: int = field(
        default=0, metadata={"help": "Refuse to run with another number of processes than this; 0 takes any."}
    )


def main(argv: Sequence[str] | None = None, prog: str = "python -m trainers.encode_teacher") -> None:
    """Encode; the last line printed is the path of what it wrote: the Parquet file, or else the cache."""
    arguments, teacher_arguments, encode_arguments = parse_dataclasses(
        (Stage1Arguments, TeacherArguments, EncodeArguments),
        argv,
        ignored=(ModelArguments, DistillationConfig),
        stage="stage1",
        prog=prog,
        description="Compute the vectors of the stage 1 teacher (UniME, arXiv 2504.17432, section 3.2) ahead of training.",
    )
    if teacher_arguments.teacher_cache is None:
        raise ValueError("teacher_cache is not given. Name the folder that the training will read.")
    if teacher_arguments.stored_suffix is not None:
        raise ValueError(f"{teacher_arguments.teacher} holds vectors already. Give it to the training as teacher.")
    check_writable(teacher_arguments.teacher_cache, "teacher_cache")
    if encode_arguments.parquet is not None:
        check_writable(Path(encode_arguments.parquet).parent, "folder of parquet,")
    check_teacher(teacher_arguments)
    state = PartialState(cpu=teacher_arguments.teacher_device == "cpu")
    check_world_size(encode_arguments.expected_world_size)
    texts = load_texts(
        arguments.texts, arguments.columns, BadRows(arguments.on_bad_row), arguments.max_rows_per_source
    )
    vectors = teacher_vectors(texts, teacher_arguments, teacher_arguments.teacher_cache, str(state.device))
    if state.is_main_process:
        if encode_arguments.parquet is not None:
            export_parquet(encode_arguments.parquet, texts, vectors)
        print(encode_arguments.parquet or teacher_arguments.teacher_cache)
    state.destroy_process_group()


if __name__ == "__main__":
    run_command(main)
