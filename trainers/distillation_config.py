# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Options of stage 1, textual discriminative knowledge distillation."""

from dataclasses import dataclass, field
from pathlib import Path

from trainers.embedding_config import EmbeddingTrainingConfig
from trainers.losses.checks import check_temperature
from trainers.losses.similarity_distillation import DIRECTIONS


@dataclass
class DistillationConfig(EmbeddingTrainingConfig):
    """Options of [`DistillationTrainer`] (UniME, arXiv 2504.17432, section 3.2 and Eq. 2).

    Example::

        from trainers import DistillationConfig

        args = DistillationConfig(output_dir="my-stage-1", temperature=0.05, per_device_train_batch_size=256)
    """

    temperature: float = field(
        default=0.05,
        metadata={
            "help": "Temperature of the similarity distributions of teacher and student (not given in the paper)."
        },
    )
    teacher_temperature: float | None = field(
        default=None,
        metadata={"help": "Temperature of the teacher's distributions. Default: the same as the student's."},
    )
    include_self: bool = field(
        default=False,
        metadata={
            "help": "Keep each text's similarity to itself in its distribution, as Eq. 2 prints it. It is always 1 and "
            "at a small temperature outweighs the rest, so the loss says little."
        },
    )
    direction: str = field(
        default="teacher_to_student",
        metadata={
            "help": "teacher_to_student: KL(teacher || student). student_to_teacher: KL(student || teacher), the order "
            "of arguments in Eq. 2. symmetric: the mean of both.",
            "choices": list(DIRECTIONS),
        },
    )

    teacher_cache: str | None = field(
        default=None,
        metadata={
            "help": "Folder of the teacher's vectors; runs may share it, and all machines of a run must. Default: "
            "teacher_vectors in output_dir."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        self.teacher_cache = self.teacher_cache or str(Path(self.output_dir, "teacher_vectors"))
        # Before the teacher encodes a million texts, not after.
        check_temperature(self.temperature)
        if self.teacher_temperature is not None:
            check_temperature(self.teacher_temperature, "teacher_temperature")
