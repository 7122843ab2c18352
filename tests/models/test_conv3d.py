"""The convolution that cuts a small crop in two: the same numbers as torch's, by the path that is fast."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from skoots.models.conv3d import Conv3d


def batches_seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that torch is given."""
    sizes: list[int] = []
    plain = F.conv3d

    def spy(features: Tensor, *words: object, **named: object) -> Tensor:
        sizes.append(len(features))
        return plain(features, *words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(F, "conv3d", spy)
    return sizes


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (3, 1, 1), (5, 3, 1)])
@pytest.mark.parametrize("shape", [(4, 6, 8), (4, 7, 5), (9, 2, 3), (1, 2, 1), (1, 1, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_one_small_crop_has_the_values_and_gradients_of_torch(
    monkeypatch: pytest.MonkeyPatch, kernel: tuple[int, ...], shape: tuple[int, ...], bias: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    conv = Conv3d(3, 4, kernel, padding=tuple(k // 2 for k in kernel), bias=bias)
    crop = torch.randn(1, 3, *shape, generator=generator).requires_grad_()
    weights = torch.randn(1, 4, *shape, generator=generator)
    parameters = [crop, *conv.parameters()]
    plain = torch.nn.Conv3d.forward(conv, crop)
    expected = torch.autograd.grad((plain * weights).sum(), parameters)

    sizes = batches_seen(monkeypatch)
    output = conv(crop)
    assert sizes == [2]
    torch.testing.assert_close(output, plain)
    torch.testing.assert_close(torch.autograd.grad((output * weights).sum(), parameters), expected)


@pytest.mark.parametrize(
    ("channels", "kernel", "size"),
    [(2, (3, 3, 3), (2, 2, 4, 4, 4)), (1, (3, 3, 3), (1, 1, 4, 4, 4)), (2, (1, 1, 1), (1, 2, 4, 4, 4))],
    ids=["two crops", "one channel", "no neighbours"],
)
def test_torch_is_asked_directly_where_it_is_fast(
    monkeypatch: pytest.MonkeyPatch, channels: int, kernel: tuple[int, ...], size: tuple[int, ...]
) -> None:
    sizes = batches_seen(monkeypatch)
    Conv3d(channels, 3, kernel, padding=tuple(k // 2 for k in kernel))(torch.zeros(size))
    assert sizes == [size[0]]


@pytest.mark.parametrize(
    "changed",
    [
        {"padding": 0},
        {"padding": "same"},
        {"stride": 2},
        {"dilation": 2, "padding": 2},
        {"groups": 2},
        {"padding_mode": "circular"},
        {"kernel_size": 2},
    ],
    ids=str,
)
def test_what_changes_the_shape_or_the_border_is_left_to_torch(changed: dict[str, object]) -> None:
    named: dict[str, object] = {"kernel_size": 3, "padding": 1, **changed}
    conv = Conv3d(2, 4, **named)  # type: ignore[arg-type]
    crop = torch.randn(1, 2, 6, 8, 8)
    assert torch.equal(conv(crop), torch.nn.Conv3d.forward(conv, crop))


def test_a_large_crop_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = batches_seen(monkeypatch)
    Conv3d(2, 1, (1, 1, 3), padding=(0, 0, 1))(torch.zeros(1, 2, 128, 81, 2))
    Conv3d(2, 1, (1, 1, 3), padding=(0, 0, 1))(torch.zeros(1, 2, 128, 80, 2))
    assert sizes == [1, 2]


def test_the_weights_are_named_as_torch_names_them() -> None:
    assert Conv3d(2, 3, 3, padding=1).state_dict().keys() == torch.nn.Conv3d(2, 3, 3).state_dict().keys()
