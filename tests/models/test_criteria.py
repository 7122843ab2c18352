"""Losses against numbers by hand and against torch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import tensor

from skoots.models.criteria.base import CRITERIA
from skoots.models.criteria.cldice import SoftClDice, SoftDiceClDice, soft_skeleton
from skoots.models.criteria.tversky import Dice, Tversky
from skoots.models.criteria.voxelwise import BCE
from skoots.models.criteria.weighted_sum import WeightedSum

EVERY = [
    Tversky(),
    Dice(),
    SoftClDice(),
    SoftDiceClDice(),
    BCE(),
    BCE("balanced"),
    WeightedSum([Dice(), BCE()], [1, 2]),
]


def image(*values):
    return tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def tubes(shape=(1, 1, 12, 12, 30)):
    mask = torch.zeros(shape)
    mask[..., 4:9, 4:9, 2:28] = 1
    return mask


def test_tversky_by_hand():
    output, target = image(0.8, 0.4, 0.1), image(1, 0, 1)
    hit, false_positive, false_negative = 0.9, 0.4, 1.1
    loss = Tversky(alpha=0.3, beta=0.7)(output, target).item()
    assert loss == pytest.approx(1 - hit / (hit + 0.3 * false_positive + 0.7 * false_negative), abs=1e-6)


def test_alpha_weighs_false_positives_and_beta_false_negatives():
    target = image(1, 1, 0, 0)
    too_much, too_little = image(1, 1, 1, 0), image(1, 0, 0, 0)
    assert Tversky(1, 0)(too_little, target).item() == pytest.approx(0, abs=1e-6)
    assert Tversky(0, 1)(too_much, target).item() == pytest.approx(0, abs=1e-6)
    assert Tversky(1, 0)(too_much, target).item() == pytest.approx(1 - 2 / 3)
    assert Tversky(0, 1)(too_little, target).item() == pytest.approx(1 - 1 / 2)


def test_dice_by_hand_and_as_a_case_of_tversky():
    output, target = image(0.8, 0.4, 0.1), image(1, 0, 1)
    assert Dice(smooth=1)(output, target).item() == pytest.approx(1 - (2 * 0.9 + 1) / (1.3 + 2 + 1))
    assert Dice(smooth=0)(output, target).item() == pytest.approx(Tversky(0.5, 0.5)(output, target).item())


def test_bce_is_torchs():
    torch.manual_seed(0)
    output, target = torch.rand(2, 1, 5, 6), (torch.rand(2, 1, 5, 6) > 0.7).float()
    assert BCE()(output, target).item() == pytest.approx(
        F.binary_cross_entropy(output, target).item(), rel=1e-5
    )
    weight = 1 + 4 * target
    expected = F.binary_cross_entropy(output, target, weight, reduction="sum") / weight.sum()
    assert BCE(5)(output, target).item() == pytest.approx(expected.item(), rel=1e-5)
    valid = torch.rand(2, 1, 5, 6) > 0.4
    expected = F.binary_cross_entropy(output[valid], target[valid])
    assert BCE()(output, target, valid).item() == pytest.approx(expected.item(), rel=1e-5)


def test_balanced_bce_gives_both_sides_one_weight():
    output, target = torch.rand(1, 1, 40, 10), torch.zeros(1, 1, 40, 10)
    target[..., :2, :] = 1
    sides = [F.binary_cross_entropy(output[target == side], target[target == side]).item() for side in (0, 1)]
    assert BCE("balanced")(output, target).item() == pytest.approx(sum(sides) / 2, rel=1e-5)
    valid = torch.ones(1, 1, 40, 10, dtype=torch.bool)
    valid[..., 1, :] = False
    sides[1] = F.binary_cross_entropy(output[..., :1, :], target[..., :1, :]).item()
    assert BCE("balanced")(output, target, valid).item() == pytest.approx(sum(sides) / 2, rel=1e-5)
    with pytest.raises(ValueError, match="positive_weight is a number or 'balanced'"):
        BCE("even")


def test_bce_is_finite_where_the_network_is_certain_and_reports_nan():
    output = image(0, 1, 1, 0).requires_grad_()
    loss = BCE()(output, image(1, 0, 1, 0))
    loss.backward()
    assert loss.isfinite() and output.grad.isfinite().all()
    assert BCE()(image(0.0, 1.0), image(0, 1)).item() == pytest.approx(0, abs=1e-5)
    assert BCE()(
        image(0.5, math.nan), image(0, 1)
    ).isnan()  # not an exception: the runner counts and names it


def test_cldice_of_equal_disjoint_and_broken_tubes():
    target = tubes()
    loss = SoftClDice(iter=4, smooth=1e-5)
    assert loss(target, target).item() == pytest.approx(0, abs=1e-5)
    assert loss(target.roll(6, dims=2) * (1 - target), target).item() == pytest.approx(1, abs=0.05)
    apart = torch.zeros_like(target)
    apart[..., 0, :, :] = 1
    assert loss(apart, target).item() == pytest.approx(1, abs=1e-3)
    # A gap cuts the tube, a shaved flank of as many voxels does not: Dice cannot tell them apart, clDice can.
    broken, shaved = target.clone(), target.clone()
    broken[..., 12:16] = 0
    shaved[..., 4, 4:8, 2:27] = 0
    assert (target - broken).sum() == (target - shaved).sum()
    assert Dice()(broken, target).item() == pytest.approx(Dice()(shaved, target).item())
    assert loss(broken, target) > 0.05 and loss(shaved, target) < 0.01


def test_soft_skeleton_is_thin_and_inside():
    mask = tubes()
    line = soft_skeleton(mask, 4)
    assert line.sum() < 0.25 * mask.sum() and (line <= mask).all()
    assert (line[0, 0].amax((0, 1))[4:26] == 1).all()  # from end to end
    flat = soft_skeleton(mask[:, :, 6], 4)
    assert (flat[0, 0].amax(0)[5:25] == 1).all() and flat.sum() < 0.5 * mask[:, :, 6].sum()


def test_dice_cldice_is_the_weighted_sum():
    torch.manual_seed(0)
    output, target = torch.rand(1, 1, 12, 12, 30), tubes()
    dice, cldice = Dice(2.0)(output, target), SoftClDice(2, 2.0)(output, target)
    loss = SoftDiceClDice(iter=2, alpha=0.3, smooth=2.0)(output, target)
    assert loss.item() == pytest.approx((0.7 * dice + 0.3 * cldice).item())


def test_weighted_sum():
    output, target = torch.rand(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    both = WeightedSum([Dice(), BCE()], [0.5, 3.0])(output, target)
    assert both.item() == pytest.approx((0.5 * Dice()(output, target) + 3 * BCE()(output, target)).item())


@pytest.mark.parametrize("criterion", EVERY, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("shape", [(2, 1, 9, 10), (2, 1, 5, 6, 7)])
class TestEveryCriterion:
    def test_gradient_descent_finds_the_target(self, criterion, shape):
        torch.manual_seed(0)
        target = (torch.rand(shape) > 0.6).float()
        logits = torch.zeros(shape, requires_grad=True)
        optimizer = torch.optim.Adam([logits], 0.3)
        first = criterion(logits.sigmoid(), target).item()
        for _ in range(25):
            optimizer.zero_grad()
            loss = criterion(logits.sigmoid(), target)
            loss.backward()
            optimizer.step()
        assert loss.ndim == 0 and loss.dtype == torch.float32
        assert loss.item() < 0.5 * first

    def test_a_perfect_output_costs_nothing(self, criterion, shape):
        target = (torch.rand(shape) > 0.6).float()
        assert criterion(target, target).item() == pytest.approx(0, abs=1e-4)

    @pytest.mark.parametrize("empty", ["target", "output", "both", "nothing valid"])
    def test_empty_crops_are_finite(self, criterion, shape, empty):
        logits = (
            torch.full(shape, -200.0) if empty in ("output", "both") else torch.zeros(shape)
        ).requires_grad_()
        target = torch.zeros(shape) if empty in ("target", "both") else torch.ones(shape)
        valid = torch.zeros(shape, dtype=torch.bool) if empty == "nothing valid" else None
        loss = criterion(logits.sigmoid(), target, valid)
        loss.backward()
        assert loss.isfinite() and logits.grad.isfinite().all()

    def test_voxels_that_are_not_valid_have_no_influence(self, criterion, shape):
        torch.manual_seed(0)
        output, target = torch.rand(shape), (torch.rand(shape) > 0.6).float()
        valid = torch.rand(shape) > 0.3
        loss = criterion(output, target, valid)
        other = torch.where(valid, output, torch.rand(shape)), torch.where(valid, target, 1 - target)
        assert torch.allclose(criterion(*other, valid), loss)
        assert not torch.allclose(criterion(*other), criterion(output, target))
        varied = output.clone().requires_grad_()
        criterion(varied, target, valid).backward()
        assert not varied.grad[~valid].any()

    def test_half_precision_outputs_are_compared_in_float32(self, criterion, shape):
        torch.manual_seed(0)
        output, target = 0.1 + 0.8 * torch.rand(shape), (torch.rand(shape) > 0.6).float()
        half = criterion(output.to(torch.float16), target)
        assert half.dtype == torch.float32 and half.item() == pytest.approx(
            criterion(output, target).item(), abs=5e-3
        )


def test_published_names_and_arguments():
    assert {"Tversky", "Dice", "SoftClDice", "SoftDiceClDice", "BCE"} <= set(CRITERIA.names())
    tversky = CRITERIA.build({"type": "Tversky", "alpha": 0.25, "beta": 0.75, "eps": 1e-8})
    assert (tversky.alpha, tversky.beta, tversky.eps) == (0.25, 0.75, 1e-8)
    assert (
        CRITERIA.build({"type": "SoftDiceClDice", "params": {"iter": 3, "alpha": 0.5, "smooth": 1.0}}).alpha
        == 0.5
    )


@pytest.mark.parametrize("criterion", [Tversky(0.25, 0.75), Dice()], ids=["tversky", "dice"])
@pytest.mark.parametrize("masked", [False, True])
class TestOverlapGradient:
    def test_against_finite_differences_and_the_plain_formula(self, criterion, masked):
        torch.manual_seed(0)
        output, target = torch.rand(2, 1, 5, 6), (torch.rand(2, 1, 5, 6) > 0.5).float()
        valid = torch.rand(2, 1, 5, 6) > 0.3 if masked else None
        gradients = []
        for learnt_target in (False, True):  # with a target that learns, autograd does all of it
            varied, other = output.clone().requires_grad_(), target.clone().requires_grad_(learnt_target)
            criterion(varied, other, valid).backward()
            gradients.append(varied.grad)
        assert torch.allclose(*gradients, atol=1e-8) and gradients[0].any()
        step = torch.zeros_like(output)
        step.view(-1)[7] = 1e-2
        slope = (criterion(output + step, target, valid) - criterion(output - step, target, valid)) / 2e-2
        assert slope.item() == pytest.approx(gradients[0].view(-1)[7].item(), abs=2e-5)

    def test_nan_stays_visible(self, criterion, masked):
        output, target = torch.full((1, 1, 4, 4), 0.5), torch.ones(1, 1, 4, 4)
        output[0, 0, 1, 1] = float("nan")
        valid = torch.ones(1, 1, 4, 4, dtype=torch.bool) if masked else None
        assert criterion(output, target, valid).isnan()
