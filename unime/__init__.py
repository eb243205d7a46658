# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""UniME: universal multimodal embeddings. The public names of all packages, and what the packages share.

from unime import HardNegativeTrainer, UniMEModel
"""

from unime.lazy_names import lazy_names

__getattr__, __all__ = lazy_names(
    __name__,
    {
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
        "UniMEIndex": "search",
        "UniMEModel": "modeling_unime",
        "UniMEProcessor": "modeling_unime",
        "encode_teacher": "trainers",
        "mine_hard_negatives": "trainers",
    },
)
