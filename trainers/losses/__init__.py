# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Losses of UniME: plain modules on embeddings, without a model and without a process group inside.

- ``SimilarityDistillationLoss``: stage 1, the student copies the similarities of a text teacher (UniME, Eq. 2).
- ``HardNegativeInfoNCELoss``: stage 2, false negatives are dropped, the hardest others are used (UniME, Eq. 4).
- ``InfoNCELoss``: the baseline in which every other candidate is a negative (VLM2Vec).
- ``SoftLabelLoss``: each query's own candidates, labelled by the scores of a judge (UniME-V2).
- ``MatryoshkaLoss``: any of them at several widths of the embeddings.
"""

from trainers.losses.hard_negative_info_nce import HardNegativeInfoNCELoss
from trainers.losses.info_nce import InfoNCELoss
from trainers.losses.matryoshka import MatryoshkaLoss
from trainers.losses.similarity_distillation import SimilarityDistillationLoss
from trainers.losses.soft_label import SoftLabelLoss

__all__ = ["HardNegativeInfoNCELoss", "InfoNCELoss", "MatryoshkaLoss", "SimilarityDistillationLoss", "SoftLabelLoss"]
