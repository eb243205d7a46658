# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Distillation of a teacher's similarities: the loss of stage 1."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.losses.blocks import (
    DEFAULT_BLOCK_SIZE,
    check_count,
    check_group_ids,
    check_matrix,
    check_temperature,
    map_row_blocks,
    mean_where,
    other_candidates,
    row_entropy,
    row_kl,
)
from trainers.losses.unit_rows import common_dtype, unit_rows

DIRECTIONS = ("teacher_to_student", "student_to_teacher", "symmetric")


def _row_similarity_statistics(student: Tensor, teacher: Tensor, others: Tensor) -> dict[str, Tensor]:
    """Mean and Pearson correlation per row, each (B,), over the chosen pairs of two similarity matrices, (B, N)."""
    num_others = others.sum(dim=1, keepdim=True)  # (B, 1)
    divisor = num_others.clamp(min=1)
    student_mean = (student * others).sum(dim=1, keepdim=True) / divisor  # (B, 1)
    teacher_mean = (teacher * others).sum(dim=1, keepdim=True) / divisor  # (B, 1)
    student_centred = (student - student_mean) * others  # (B, N)
    teacher_centred = (teacher - teacher_mean) * others  # (B, N)
    student_spread = (student_centred.square().sum(dim=1) / divisor.squeeze(1)).sqrt()  # (B,)
    teacher_spread = (teacher_centred.square().sum(dim=1) / divisor.squeeze(1)).sqrt()  # (B,)
    covariance = (student_centred * teacher_centred).sum(dim=1) / divisor.squeeze(1)  # (B,)
    rounding = 16 * torch.finfo(student.dtype).eps  # what varies less than this does not vary
    return {
        "num_others": num_others.squeeze(1),
        "student_mean": student_mean.squeeze(1),
        "teacher_mean": teacher_mean.squeeze(1),
        "correlation": covariance / (student_spread * teacher_spread).clamp(min=rounding**2),
        "varies": (student_spread > rounding) & (teacher_spread > rounding),
    }


class SimilarityDistillationLoss(nn.Module):
    """Kullback-Leibler divergence between the similarity distributions of teacher and student.

    For the N texts of a batch, with embeddings s_i of the student and t_i of the teacher (UniME, arXiv 2504.17432,
    Eq. 2):

        P_student(i)_j = softmax_j( cos(s_i, s_j) / temperature )      P_teacher(i)_j likewise
        L = mean_i KL( P_teacher(i) || P_student(i) )

    Only N x N similarities are compared, so the two may differ in width and no projection is needed. The teacher gets
    no gradient.

    Readings of the paper, each an option or a constant factor: the printed formula puts the student first
    (``direction="student_to_teacher"``), keeps the diagonal (``include_self=True``), shows only its term in the
    numerator (here: the whole row, as the paper's figure has it), sums over i (here: the mean, so that the learning
    rate does not depend on N), and gives no temperature.

    There is no option for a softmax over columns: the matrix of a batch with itself is symmetric, so the columns'
    distributions are the rows', and the loss is the same number. (It would differ between two unlike sets of texts.)

    Why the diagonal is left out by default: cos(s_i, s_i) = 1 in both spaces, whatever the weights. At a small
    temperature this one term takes nearly all the mass of both distributions, and the loss goes flat.

    Args:
        temperature: divisor of the student's cosines. Default: 0.05.
        include_self: whether a text's similarity with itself takes part. Default: False.
        direction: "teacher_to_student" is KL(P_teacher || P_student), "student_to_teacher" is
            KL(P_student || P_teacher), "symmetric" is the mean of the two. Default: "teacher_to_student".
        teacher_temperature: divisor of the teacher's cosines; with another than the student's, equal cosines are no
            longer the optimum. Default: None, the same as ``temperature``.
        states: type in which the student computes its hidden states, though its embeddings come in float32; for the
            statistic ``resolution`` only. Default: float32.
        block_size: rows whose similarities are held at a time; changes memory (block_size x N), not values.
            Default: 1024.

    Attributes:
        statistics: after each forward, detached scalars. ``teacher_entropy``, ``student_entropy``: mean entropy, in
            nats, of the rows of the two distributions. ``teacher_similarity``, ``student_similarity``: mean cosine
            between different texts. ``similarity_correlation``: mean, over rows in which both vary, of the Pearson
            correlation between the teacher's and the student's cosines with the other texts. A mean over no rows is 0.

    Raises:
        ValueError: an option is out of range.

    Example:
        >>> import torch
        >>> loss = SimilarityDistillationLoss()
        >>> teacher = torch.eye(4)
        >>> student = torch.cat([teacher, teacher], dim=1)  # another width, the same cosines
        >>> print(f"{loss(student, teacher).item():.4f}")
        0.0000
    """

    def __init__(
        self,
        temperature: float = 0.05,
        include_self: bool = False,
        direction: str = "teacher_to_student",
        teacher_temperature: float | None = None,
        states: torch.dtype = torch.float32,
        block_size: int = DEFAULT_BLOCK_SIZE,
    ) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        self.teacher_temperature = self.temperature
        if teacher_temperature is not None:
            self.teacher_temperature = check_temperature(teacher_temperature, "teacher_temperature")
        self.states = states
        if include_self not in (True, False):
            raise ValueError(f"include_self must be True or False, got {include_self!r}")
        self.include_self = include_self
        if direction not in DIRECTIONS:
            raise ValueError(f"direction must be one of {DIRECTIONS}, got {direction!r}")
        self.direction = direction
        self.block_size = check_count("block_size", block_size)
        self.statistics: dict[str, Tensor] = {}

    def forward(self, student: Tensor, teacher: Tensor, *, group_ids: Tensor | None = None) -> Tensor:
        """Computes the mean divergence of the rows.

        Args:
            student: (N, Ds), of any length.
            teacher: (N, Dt), of any length; row i embeds the same text as row i of ``student``.
            group_ids: (N,) integers; the same id means the same text. A copy of text i has cosine 1 with it in both
                spaces: it is the diagonal over again, and is treated like it, left out with ``include_self=False``
                and kept with True. Every text needs an id. Default: all texts differ.

        Returns:
            Scalar. A row with no other text left (a batch of one, or of copies) adds 0 to the mean.

        Raises:
            ValueError: shapes or types do not fit, or a row holds NaN or infinity.
        """
        check_matrix("student", student)
        check_matrix("teacher", teacher)
        if len(student) != len(teacher):
            raise ValueError(
                f"student and teacher must embed the same texts, row by row; got {len(student)} and {len(teacher)}"
            )
        check_group_ids(group_ids, len(student))
        with torch.autocast(student.device.type, enabled=False):
            dtype = common_dtype(student, teacher)
            student, teacher = unit_rows("student", student, dtype), unit_rows("teacher", teacher.detach(), dtype)
            rows = torch.arange(len(student), device=student.device)  # (N,)
            block = partial(self._block, all_student=student, all_teacher=teacher, group_ids=group_ids)
            losses, row_statistics = map_row_blocks(block, (rows, student, teacher), self.block_size)
        self.statistics = self._summarise(**row_statistics)
        return losses.mean()

    def _block(
        self,
        rows: Tensor,
        student: Tensor,
        teacher: Tensor,
        *,
        all_student: Tensor,
        all_teacher: Tensor,
        group_ids: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Row losses and row statistics of one block: rows (B,), student (B, Ds), teacher (B, Dt)."""
        student_similarities = student @ all_student.T  # (B, N)
        teacher_similarities = teacher @ all_teacher.T  # (B, N)
        columns = torch.arange(len(all_student), device=rows.device)  # (N,)
        others = other_candidates(rows, columns, group_ids)  # (B, N)
        log_student = self._log_distribution(student_similarities / self.temperature, others)  # (B, N)
        log_teacher = self._log_distribution(teacher_similarities / self.teacher_temperature, others)  # (B, N)
        if self.direction == "teacher_to_student":
            losses = row_kl(log_teacher, log_student)  # (B,)
        elif self.direction == "student_to_teacher":
            losses = row_kl(log_student, log_teacher)  # (B,)
        else:
            losses = (row_kl(log_teacher, log_student) + row_kl(log_student, log_teacher)) / 2  # (B,)
        with torch.no_grad():
            statistics = _row_similarity_statistics(student_similarities, teacher_similarities, others)
            statistics["student_entropy"] = row_entropy(log_student)
            statistics["teacher_entropy"] = row_entropy(log_teacher)
            statistics["resolution"] = self._row_resolution(log_teacher, student.shape[1])
        return losses, statistics

    def _log_distribution(self, logits: Tensor, others: Tensor) -> Tensor:
        """Log-softmax of each row over the texts that take part, (B, N)."""
        if not self.include_self:
            # The lowest finite number has probability 0, as -inf would, but 0 * (low - low) is 0 where
            # 0 * (-inf + inf) is NaN; and a row with nothing left becomes uniform on both sides: a divergence of 0.
            logits = logits.masked_fill(~others, torch.finfo(logits.dtype).min)
        return F.log_softmax(logits, dim=1)

    def _row_resolution(self, log_p: Tensor, dimension: int) -> Tensor:
        """What rounding adds to the divergence of each row at the optimum, (B,), of a log-distribution, (B, N).

        1. A log-probability has a relative error of eps / 2, and the logarithm of a sum near 1 an absolute one of
           eps / 2. Weighted by the row and added up for both sides: eps * (entropy + 1).
        2. A component of a state has a relative error of up to u = eps / 2 of the states' type. Independent errors of D
           components move a cosine by about u / sqrt(D), a logit by d = u / (temperature * sqrt(D)). Both rows are
           still distributions, so the first order of their divergence vanishes; the second is half the variance of d
           over the row, d^2 * (1 - sum of p^2) / 2. Layers that round one after another add to it, so this is little.

        Near the optimum the two sides are one, and both directions have the same second order.
        """
        rounding = torch.finfo(log_p.dtype).eps * (row_entropy(log_p) + 1)  # (B,)
        logit_error = torch.finfo(self.states).eps / 2 / (self.temperature * math.sqrt(dimension))
        return rounding + logit_error**2 / 2 * (1 - log_p.exp().square().sum(dim=1))

    def _summarise(
        self,
        num_others: Tensor,
        student_mean: Tensor,
        teacher_mean: Tensor,
        correlation: Tensor,
        varies: Tensor,
        student_entropy: Tensor,
        teacher_entropy: Tensor,
        resolution: Tensor,
    ) -> dict[str, Tensor]:
        """Turns row statistics, each (N,), into scalars."""
        has_others = num_others > 0  # (N,)
        has_distribution = has_others | self.include_self  # (N,)
        return {
            "teacher_entropy": mean_where(teacher_entropy, has_distribution),
            "student_entropy": mean_where(student_entropy, has_distribution),
            "resolution": mean_where(resolution, has_distribution),
            "teacher_similarity": mean_where(teacher_mean, has_others),
            "student_similarity": mean_where(student_mean, has_others),
            "similarity_correlation": mean_where(correlation, varies),
        }
