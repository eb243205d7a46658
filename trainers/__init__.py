# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Training: both stages as ordinary Hugging Face trainers, their losses, teachers and mining."""

from unime.lazy_names import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
        "DistillationConfig": "trainers.distillation_config",
        "DistillationTrainer": "trainers.distillation_trainer",
        "HardNegativeConfig": "trainers.hard_negative_config",
        "HardNegativeTrainer": "trainers.hard_negative_trainer",
        "encode_teacher": "trainers.teachers",
        "mine_hard_negatives": "trainers.mining.mine",
    },
)
