# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Hard-negative InfoNCE: filter, choice of negatives, short rows, parity with the published code where it is right."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.losses import HardNegativeInfoNCELoss, InfoNCELoss, gathered_cosines, unit_rows


def reference_row(similarities, own, temperature, k, margin, short_rows, never=()):
    """One row, written down as the paper says it: lists and loops, no tensors.

    Args:
        similarities: the row's cosines as floats.
        own: column of the positive.
        never: columns known to be copies of the positive.
    """
    positive = similarities[own]
    left = [s for j, s in enumerate(similarities) if j != own and j not in never and not s > positive + margin]
    left = sorted(left, reverse=True)[:k]
    if not left:
        return 0.0
    if short_rows == "repeat":
        left = [left[i % len(left)] for i in range(k)]
    return math.log(sum(math.exp((s - positive) / temperature) for s in [positive, *left]))


def cosines(queries, candidates):
    return F.cosine_similarity(queries.unsqueeze(1), candidates.unsqueeze(0), dim=2).tolist()


def loss_and_gradients(loss, queries, candidates, **options):
    value = loss(queries, candidates, **options)
    return value, *torch.autograd.grad(value, (queries, candidates))


def on_the_circle(*degrees):
    """Unit rows in the plane, so that the cosine of two rows is the cosine of the angle between them."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def tangential(gradient, rows):
    """Takes out the part along each unit row: the published code differentiates unit vectors, we normalise inside."""
    return gradient - (gradient * rows).sum(dim=1, keepdim=True) * rows


# ---------------------------------------------------------------------------------------------- the published code


def golden_cases(golden_dir):
    cases = json.loads((golden_dir / "loss_stage2_official" / "cases.json").read_text())["cases"]
    with np.load(golden_dir / "loss_stage2_official" / "arrays.npz") as arrays:
        arrays = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    for case in cases:
        data, kind = case["data"], case["dtype"]
        queries = arrays[f"{data}.x_{kind}"].clone().requires_grad_()
        candidates = arrays[f"{data}.y_{kind}"].clone().requires_grad_()
        options = {
            "temperature": case["temperature"],
            "num_hard_negatives": case["k"],
            "false_negative_margin": case["threshold"],
        }
        scale = case["N"] if case["reduction"] == "sum" else 1
        own = {name: arrays[f"{case['key']}.{name}"] for name in ("grad_x", "grad_y", "neg_indices", "neg_is_valid")}
        yield case, queries, candidates, options, scale, own


def tolerance(case, gradient=False):
    if case["dtype"] == "f64":
        return {"rtol": 1e-9, "atol": 1e-10}
    return {"rtol": 1e-4, "atol": 2e-4} if gradient else {"rtol": 1e-5, "atol": 1e-6}


def test_parity_with_the_published_code_where_enough_negatives_are_left(golden_dir):
    compared = 0
    for case, queries, candidates, options, scale, arrays in golden_cases(golden_dir):
        if case["rows_short"] > 0:
            continue
        for short_rows in ("repeat", "mask"):  # no short row: the two agree
            loss = HardNegativeInfoNCELoss(short_rows=short_rows, **options)
            value, *gradients = loss_and_gradients(loss, queries, candidates)
            assert (value * scale).item() == pytest.approx(case["loss"], rel=tolerance(case)["rtol"], abs=1e-10)
            for gradient, rows, name in zip(gradients, (queries, candidates), ("grad_x", "grad_y"), strict=True):
                expected = tangential(arrays[name], rows.detach())
                torch.testing.assert_close(gradient * scale, expected, **tolerance(case, gradient=True))
            assert loss.statistics["short_rows"] == 0
        compared += 1
    assert compared > 0


def test_parity_with_filtered_entries_left_out_in_short_rows(golden_dir):
    compared = 0
    for case, queries, candidates, options, scale, _ in golden_cases(golden_dir):
        loss = HardNegativeInfoNCELoss(short_rows="mask", **options)
        value = (loss(queries, candidates) * scale).item()
        bound = {"rel": tolerance(case)["rtol"], "abs": tolerance(case)["atol"]}
        assert value == pytest.approx(case["loss_if_masked_excluded"], **bound), case["key"]
        assert loss.statistics["short_rows"].item() * case["N"] == pytest.approx(case["rows_short"])
        if case["picked_masked"] > 0:  # the published code has let something back in
            assert value != pytest.approx(case["loss"], **bound), case["key"]
        compared += case["rows_short"] > 0
    assert compared > 0


@pytest.mark.parametrize("short_rows", ["repeat", "mask"])
def test_short_rows_against_the_valid_indices_of_the_published_code(golden_dir, short_rows):
    for case, queries, candidates, options, _, arrays in golden_cases(golden_dir):
        if case["dtype"] != "f64" or case["reduction"] != "mean":
            continue
        similarities = F.normalize(queries, dim=1) @ F.normalize(candidates, dim=1).T
        row_losses = []
        for row in range(case["N"]):
            left = arrays["neg_indices"][row][arrays["neg_is_valid"][row]].tolist()
            if short_rows == "repeat" and left:
                left = [left[i % len(left)] for i in range(case["k"])]
            logits = similarities[row, [row, *left]] / case["temperature"]
            row_losses.append(logits.logsumexp(dim=0) - logits[0])
        expected = torch.stack(row_losses).mean()
        loss = HardNegativeInfoNCELoss(short_rows=short_rows, **options)
        torch.testing.assert_close(
            loss_and_gradients(loss, queries, candidates),
            (expected, *torch.autograd.grad(expected, (queries, candidates))),
            rtol=1e-9,
            atol=1e-10,
        )


# ---------------------------------------------------------------------------------------------- the rule


@pytest.mark.parametrize("short_rows", ["repeat", "mask"])
@pytest.mark.parametrize("k", [1, 2, 4, 7, 50])
@pytest.mark.parametrize("margin", [-0.3, 0.0, 0.1, 5.0])
def test_equals_the_rule_written_down_in_loops(pair, short_rows, k, margin):
    queries, candidates = pair(8, 11)
    options = {"temperature": 0.1, "num_hard_negatives": k, "short_rows": short_rows}
    loss = HardNegativeInfoNCELoss(false_negative_margin=margin, **options)
    groups = [0, 1, 2, 3, 0, 5, 6, 7, 2, 9, 2]
    mask = torch.zeros(8, 11, dtype=torch.bool)
    mask[3, [5, 9]] = True
    expected = []
    for i, row in enumerate(cosines(queries, candidates)):
        never = [j for j in range(11) if groups[j] == groups[i] or mask[i, j]]
        expected.append(reference_row(row, i, 0.1, k, margin, short_rows, never))
    value = loss(queries, candidates, group_ids=torch.tensor(groups), duplicate_mask=mask)
    assert value.item() == pytest.approx(np.mean(expected), rel=1e-12)


def test_default_options_are_those_of_the_contract(pair):
    queries, candidates = pair(12, 20)
    expected = np.mean(
        [reference_row(row, i, 0.02, 8, 0.1, "repeat") for i, row in enumerate(cosines(queries, candidates))]
    )
    assert HardNegativeInfoNCELoss()(queries, candidates).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("k", "distinct"), [(1, 1), (5, 5), (9, 9), (40, 9)])
def test_all_alike_gives_log_of_k_plus_one(k, distinct):
    same = torch.ones(10, 4)
    assert HardNegativeInfoNCELoss(num_hard_negatives=k)(same, same).item() == pytest.approx(math.log(k + 1))
    mask = HardNegativeInfoNCELoss(num_hard_negatives=k, short_rows="mask")
    assert mask(same, same).item() == pytest.approx(math.log(distinct + 1))


def test_all_candidates_kept_is_plain_info_nce(pair):
    queries, candidates = pair(6, 9)
    hard = HardNegativeInfoNCELoss(num_hard_negatives=8, false_negative_margin=math.inf)
    torch.testing.assert_close(
        loss_and_gradients(hard, queries, candidates), loss_and_gradients(InfoNCELoss(), queries, candidates)
    )
    assert hard.statistics["share_filtered"] == 0


def test_filter_is_strict_and_counts_extra_rows():
    # Exact cosines: positive 0.5; the extra rows 0.5 (a tie at margin 0: kept), 1 (dropped), 0 (kept).
    queries = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    candidates = torch.tensor([[1.0, 1, 1, 1], [1.0, -1, 1, 1], [2.0, 0, 0, 0], [0.0, 2, 0, 0]])
    loss = HardNegativeInfoNCELoss(temperature=1.0, num_hard_negatives=2, false_negative_margin=0.0)
    assert loss(queries, candidates).item() == pytest.approx(math.log(2 + math.exp(-0.5)))
    assert loss.statistics["share_filtered"].item() == pytest.approx(1 / 3)
    without = HardNegativeInfoNCELoss(temperature=1.0, num_hard_negatives=2, false_negative_margin=0.5)
    assert without(queries, candidates).item() == pytest.approx(math.log(2 + math.exp(0.5)))  # 1 > 0.5 + 0.5 is false
    assert without.statistics["share_filtered"] == 0


def test_repeat_draws_the_hardest_again_and_nothing_dropped_comes_back():
    queries = on_the_circle(0)
    candidates = on_the_circle(60, 10, 70, 80, 20).requires_grad_()  # positive cos 0.5; 10 and 20 degrees: dropped
    options = {"temperature": 0.2, "num_hard_negatives": 5}
    repeat = HardNegativeInfoNCELoss(short_rows="repeat", **options)
    value = repeat(queries, candidates)
    first, second = (math.exp((math.cos(math.radians(angle)) - 0.5) / 0.2) for angle in (70, 80))
    assert value.item() == pytest.approx(math.log(1 + 3 * first + 2 * second))
    (gradient,) = torch.autograd.grad(value, candidates)
    assert torch.equal(gradient[[1, 4]], torch.zeros(2, 2, dtype=torch.float64))
    assert (gradient[[0, 2, 3]].abs().sum(dim=1) > 0).all()
    mask = HardNegativeInfoNCELoss(short_rows="mask", **options)
    assert mask(queries, candidates).item() == pytest.approx(math.log(1 + first + second))
    for loss in (repeat, mask):
        assert loss.statistics["short_rows"] == 1 and loss.statistics["empty_rows"] == 0
        assert loss.statistics["share_filtered"] == 0.5


@pytest.mark.parametrize("short_rows", ["repeat", "mask"])
def test_own_positive_never_becomes_a_negative(short_rows):
    """With k = N the published code always lets the positive in as a negative of itself."""
    queries = torch.eye(4, dtype=torch.float64)
    loss = HardNegativeInfoNCELoss(temperature=1.0, num_hard_negatives=3, short_rows=short_rows)
    expected = math.log(1 + 3 * math.exp(-1))
    assert loss(queries, queries).item() == pytest.approx(expected)
    more = HardNegativeInfoNCELoss(temperature=1.0, num_hard_negatives=4, short_rows=short_rows)
    expected = math.log(1 + (4 if short_rows == "repeat" else 3) * math.exp(-1))
    assert more(queries, queries).item() == pytest.approx(expected)


def test_copies_of_the_positive_are_negatives_unless_named():
    queries = on_the_circle(0, 90)
    candidates = on_the_circle(0, 90, 0, 45)
    loss = HardNegativeInfoNCELoss(temperature=0.5, num_hard_negatives=2)
    loss(queries, candidates)
    assert loss.statistics["hardest_negative_similarity"].item() == pytest.approx((1 + math.sqrt(0.5)) / 2)
    groups = torch.tensor([0, 1, 0, 2])
    mask = torch.zeros(2, 4, dtype=torch.bool)
    mask[0, 2] = True
    by_group = loss(queries, candidates, group_ids=groups)
    assert loss.statistics["hardest_negative_similarity"].item() == pytest.approx(math.sqrt(0.5))
    torch.testing.assert_close(by_group, loss(queries, candidates, duplicate_mask=mask))
    a, b = math.exp((math.sqrt(0.5) - 1) / 0.5), math.exp(-1 / 0.5)  # each row has 45 and 90 degrees
    assert by_group.item() == pytest.approx(math.log(1 + a + b))


@pytest.mark.parametrize("short_rows", ["repeat", "mask"])
@pytest.mark.parametrize("block_size", [1, 2, 64])
def test_row_with_nothing_left_adds_zero(pair, short_rows, block_size):
    queries, candidates = pair(3, 6)
    queries = queries.detach().clone()
    queries[1] = -candidates[1].detach()  # cosine -1 with its positive: everything else is dropped
    queries.requires_grad_()
    loss = HardNegativeInfoNCELoss(num_hard_negatives=2, short_rows=short_rows, block_size=block_size)
    with torch.autograd.set_detect_anomaly(True):
        value, query_gradient, candidate_gradient = loss_and_gradients(loss, queries, candidates)
    assert torch.equal(query_gradient[1], torch.zeros(6, dtype=torch.float64))
    assert query_gradient[0].abs().max() > 0 and candidate_gradient.isfinite().all()
    assert loss.statistics["empty_rows"].item() == pytest.approx(1 / 3)
    torch.testing.assert_close(value, loss(queries[[0, 2]], candidates[[0, 2, 1, 3, 4, 5]]) * 2 / 3)


def test_single_pair_has_no_negative():
    loss = HardNegativeInfoNCELoss()
    queries = torch.randn(1, 4, requires_grad=True)
    value = loss(queries, torch.randn(1, 4))
    value.backward()
    assert value == 0 and torch.equal(queries.grad, torch.zeros(1, 4))
    assert all(value.isfinite() for value in loss.statistics.values())
    assert loss.statistics["empty_rows"] == 1 and loss.statistics["accuracy"] == 0


# ---------------------------------------------------------------------------------------------- blocks and numbers


@pytest.mark.parametrize("short_rows", ["repeat", "mask"])
@pytest.mark.parametrize("block_size", [1, 3, 4, 11])
def test_blocked_equals_plain(pair, short_rows, block_size):
    queries, candidates = pair(11, 14)
    duplicates = torch.rand(11, 14, generator=torch.Generator().manual_seed(0)) < 0.2
    options = {"group_ids": torch.arange(14) % 9, "duplicate_mask": duplicates}
    settings = {"num_hard_negatives": 8, "false_negative_margin": -0.2, "short_rows": short_rows}
    plain = HardNegativeInfoNCELoss(**settings)
    blocked = HardNegativeInfoNCELoss(block_size=block_size, **settings)
    torch.testing.assert_close(
        loss_and_gradients(blocked, queries, candidates, **options),
        loss_and_gradients(plain, queries, candidates, **options),
    )
    assert 0 < plain.statistics["short_rows"] < 1 and plain.statistics["share_filtered"] > 0  # something to get wrong
    assert blocked.statistics.keys() == plain.statistics.keys()
    for name, value in plain.statistics.items():
        torch.testing.assert_close(blocked.statistics[name], value)


def test_memory_grows_with_the_block(pair, measure_memory, monkeypatch):
    queries, candidates = pair(96, 128)
    plain = measure_memory(lambda: InfoNCELoss()(queries, candidates))
    assert plain.largest == 96 * 128 and plain.kept > 96 * 128  # the measure sees what it should see
    monkeypatch.setattr(unit_rows, "BLOCK_ELEMENTS", 128 * 6)
    monkeypatch.setattr(gathered_cosines, "CANDIDATES_AT_A_TIME", 8)
    whole = measure_memory(lambda: HardNegativeInfoNCELoss()(queries, candidates))
    assert whole.largest == 96 * 128
    blocked = measure_memory(lambda: HardNegativeInfoNCELoss(block_size=8)(queries, candidates))
    assert blocked.largest <= 96 * 9 + 96  # nothing larger than the choices, though there are 12,288 similarities
    assert blocked.kept < 96 * 128 / 2


@pytest.mark.parametrize("side", [0, 1])
def test_only_one_side_needs_a_gradient(pair, side):
    both = pair(11, 14)
    loss = HardNegativeInfoNCELoss(block_size=4)
    expected = torch.autograd.grad(loss(*both), both)[side]
    one = [tensor if number == side else tensor.detach() for number, tensor in enumerate(both)]
    torch.testing.assert_close(torch.autograd.grad(loss(*one), one[side])[0], expected)
    with torch.no_grad():
        assert not loss(*both).requires_grad


def test_statistics_by_hand_and_untouched_by_the_backward_pass():
    queries = on_the_circle(0, 90, 180, 270).requires_grad_()
    candidates = on_the_circle(60, 90, 100, 10, 20)
    # cosines:   60      90      100     10      20
    # row 0      0.500*  0       -0.174  0.985d  0.940d     d = dropped (more than 0.1 above the positive *)
    # row 1      0.866   1*      0.985   0.174   0.342
    # row 2      -0.5    0       0.174*  -0.985  -0.940     (0 is kept: below 0.174)
    # row 3      -0.866  -1      -0.985  -0.174* -0.342
    loss = HardNegativeInfoNCELoss(num_hard_negatives=3, block_size=3)
    assert loss.statistics == {}
    value = loss(queries, candidates)
    before = dict(loss.statistics)
    value.backward()
    assert loss.statistics == before
    cos = [math.cos(math.radians(angle)) for angle in (60, 0, 80, 100)]
    expected = {
        "share_filtered": 2 / 16,
        "share_rows_filtered": 1 / 4,
        "short_rows": 1 / 4,
        "empty_rows": 0,
        "positive_similarity": sum(cos) / 4,
        "hardest_negative_similarity": (0 + math.cos(math.radians(10)) + 0 + math.cos(math.radians(110))) / 4,
        "accuracy": 1,
        # Angles of the negatives; the harder one of row 0, which has only two, counts twice.
        "effective_negatives": sum(
            sum(weights) ** 2 / sum(weight**2 for weight in weights)
            for weights in (
                [factor * math.exp(math.cos(math.radians(angle)) / 0.02) for factor, angle in row]
                for row in (
                    [(2, 90), (1, 100)],
                    [(1, 10), (1, 30), (1, 70)],
                    [(1, 90), (1, 120), (1, 160)],
                    [(1, 110), (1, 150), (1, 170)],
                )
            )
        )
        / 4,
    }
    assert loss.statistics.keys() == expected.keys()
    for name, number in expected.items():
        assert loss.statistics[name].item() == pytest.approx(number, abs=1e-12), name
        assert loss.statistics[name].dim() == 0 and not loss.statistics[name].requires_grad


def test_tie_with_the_positive_is_not_accurate():
    loss = HardNegativeInfoNCELoss(num_hard_negatives=2)
    loss(torch.ones(4, 4), torch.ones(4, 4))
    assert loss.statistics["accuracy"] == 0


def test_permuting_rows_changes_nothing(pair):
    queries, candidates = pair(6, 9)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    candidate_order = torch.cat([order, torch.tensor([8, 6, 7])])
    loss = HardNegativeInfoNCELoss(num_hard_negatives=3)
    value = loss(queries, candidates)
    gradients = torch.autograd.grad(value, (queries, candidates))
    permuted = loss(queries[order], candidates[candidate_order])
    torch.testing.assert_close(permuted, value)
    torch.testing.assert_close(torch.autograd.grad(permuted, (queries, candidates)), gradients)


def test_length_of_the_inputs_does_not_matter(pair):
    queries, candidates = pair(6, 9)
    loss = HardNegativeInfoNCELoss()
    torch.testing.assert_close(loss(queries * 7, candidates * 0.01), loss(queries, candidates))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(pair, dtype):
    queries, candidates = (embeddings.detach().to(dtype).requires_grad_() for embeddings in pair(6, 9))
    loss = HardNegativeInfoNCELoss()
    value = loss(queries, candidates)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(queries.float(), candidates.float()), rtol=0, atol=0)
    value.backward()
    assert queries.grad.dtype == dtype and queries.grad.isfinite().all()


@pytest.mark.parametrize("block_size", [4, 64])
def test_autocast_does_not_round_the_cosines(pair, block_size):
    queries, candidates = (embeddings.detach().float().requires_grad_() for embeddings in pair(10, 12))
    loss = HardNegativeInfoNCELoss(block_size=block_size)
    expected = loss_and_gradients(loss, queries, candidates)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (queries @ candidates.T).dtype == torch.bfloat16  # autocast is at work
        value = loss(queries, candidates)
    found = (value, *torch.autograd.grad(value, (queries, candidates)))  # outside, as torch asks for
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gpu_equals_cpu(pair, dtype):
    both = [embeddings.detach().to(dtype) for embeddings in pair(200, 300)]
    results = []
    for device in ("cpu", "cuda"):
        inputs = [embeddings.to(device).requires_grad_() for embeddings in both]
        loss = HardNegativeInfoNCELoss(block_size=64)
        value, *gradients = loss_and_gradients(loss, *inputs, group_ids=(torch.arange(300) % 250).to(device))
        results.append(
            [value.cpu(), *(gradient.cpu() for gradient in gradients), *map(Tensor.cpu, loss.statistics.values())]
        )
    torch.testing.assert_close(results[1], results[0], check_dtype=True)


@pytest.mark.parametrize("short_rows", ["repeat", "mask"])
@pytest.mark.parametrize("block_size", [2, 64])
def test_gradcheck(pair, short_rows, block_size):
    queries, candidates = pair(5, 6, width=3)
    loss = HardNegativeInfoNCELoss(
        temperature=0.1, num_hard_negatives=4, short_rows=short_rows, block_size=block_size, false_negative_margin=0.0
    )
    assert torch.autograd.gradcheck(loss, (queries, candidates))
    assert loss.statistics["short_rows"] > 0


@pytest.mark.parametrize("k", [0, -1, 2.5, True, None])
def test_bad_number_of_negatives_is_refused(k):
    with pytest.raises(ValueError, match="num_hard_negatives must be an integer of at least 1"):
        HardNegativeInfoNCELoss(num_hard_negatives=k)


@pytest.mark.parametrize("margin", [float("nan"), -float("inf"), "0.1", None])
def test_bad_margin_is_refused(margin):
    with pytest.raises(ValueError, match="false_negative_margin must be a number"):
        HardNegativeInfoNCELoss(false_negative_margin=margin)


def test_unknown_short_rows_is_refused():
    with pytest.raises(ValueError, match="short_rows must be one of"):
        HardNegativeInfoNCELoss(short_rows="skip")
