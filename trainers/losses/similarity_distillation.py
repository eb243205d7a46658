# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Distillation of a teacher's similarities: the loss of stage 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainers.losses.base import DEFAULT_BLOCK_SIZE, RowLoss
from trainers.losses.blocks import log_distribution, map_row_blocks, other_candidates, row_entropy, row_kl
from trainers.losses.checks import FLOATS, INTEGERS, check_choice, check_temperature, check_tensor
from trainers.losses.unit_rows import measure_rows

DIRECTIONS = ("teacher_to_student", "student_to_teacher", "symmetric")


def _compare_similarities(student: Tensor, teacher: Tensor, others: Tensor) -> dict[str, Tensor]:
    """Means and Pearson correlation of the chosen pairs of two similarity matrices, (B, N), per row, (B,); NaN without."""
    num_others = others.sum(dim=1)  # (B,)

    def mean(values: Tensor) -> Tensor:
        return ((values * others).sum(dim=1) / num_others.clamp(min=1)).unsqueeze(1)  # (B, 1)

    student_mean, teacher_mean = mean(student), mean(teacher)
    student_spread = mean((student - student_mean).square()).sqrt()
    teacher_spread = mean((teacher - teacher_mean).square()).sqrt()
    covariance = mean((student - student_mean) * (teacher - teacher_mean))
    rounding = 16 * torch.finfo(student.dtype).eps  # what varies less than this does not vary
    constant = (student_spread <= rounding) | (teacher_spread <= rounding)  # (B, 1)
    correlation = (covariance / (student_spread * teacher_spread)).masked_fill(constant, torch.nan)
    without_others = num_others == 0
    return {
        "teacher_similarity": teacher_mean.squeeze(1).masked_fill(without_others, torch.nan),
        "student_similarity": student_mean.squeeze(1).masked_fill(without_others, torch.nan),
        "similarity_correlation": correlation.squeeze(1),
    }


class SimilarityDistillationLoss(RowLoss):
    """Kullback-Leibler divergence between the similarity distributions of teacher and student.

    Example::

        import torch
        from trainers.losses import SimilarityDistillationLoss

        loss = SimilarityDistillationLoss()
        teacher = torch.eye(4)
        student = torch.cat([teacher, teacher], dim=1)  # another width, the same cosines
        assert abs(loss(student, teacher).item()) < 1e-6

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
            correlation between the teacher's and the student's cosines with the other texts. ``resolution``: what rounding
            alone adds to the loss at the optimum; below it a loss has nothing to teach. A mean over no rows is 0.
        row_statistics: after each forward, the same of each row and its ``loss``, detached (N,); not finite where a row
            has none.

    Raises:
        ValueError: an option is out of range.
    """

    num_embeddings = 1  # the teacher's vectors are another model's

    def __init__(
        self,
        temperature: float = 0.05,
        include_self: bool = False,
        direction: str = "teacher_to_student",
        teacher_temperature: float | None = None,
        states: torch.dtype = torch.float32,
        block_size: int = DEFAULT_BLOCK_SIZE,
    ) -> None:
        super().__init__(temperature, block_size)
        self.teacher_temperature = self.temperature
        if teacher_temperature is not None:
            self.teacher_temperature = check_temperature(teacher_temperature, "teacher_temperature")
        self.states = states
        if include_self not in (True, False):
            raise ValueError(f"include_self must be True or False, got {include_self!r}")
        self.include_self = include_self
        self.direction = check_choice("direction", direction, DIRECTIONS)

    def forward(self, student: Tensor, teacher: Tensor, *, group_ids: Tensor | None = None) -> Tensor:
        """Computes the mean divergence of the rows.

        Args:
            student: (N, Ds), of any length.
            teacher: (N, Dt), of any length; row i embeds the same text as row i of ``student``.
            group_ids: (N,) integers; the same id means the same text. A copy of text i has cosine 1 with it in both
                spaces: it is the diagonal over again, and is treated like it, left out with ``include_self=False``
                and kept with True. Every text needs an id. Default: all texts differ.

        Returns:
            Scalar, in float32 (float64 if an input is). A row with no other text left (a batch of one, or of copies) adds 0 to the mean.

        Raises:
            ValueError: shapes or types do not fit, or a row holds NaN or infinity.
        """
        check_tensor("student", student, FLOATS, (None, None), "a floating-point matrix with one embedding per row")
        num_texts = len(student)
        wanted = f"a floating-point matrix that embeds the same texts as student, row by row ({num_texts})"
        check_tensor("teacher", teacher, FLOATS, (num_texts, None), wanted)
        if group_ids is not None:
            wanted = f"a tensor of integers (torch.long) with one id per text, ({num_texts},)"
            check_tensor("group_ids", group_ids, INTEGERS, (num_texts,), wanted)
        with torch.autocast(student.device.type, enabled=False):
            student_rows, teacher_rows = measure_rows(student=student, teacher=teacher.detach())
            losses, rows = self._compute_rows(student_rows.matrix(), teacher_rows.matrix(), group_ids)
        return self._mean(losses, rows)

    def _compute_rows(
        self, all_student: Tensor, all_teacher: Tensor, group_ids: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses and statistics of the rows, (N,), of unit rows (N, Ds) and (N, Dt)."""
        columns = torch.arange(len(all_student), device=all_student.device)  # (N,)

        def compute_block(rows: Tensor, student: Tensor, teacher: Tensor):
            student_similarities = student @ all_student.T  # (B, N)
            teacher_similarities = teacher @ all_teacher.T  # (B, N)
            others = other_candidates(rows, columns, group_ids)  # (B, N)
            present = torch.ones_like(others) if self.include_self else others  # (B, N)
            log_student = log_distribution(student_similarities / self.temperature, present)  # (B, N)
            log_teacher = log_distribution(teacher_similarities / self.teacher_temperature, present)  # (B, N)
            if self.direction == "teacher_to_student":
                losses = row_kl(log_teacher, log_student)  # (B,)
            elif self.direction == "student_to_teacher":
                losses = row_kl(log_student, log_teacher)  # (B,)
            else:
                losses = (row_kl(log_teacher, log_student) + row_kl(log_student, log_teacher)) / 2  # (B,)
            with torch.no_grad():
                distributions = {
                    "teacher_entropy": row_entropy(log_teacher),
                    "student_entropy": row_entropy(log_student),
                    "resolution": self._row_resolution(log_teacher, student.shape[1]),
                }
                empty = ~present.any(dim=1)  # (B,)
                statistics = {name: values.masked_fill(empty, torch.nan) for name, values in distributions.items()}
                statistics |= _compare_similarities(student_similarities, teacher_similarities, others)
            return losses, statistics

        return map_row_blocks(compute_block, (columns, all_student, all_teacher), self.block_size)

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
