# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""UniME: universal multimodal embeddings. The public names of all packages, and what the packages share.

from unime import HardNegativeTrainer, UniMEModel
"""

import importlib

# By name, the module that holds it; imported at first use.
_PUBLIC = {
    "DistillationConfig": "trainers",
    "DistillationTrainer": "trainers",
    "Encoder": "evaluation.encoder",
    "HardNegativeConfig": "trainers",
    "HardNegativeInfoNCELoss": "trainers.losses",
    "HardNegativeTrainer": "trainers",
    "InfoNCELoss": "trainers.losses",
    "SimilarityDistillationLoss": "trainers.losses",
    "SoftLabelLoss": "trainers.losses",
    "UniMEConfig": "modeling_unime",
    "UniMEModel": "modeling_unime",
    "UniMEProcessor": "modeling_unime",
    "encode_teacher": "trainers",
    "mine_hard_negatives": "trainers",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
