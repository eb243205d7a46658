# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Options of stage 1, textual discriminative knowledge distillation."""

from dataclasses import dataclass, field

from trainers.embedding_config import EmbeddingTrainingConfig
from trainers.losses.checks import check_temperature
from trainers.losses.similarity_distillation import DIRECTIONS


@dataclass
class DistillationConfig(EmbeddingTrainingConfig):
    """Options of [`DistillationTrainer`] (UniME, arXiv 2504.17432, section 3.2 and Eq. 2)."""

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

    def __post_init__(self):
        super().__post_init__()
        # Before the teacher encodes a million texts, not after.
        check_temperature(self.temperature)
        if self.teacher_temperature is not None:
            check_temperature(self.teacher_temperature, "teacher_temperature")
