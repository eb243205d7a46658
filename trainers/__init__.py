# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Training: both stages as ordinary Hugging Face trainers, their losses, teachers and mining."""

import importlib

# By name, the module that holds it. Imported at first use: the losses alone need none of the libraries of the trainers.
_PUBLIC = {
    "DistillationConfig": "distillation_config",
    "DistillationTrainer": "distillation_trainer",
    "HardNegativeConfig": "hard_negative_config",
    "HardNegativeTrainer": "hard_negative_trainer",
    "encode_teacher": "teachers",
    "mine_hard_negatives": "mining.mine",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
