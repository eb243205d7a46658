# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Distillation of similarity distributions: parity, diagonal, directions, copies, blocks."""

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainers.losses import SimilarityDistillationLoss
from trainers.losses.similarity_distillation import DIRECTIONS


def loss_and_gradient(loss, student, teacher, **options):
    value = loss(student, teacher, **options)
    return value, torch.autograd.grad(value, student)[0]


def golden_cases(golden_dir):
    cases = json.loads((golden_dir / "kl_stage1" / "cases.json").read_text())["cases"]
    with np.load(golden_dir / "kl_stage1" / "arrays.npz") as arrays:
        arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    for case in cases:
        student = arrays[f"{case['data']}.student"].clone().requires_grad_()
        teacher = arrays[f"{case['data']}.teacher"].clone().requires_grad_()
        options = {"temperature": case["tau"], "include_self": case["diagonal"] == "included"}
        yield case, student, teacher, options, arrays[f"{case['key']}.grad_student"]


@pytest.mark.parametrize("block_size", [5, 1024])
def test_parity_with_the_independent_computation(golden_dir, block_size):
    compared = set()
    for case, student, teacher, options, expected_gradient in golden_cases(golden_dir):
        loss = SimilarityDistillationLoss(block_size=block_size, **options)
        value, gradient = loss_and_gradient(loss, student, teacher)
        assert value.dtype == torch.float64
        # An absolute term for tau = 1, where the value itself is a difference of nearly equal numbers.
        assert value.item() == pytest.approx(case["loss"], rel=1e-9, abs=1e-15), case["key"]
        # The reference differentiates unit vectors; we normalise inside, which takes out the part along the vector.
        rows = student.detach()
        expected_gradient = expected_gradient - (expected_gradient * rows).sum(dim=1, keepdim=True) * rows
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-12)
        compared.add((case["tau"], case["diagonal"]))
    assert len(compared) == 6


def test_parity_of_the_reverse_direction(golden_dir):
    for case, student, teacher, options, _ in golden_cases(golden_dir):
        loss = SimilarityDistillationLoss(direction="student_to_teacher", **options)
        value = loss(student, teacher).item()
        assert value == pytest.approx(case["reverse_kl"], rel=1e-9, abs=1e-15), case["key"]
        assert value != pytest.approx(case["loss"], rel=1e-4)


def test_parity_in_float32(golden_dir):
    for case, student, teacher, options, _ in golden_cases(golden_dir):
        if case["tau"] == 1.0:  # 4e-5, below what float32 resolves in a mean of logarithms
            continue
        value = SimilarityDistillationLoss(**options)(student.float(), teacher.float())
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(case["loss"], rel=1e-4), case["key"]


def test_value_a_reader_can_compute():
    # Texts 0 and 1 are alike for the teacher, text 2 is apart; the student sees no difference at all.
    teacher = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    student = torch.ones(3, 5)
    high = math.e / (math.e + 1)
    entropy = -high * math.log(high) - (1 - high) * math.log(1 - high)
    expected = (2 * (math.log(2) - entropy) + 0) / 3  # row 2 is even on both sides
    loss = SimilarityDistillationLoss(temperature=1.0)
    assert loss(student, teacher).item() == pytest.approx(expected)
    assert loss.statistics["student_entropy"].item() == pytest.approx(math.log(2))
    assert loss.statistics["teacher_entropy"].item() == pytest.approx((2 * entropy + math.log(2)) / 3)
    assert loss.statistics["student_similarity"].item() == pytest.approx(1)
    assert loss.statistics["teacher_similarity"].item() == pytest.approx(1 / 3)
    assert loss.statistics["similarity_correlation"] == 0  # the student's similarities do not vary
    reverse = SimilarityDistillationLoss(temperature=1.0, direction="student_to_teacher")
    expected = 2 * (-math.log(2) - 0.5 * (math.log(high) + math.log(1 - high))) / 3
    assert reverse(student, teacher).item() == pytest.approx(expected)


def test_symmetric_is_the_mean_of_both_directions(embed):
    pair = embed(9, 4, seed=0), embed(9, 6, seed=1)
    groups = torch.arange(9) % 7
    forward, backward, symmetric = (
        loss_and_gradient(SimilarityDistillationLoss(direction=direction), *pair, group_ids=groups)
        for direction in DIRECTIONS
    )
    for one, other, both in zip(forward, backward, symmetric, strict=True):
        assert not torch.allclose(one, other, rtol=0.01)
        torch.testing.assert_close(both, (one + other) / 2)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_teacher_temperature_divides_the_teachers_cosines_only(embed, direction):
    """Half the temperature of a side whose cosines are half as large is the same distribution."""
    student, teacher = embed(8, 4, seed=0), embed(8, 6, seed=1).detach()
    cosines = [F.normalize(x, dim=1) @ F.normalize(x, dim=1).T for x in (student, teacher)]
    logits = [cosine / temperature for cosine, temperature in zip(cosines, (0.3, 0.1), strict=True)]
    diagonal = torch.eye(8, dtype=torch.bool)
    log_s, log_t = (x[~diagonal].view(8, 7).log_softmax(dim=1) for x in logits)
    both = [(log_t.exp() * (log_t - log_s)).sum() / 8, (log_s.exp() * (log_s - log_t)).sum() / 8]
    expected = dict(zip(DIRECTIONS, [*both, sum(both) / 2], strict=True))[direction]
    value = SimilarityDistillationLoss(0.3, direction=direction, teacher_temperature=0.1)(student, teacher)
    torch.testing.assert_close(value, expected)
    assert value.item() != pytest.approx(SimilarityDistillationLoss(0.3, direction=direction)(student, teacher).item())
    same = SimilarityDistillationLoss(0.3, direction=direction, teacher_temperature=0.3)(student, teacher)
    assert same == SimilarityDistillationLoss(0.3, direction=direction)(student, teacher)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_softmax_over_columns_is_the_same_loss(embed, include_self, direction):
    """Why there is no option for it: the matrix of a batch with itself is symmetric."""
    student, teacher = embed(9, 4, seed=0), embed(9, 6, seed=1)
    groups = torch.arange(9) % 7
    kept = torch.ones(9, 9, dtype=torch.bool) if include_self else groups.unsqueeze(0) != groups.unsqueeze(1)
    log_s, log_t = (
        ((F.normalize(x, dim=1) @ F.normalize(x, dim=1).T) / 0.2).masked_fill(~kept, -1e30).log_softmax(dim=0)
        for x in (student, teacher)
    )
    columns = [(log_t.exp() * (log_t - log_s)).sum(dim=0).mean(), (log_s.exp() * (log_s - log_t)).sum(dim=0).mean()]
    expected = dict(zip(DIRECTIONS, [*columns, sum(columns) / 2], strict=True))[direction]
    loss = SimilarityDistillationLoss(0.2, include_self, direction)
    value, gradient = loss_and_gradient(loss, student, teacher, group_ids=groups)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, student)[0])


@pytest.mark.parametrize("temperature", [0.02, 0.05, 0.2])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("states", [torch.float32, torch.bfloat16, torch.float16])
def test_resolution_is_what_rounding_adds(embed, temperature, include_self, states):
    """A student equal to the teacher but for rounding stays below the resolution; a difference is seen above it."""
    teacher = embed(64, 16, seed=0).detach()
    loss = SimilarityDistillationLoss(temperature, include_self, states=states)
    value = abs(loss(teacher.to(states).float(), teacher.float()))
    resolution = loss.statistics["resolution"]
    assert value < resolution
    if states != torch.float32 and not include_self:
        assert value > resolution / 30, "a resolution far above what rounding adds would cry wolf"
    for step in torch.logspace(-6, 0, 13, dtype=torch.float64):
        student = teacher + step * embed(64, 16, seed=1).detach()
        exact = loss(student, teacher).item()
        if exact > 10 * resolution:
            rounded = loss(student.to(states).float(), teacher.float()).item()
            assert rounded == pytest.approx(exact, rel=0.3)
    hidden = include_self and temperature == 0.02
    assert (exact > 10 * resolution) != hidden, "the last step doubles the vectors' length with noise"


@pytest.mark.parametrize("states", [torch.float32, torch.bfloat16])
def test_diagonal_at_a_small_temperature_is_below_the_resolution(embed, states):
    """A student that has learnt nothing at all, and float32 cannot tell it from a perfect one."""
    student, teacher = embed(16, 64, seed=0).float(), embed(16, 64, seed=1).float()
    loss = SimilarityDistillationLoss(temperature=0.02, include_self=True, states=states)
    assert abs(loss(student, teacher)) < loss.statistics["resolution"]
    loss = SimilarityDistillationLoss(states=states)
    assert loss(student, teacher) > 1e3 * loss.statistics["resolution"]


def test_defaults_are_those_of_the_contract(embed):
    student, teacher = embed(6, 4, seed=0), embed(6, 9, seed=1)
    explicit = SimilarityDistillationLoss(temperature=0.05, include_self=False, direction="teacher_to_student")
    torch.testing.assert_close(SimilarityDistillationLoss()(student, teacher), explicit(student, teacher))


@pytest.mark.parametrize("include_self", [True, False])
def test_same_similarities_give_zero_loss_and_zero_gradient(embed, include_self):
    student = embed(7, 5, seed=0)
    rotation, _ = torch.linalg.qr(embed(5, 5, seed=1).detach())
    loss = SimilarityDistillationLoss(include_self=include_self)
    value, gradient = loss_and_gradient(loss, student, 4 * student.detach() @ rotation)
    assert value.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)
    assert loss.statistics["similarity_correlation"].item() == pytest.approx(1)


def test_small_temperature_flattens_the_loss_with_the_diagonal_only(embed):
    """The reason for the default: with the diagonal, a student that has learnt nothing is told that all is well."""
    student, teacher = embed(8, 16, seed=0), embed(8, 32, seed=1)
    with_self = SimilarityDistillationLoss(temperature=0.02, include_self=True)(student, teacher)
    without = SimilarityDistillationLoss(temperature=0.02)(student, teacher)
    assert with_self < 1e-3 * without


def test_gradient_descent_learns_the_teachers_similarities(embed):
    student, teacher = embed(10, 6, seed=0), embed(10, 6, seed=1)
    loss = SimilarityDistillationLoss(temperature=0.2)
    optimizer = torch.optim.Adam([student], lr=0.1)
    first = loss(student, teacher).item()
    first_correlation = loss.statistics["similarity_correlation"].item()
    for _ in range(150):
        optimizer.zero_grad()
        loss(student, teacher).backward()
        optimizer.step()
    assert loss(student, teacher).item() < 0.02 * first
    assert first_correlation < 0.5 and loss.statistics["similarity_correlation"] > 0.95


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_teacher_gets_no_gradient(embed, direction):
    student, teacher = embed(5, 4, seed=0), embed(5, 3, seed=1)
    SimilarityDistillationLoss(direction=direction, block_size=2)(student, teacher).backward()
    assert teacher.grad is None and student.grad.abs().max() > 0


@pytest.mark.parametrize("direction", ["teacher_to_student", "student_to_teacher"])
def test_copies_are_left_out_like_the_diagonal(embed, direction):
    """Rows 0, 2, 4 are one text: for each of them the two others must not take part, but still do for rows 1 and 3."""
    student, teacher = embed(5, 4, seed=0).detach(), embed(5, 6, seed=1).detach()
    student[[2, 4]], teacher[[2, 4]] = student[0].clone(), teacher[0].clone()
    groups = torch.tensor([3, 1, 3, 2, 3])
    expected = []
    for row in range(5):
        columns = [column for column in range(5) if groups[column] != groups[row]]
        log_s, log_t = (
            (F.cosine_similarity(x[row : row + 1], x[columns], dim=1) / 0.5).log_softmax(dim=0)
            for x in (student, teacher)
        )
        log_p, log_q = (log_t, log_s) if direction == "teacher_to_student" else (log_s, log_t)
        expected.append((log_p.exp() * (log_p - log_q)).sum())
    loss = SimilarityDistillationLoss(temperature=0.5, direction=direction)
    torch.testing.assert_close(loss(student, teacher, group_ids=groups), torch.stack(expected).mean())
    assert loss(student, teacher).item() != pytest.approx(torch.stack(expected).mean().item(), rel=0.1)
    with_self = SimilarityDistillationLoss(direction=direction, include_self=True)
    torch.testing.assert_close(with_self(student, teacher, group_ids=groups), with_self(student, teacher))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("block_size", [2, 64])
def test_row_with_no_other_text_adds_zero(embed, direction, block_size):
    student, teacher = embed(3, 4, seed=0), embed(3, 6, seed=1)
    loss = SimilarityDistillationLoss(direction=direction, block_size=block_size)
    with torch.autograd.set_detect_anomaly(True):
        value, gradient = loss_and_gradient(loss, student, teacher, group_ids=torch.zeros(3, dtype=torch.long))
    assert value == 0 and torch.equal(gradient, torch.zeros_like(gradient))
    assert all(statistic == 0 for statistic in loss.statistics.values())
    value, gradient = loss_and_gradient(loss, student[:1].detach().requires_grad_(), teacher[:1])
    assert value == 0 and torch.equal(gradient, torch.zeros_like(gradient))


def test_one_row_without_others_among_rows_with_others(embed):
    """A mask is not symmetric in what it leaves: a batch of one text twice and another leaves one column per row."""
    student, teacher = embed(4, 4, seed=0), embed(4, 6, seed=1)
    loss = SimilarityDistillationLoss()
    with torch.autograd.set_detect_anomaly(True):
        value, gradient = loss_and_gradient(loss, student, teacher, group_ids=torch.tensor([0, 0, 0, 1]))
    # Row 3 has three columns; rows 0 to 2 have one each, which holds all the mass on both sides.
    log_s, log_t = ((F.cosine_similarity(x[3:], x[:3], dim=1) / 0.05).log_softmax(dim=0) for x in (student, teacher))
    torch.testing.assert_close(value, (log_t.exp() * (log_t - log_s)).sum() / 4)
    assert gradient.isfinite().all() and gradient.abs().max() > 0


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("block_size", [1, 3, 4, 11])
def test_blocked_equals_plain(embed, include_self, direction, block_size):
    student, teacher = embed(11, 5, seed=0), embed(11, 8, seed=1)
    groups = torch.arange(11) % 9
    options = {"include_self": include_self, "direction": direction}
    plain = SimilarityDistillationLoss(**options)
    blocked = SimilarityDistillationLoss(block_size=block_size, **options)
    torch.testing.assert_close(
        loss_and_gradient(blocked, student, teacher, group_ids=groups),
        loss_and_gradient(plain, student, teacher, group_ids=groups),
    )
    assert blocked.statistics.keys() == plain.statistics.keys()
    for name, value in plain.statistics.items():
        torch.testing.assert_close(blocked.statistics[name], value)


def test_memory_grows_with_the_block(embed, measure_memory):
    student, teacher = embed(128, 4, seed=0), embed(128, 6, seed=1)
    plain = measure_memory(lambda: SimilarityDistillationLoss()(student, teacher))
    blocked = measure_memory(lambda: SimilarityDistillationLoss(block_size=8)(student, teacher))
    assert plain.largest == 128 * 128 and plain.kept > 128 * 128  # the measure sees what it should see
    assert blocked.largest == 8 * 128
    assert blocked.kept < 128 * 128 / 2


def test_statistics_come_from_the_first_run_and_carry_no_gradient(embed):
    student, teacher = embed(7, 5, seed=0), embed(7, 8, seed=1)
    loss = SimilarityDistillationLoss(block_size=3)
    assert loss.statistics == {}
    value = loss(student, teacher)
    before = dict(loss.statistics)
    value.backward()
    assert loss.statistics == before
    off_diagonal = ~torch.eye(7, dtype=torch.bool)
    similarities = {
        name: F.cosine_similarity(x.unsqueeze(1), x.unsqueeze(0), dim=2)[off_diagonal].view(7, 6)
        for name, x in (("student", student.detach()), ("teacher", teacher.detach()))
    }
    for name, matrix in similarities.items():
        torch.testing.assert_close(loss.statistics[f"{name}_similarity"], matrix.mean())
        entropy = torch.distributions.Categorical(logits=matrix / 0.05).entropy().mean()
        torch.testing.assert_close(loss.statistics[f"{name}_entropy"], entropy)
    rows = zip(similarities["student"], similarities["teacher"], strict=True)
    correlation = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in rows]).mean()
    torch.testing.assert_close(loss.statistics["similarity_correlation"], correlation)
    assert all(statistic.dim() == 0 and not statistic.requires_grad for statistic in loss.statistics.values())


def test_permuting_texts_changes_nothing(embed):
    student, teacher = embed(6, 4, seed=0), embed(6, 5, seed=1)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    loss = SimilarityDistillationLoss()
    torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher))


def test_length_of_the_inputs_does_not_matter(embed):
    student, teacher = embed(6, 4, seed=0), embed(6, 5, seed=1)
    loss = SimilarityDistillationLoss()
    torch.testing.assert_close(loss(9 * student, 0.01 * teacher), loss(student, teacher))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(embed, dtype):
    student, teacher = embed(6, 4, seed=0, dtype=dtype), embed(6, 5, seed=1, dtype=dtype)
    loss = SimilarityDistillationLoss()
    value = loss(student, teacher)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(student.float(), teacher.float()), rtol=0, atol=0)
    value.backward()
    assert student.grad.dtype == dtype and student.grad.isfinite().all()


@pytest.mark.parametrize("block_size", [4, 64])
def test_autocast_does_not_round_the_cosines(embed, block_size):
    student, teacher = embed(10, 12, seed=0, dtype=torch.float32), embed(10, 5, seed=1, dtype=torch.float32)
    loss = SimilarityDistillationLoss(block_size=block_size)
    expected = loss_and_gradient(loss, student, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (student @ student.T).dtype == torch.bfloat16  # autocast is at work
        value = loss(student, teacher)
    found = (value, torch.autograd.grad(value, student)[0])  # outside, as torch asks for
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("block_size", [2, 64])
def test_gradcheck(embed, direction, include_self, block_size):
    student, teacher = embed(5, 3, seed=0), embed(5, 4, seed=1).detach()
    loss = SimilarityDistillationLoss(0.3, include_self, direction, 0.2, block_size=block_size)
    assert torch.autograd.gradcheck(loss, (student, teacher))


def test_bad_options_and_shapes_are_refused():
    with pytest.raises(ValueError, match="direction must be one of"):
        SimilarityDistillationLoss(direction="both")
    with pytest.raises(ValueError, match="teacher_temperature must be a finite number"):
        SimilarityDistillationLoss(teacher_temperature=0.0)
    with pytest.raises(ValueError, match="include_self must be True or False"):
        SimilarityDistillationLoss(include_self="no")
    with pytest.raises(
        ValueError, match=r"teacher must be .* same texts as student, row by row \(4\), got .* \(5, 3\)"
    ):
        SimilarityDistillationLoss()(torch.randn(4, 3), torch.randn(5, 3))
    with pytest.raises(ValueError, match=r"group_ids must be .* one id per text, \(4,\), got .* \(5,\)"):
        SimilarityDistillationLoss()(torch.randn(4, 3), torch.randn(4, 3), group_ids=torch.arange(5))
