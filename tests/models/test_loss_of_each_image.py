"""Overlap losses: the mean of those of the images, or that of the whole batch, however it is shared."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from skoots.models.criteria import tversky
from skoots.models.criteria.base import Criterion
from skoots.models.criteria.cldice import SoftClDice, SoftDiceClDice, soft_skeleton
from skoots.models.criteria.tversky import Dice, Tversky
from skoots.models.heads.vector import VectorHead

SHAPES = [(4, 1, 11, 12), (3, 2, 7, 8, 9)]
Literal = Callable[[Tensor, Tensor], Tensor]


def _tversky(alpha: float, beta: float, eps: float = 1e-8) -> Literal:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        hit = (output * target).sum()
        wrong, missed = (output * (1 - target)).sum(), ((1 - output) * target).sum()
        if not target.any():
            return output.mean()
        return 1 - (hit + eps) / (hit + alpha * wrong + beta * missed + eps)

    return loss


def _dice(output: Tensor, target: Tensor) -> Tensor:
    if not target.any():
        return output.mean()
    return 1 - (2 * (output * target).sum() + 1) / (output.sum() + target.sum() + 1)


def _cldice(output: Tensor, target: Tensor) -> Tensor:
    line, true_line = (soft_skeleton(mask, 2) for mask in (output, target))
    precision = ((line * target).sum() + 1) / (line.sum() + 1)
    sensitivity = ((true_line * output).sum() + 1) / (true_line.sum() + 1)
    return 1 - 2 * precision * sensitivity / (precision + sensitivity)


def _both(output: Tensor, target: Tensor) -> Tensor:
    return 0.7 * _dice(output, target) + 0.3 * _cldice(output, target)


EVERY: list[tuple[type[Criterion], dict, Literal]] = [
    (Tversky, {"alpha": 0.25, "beta": 0.75}, _tversky(0.25, 0.75)),
    (Tversky, {"alpha": 0.5, "beta": 1.5}, _tversky(0.5, 1.5)),
    (Dice, {}, _dice),
    (SoftClDice, {"iter": 2}, _cldice),
    (SoftDiceClDice, {"iter": 2, "alpha": 0.3}, _both),
]
over_all = pytest.mark.parametrize("kind, arguments, literal", EVERY, ids=[c[0].__name__ for c in EVERY])


def _batch(shape: tuple[int, ...], empty: int | None = None) -> tuple[Tensor, Tensor]:
    """Images with objects of very different sizes; of one of them, none if asked for."""
    generator = torch.Generator().manual_seed(len(shape))
    target = torch.zeros(shape)
    for number, image in enumerate(target):
        edge = 6 - 2 * number if number < 3 else 3
        image[(slice(None), *(slice(1, 1 + edge),) * (len(shape) - 2))] = 1
    if empty is not None:
        target[empty] = 0
    output = 0.05 + 0.5 * target + 0.4 * torch.rand(shape, generator=generator)
    return output.requires_grad_(), target


def _value_and_gradient(loss: Tensor, output: Tensor) -> tuple[float, Tensor]:
    (gradient,) = torch.autograd.grad(loss, output)
    return loss.item(), gradient


@over_all
@pytest.mark.parametrize("shape", SHAPES, ids=["2D", "3D"])
@pytest.mark.parametrize("empty", [None, 1], ids=["objects everywhere", "one image without"])
def test_the_mean_over_images_is_the_default(kind, arguments, literal, shape, empty) -> None:
    output, target = _batch(shape, empty)
    mean = torch.stack([literal(o, t) for o, t in zip(output.split(1), target.split(1))]).mean()
    value, gradient = _value_and_gradient(kind(**arguments)(output, target), output)
    expected, expected_gradient = _value_and_gradient(mean, output)
    assert value == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-8)


@over_all
@pytest.mark.parametrize("shape", SHAPES, ids=["2D", "3D"])
def test_over_batch_is_one_value_of_all(kind, arguments, literal, shape) -> None:
    output, target = _batch(shape, empty=1)
    value, gradient = _value_and_gradient(kind(**arguments, over="batch")(output, target), output)
    expected, expected_gradient = _value_and_gradient(literal(output, target), output)
    assert value == pytest.approx(expected, abs=1e-6)
    assert value != pytest.approx(kind(**arguments)(output, target).item(), abs=1e-3)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-8)


@over_all
@pytest.mark.parametrize("over", ["image", "batch"])
def test_ignored_voxels_and_images_do_not_count(kind, arguments, literal, over) -> None:
    output, target = _batch((4, 1, 11, 12))
    valid = torch.rand(4, 1, 11, 12, generator=torch.Generator().manual_seed(1)) > 0.3
    valid[1] = False
    criterion = kind(**arguments, over=over)
    value, gradient = _value_and_gradient(criterion(output, target, valid), output)
    others = torch.tensor([0, 2, 3])
    alone, _ = _value_and_gradient(criterion(output[others], target[others], valid[others]), output)
    assert value == pytest.approx(alone, abs=1e-6)
    assert not gradient[~valid].any() and gradient[valid].any()
    nothing = torch.zeros_like(valid)
    value, gradient = _value_and_gradient(criterion(output, target, nothing), output)
    assert value == 0 and not gradient.any()


@over_all
@pytest.mark.parametrize("over", ["image", "batch"])
def test_processes_that_share_a_batch_agree_with_one(kind, arguments, literal, over, monkeypatch) -> None:
    """The sums of both parts are handed to both, as ``all_reduce`` would, one of them as constants."""
    output, target = _batch((4, 1, 11, 12), empty=3)
    valid = torch.ones(4, 1, 11, 12, dtype=torch.bool)
    valid[0], valid[2, ..., :4] = False, False
    criterion = kind(**arguments, over=over)
    value, gradient = _value_and_gradient(criterion(output, target, valid), output)
    parts, handed = (slice(0, 1), slice(1, 4)), {}

    def run(own: int, exchange: Callable[[int, tuple[Tensor, ...]], tuple[Tensor, ...]]) -> Tensor:
        calls = iter(range(9))
        monkeypatch.setattr(tversky, "of_whole_batch", lambda *sums: exchange(next(calls), sums))
        part = parts[own]
        return criterion(output[part], target[part], valid[part])

    def note(own: int) -> Callable[[int, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        return lambda call, sums: handed.setdefault((own, call), sums)

    def add(other: int) -> Callable[[int, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        return lambda call, sums: tuple(a + b.detach() for a, b in zip(sums, handed[other, call]))

    for own in (0, 1):
        run(own, note(own))
    total = torch.zeros_like(output)
    for own in (0, 1):
        shared, part = _value_and_gradient(run(own, add(1 - own)), output)
        assert shared == pytest.approx(value, abs=1e-6)
        total += part
    torch.testing.assert_close(total, gradient, rtol=1e-4, atol=1e-8)


def test_the_embedding_loss_of_the_vector_head_is_that_of_each_image() -> None:
    head = VectorHead(4, 2, scale=5.0)
    assert isinstance(head.criterion, Tversky)
    assert (head.criterion.over, head.criterion.alpha, head.criterion.beta) == ("image", 0.25, 0.75)


@pytest.mark.parametrize("kind", [SoftClDice, SoftDiceClDice, Dice, Tversky])
@pytest.mark.parametrize("over", ["image", "batch"])
def test_nothing_added_and_nothing_there_is_finite(kind, over) -> None:
    added = {"eps": 0} if kind is Tversky else {"smooth": 0}
    output = torch.zeros(2, 1, 6, 6, requires_grad=True)
    target = torch.zeros(2, 1, 6, 6)
    value, gradient = _value_and_gradient(kind(**added, over=over)(output, target), output)
    assert value == 0 and gradient.isfinite().all()


@pytest.mark.parametrize("kind", [Tversky, Dice, SoftClDice, SoftDiceClDice])
def test_another_over_is_refused(kind) -> None:
    with pytest.raises(ValueError, match="over is 'volume', must be 'image' or 'batch'"):
        kind(over="volume")
