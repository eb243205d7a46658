# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Options of stage 1, textual discriminative knowledge distillation."""

from dataclasses import dataclass, field, fields

from trainers.embedding_config import EmbeddingTrainingConfig
from trainers.losses.blocks import check_temperature
from trainers.losses.similarity_distillation import DIRECTIONS

LOSS_TYPES = ("distillation", "contrastive")
DISTILLATION_ONLY = ("teacher_temperature", "include_self", "direction")


@dataclass
class DistillationConfig(EmbeddingTrainingConfig):
    """Options of [`DistillationTrainer`] (UniME, arXiv 2504.17432, section 3.2 and Eq. 2), or of its baseline."""

    loss_type: str = field(
        default="distillation",
        metadata={
            "help": "distillation: UniME's stage 1. contrastive: InfoNCE on text triplets without a teacher, the E5-V "
            "recipe; per_device_train_batch_size then counts triplets.",
            "choices": list(LOSS_TYPES),
        },
    )
    temperature: float = field(
        default=0.05,
        metadata={
            "help": "Temperature of the similarity distributions of teacher and student (not given in the paper), or of "
            "the similarities with loss_type contrastive (E5-V: 0.05)."
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
    exclude_known_positives: bool = field(
        default=True,
        metadata={
            "help": "With loss_type contrastive, a query that several rows have: its positives of the other rows are never "
            "its negatives. false: E5-V's plain rule, but for copies of the row's own positive, which are none either."
        },
    )

    def __post_init__(self):
        super().__post_init__()
        # Before the teacher encodes a million texts, not after.
        check_temperature(self.temperature)
        if self.teacher_temperature is not None:
            check_temperature(self.teacher_temperature, "teacher_temperature")
        if self.loss_type not in LOSS_TYPES:
            raise ValueError(f"loss_type must be one of {LOSS_TYPES}, got {self.loss_type!r}")
        if self.loss_type == "distillation" and not self.exclude_known_positives:
            raise ValueError("exclude_known_positives is an option of loss_type contrastive; leave it out otherwise")
        if self.loss_type == "contrastive":
            defaults = {entry.name: entry.default for entry in fields(DistillationConfig)}
            for name in DISTILLATION_ONLY:
                if getattr(self, name) != defaults[name]:
                    raise ValueError(f"{name} is an option of loss_type distillation; leave it out with contrastive")
