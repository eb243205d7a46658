# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Compute the teacher's vectors before stage 1, on as many processes as there are, and perhaps share them.

    unime launch encode-teacher RECIPE.yaml --texts nli.csv --teacher_cache CACHE [--parquet FILE]

It takes the recipe of stage 1, from which it reads the teacher. Training with the same teacher, texts and
`--teacher_cache` then computes nothing anew. Started again after it was stopped, it continues.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import PartialState

from trainers.data.texts import TextArguments, load_texts
from trainers.distillation_config import DistillationConfig
from trainers.run import ModelArguments
from trainers.teachers.encode import encode_teacher
from trainers.teachers.load import TeacherArguments
from trainers.teachers.vector_files import VectorFiles
from unime.data.bad_rows import BadRows
from unime.distributed import check_world_size
from unime.files import atomic_path
from unime.options import parse_dataclasses, run_command
from unime.output_folder import check_writable


@dataclass
class EncodeArguments:
    """What is written, and by how many processes."""

    teacher_cache: str = field(metadata={"help": "Folder of the teacher's vectors, which the training will read."})
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


def main(argv: Sequence[str] | None = None, prog: str = "python -m trainers.encode_texts") -> None:
    """Encode; the last line printed is the path of what it wrote: the Parquet file, or else the cache."""
    arguments, teacher_arguments, output = parse_dataclasses(
        (TextArguments, TeacherArguments, EncodeArguments),
        argv,
        ignored=(ModelArguments, DistillationConfig),
        stage="stage1",
        prog=prog,
        description="Compute the vectors of the stage 1 teacher (UniME, arXiv 2504.17432, section 3.2) ahead of training.",
    )
    check_writable(output.teacher_cache, "teacher_cache")
    if output.parquet is not None:
        check_writable(Path(output.parquet).parent, "folder of parquet,")
    state = PartialState(cpu=teacher_arguments.teacher_device == "cpu")
    teacher = teacher_arguments.load(output.teacher_cache, str(state.device))
    if isinstance(teacher, VectorFiles):
        raise ValueError(f"{teacher_arguments.teacher} holds vectors already; give it to the training as teacher")
    check_world_size(output.expected_world_size)
    bad_rows = BadRows(arguments.on_bad_row)
    texts = load_texts(arguments.texts, arguments.columns, bad_rows, arguments.max_rows_per_source)
    encoded = encode_teacher(texts, teacher, cache=output.teacher_cache)
    if state.is_main_process:
        if output.parquet is not None:
            with atomic_path(output.parquet) as temporary:
                encoded.to_parquet(temporary)
        print(output.parquet or output.teacher_cache)
    state.destroy_process_group()


if __name__ == "__main__":
    run_command(main)
