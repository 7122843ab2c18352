"""Vectors to probabilities: the published form, the short form, and numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch

from skoots.skeletons import baked_embed_to_prob, offset_to_prob, vector_to_embedding


def test_embedding_is_position_plus_scaled_vector():
    vector = torch.zeros(1, 3, 2, 3, 4)
    vector[0, :, 1, 2, 3] = torch.tensor([1.0, -0.5, 0.25])
    embedding = vector_to_embedding((10, 20, 40), vector)
    assert embedding[0, :, 0, 1, 2].tolist() == [0, 1, 2]
    assert embedding[0, :, 1, 2, 3].tolist() == [11, -8, 13]


def test_probability_of_a_miss_by_hand():
    baked = torch.zeros(1, 2, 1, 1)
    embedding = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert baked_embed_to_prob(embedding, baked, (3, 2)).item() == pytest.approx(math.exp(-(1 + 4) / 2))
    assert baked_embed_to_prob(baked, baked, (3, 2)).item() == 1


SCALE, SIGMA = (5.0, 7.0, 9.0), (2.0, 3.0, 4.0)


def random_case(shape, dtype=torch.float64):
    """Vector, offset and foreground of a batch."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    offset = torch.randn(shape, generator=generator, dtype=torch.float64) * 4
    foreground = torch.rand((shape[0], 1, *shape[2:]), generator=generator, dtype=torch.float64) > 0.4
    return vector.to(dtype), offset.to(dtype), foreground.to(dtype)


def published(scale, vector, offset, sigma, foreground=None):
    """The form of the paper: embedding against baked skeleton."""
    position = vector_to_embedding((0.0,) * (vector.ndim - 2), torch.zeros_like(vector))
    probability = baked_embed_to_prob(vector_to_embedding(scale, vector), position + offset, sigma)
    return probability if foreground is None else probability * foreground


def value_and_gradient(form, scale, vector, offset, sigma, foreground=None):
    """The probability, and the gradient of a sum over it with weights that differ."""
    vector = vector.detach().requires_grad_()
    probability = form(scale, vector, offset, sigma, foreground)
    weights = torch.linspace(-1, 2, probability.numel(), dtype=probability.dtype).view_as(probability)
    (gradient,) = torch.autograd.grad((probability * weights).sum(), vector)
    return probability.detach(), gradient


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 5, 6, 7), (1, 3, 4, 5, 6), (2, 2, 8, 9)])
def test_both_forms_agree(shape, masked):
    vector, offset, foreground = random_case(shape)
    case = (SCALE[: shape[1]], vector, offset, SIGMA[: shape[1]], foreground if masked else None)
    (expected, expected_gradient), (short, gradient) = (
        value_and_gradient(form, *case) for form in (published, offset_to_prob)
    )
    assert short.shape == (shape[0], 1, *shape[2:])
    assert torch.allclose(expected, short, rtol=1e-10, atol=1e-14)
    assert torch.allclose(expected_gradient, gradient, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("shape", [(2, 3, 2, 3, 4), (2, 2, 4, 3)])
def test_gradient_against_finite_differences(shape):
    vector, offset, foreground = random_case(shape)

    def probability(vector):
        return offset_to_prob(SCALE[: shape[1]], vector, offset, SIGMA[: shape[1]], foreground)

    assert torch.autograd.gradcheck(probability, vector.requires_grad_())


@pytest.mark.parametrize("layout", ["channels last", "every second voxel", "transposed"])
def test_any_memory_layout(layout):
    vector, offset, foreground = random_case((2, 3, 6, 8, 10), torch.float32)
    expected = value_and_gradient(offset_to_prob, SCALE, vector, offset, SIGMA, foreground)
    if layout == "channels last":
        vector = vector.contiguous(memory_format=torch.channels_last_3d)
    elif layout == "transposed":
        vector, offset = (t.transpose(2, 4).contiguous().transpose(2, 4) for t in (vector, offset))
    else:
        vector, offset = (t.repeat_interleave(2, -1)[..., ::2] for t in (vector, offset))
    found = value_and_gradient(offset_to_prob, SCALE, vector, offset, SIGMA, foreground)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_vectors_are_computed_in_float32_and_get_a_half_gradient(dtype):
    vector, offset, foreground = random_case((1, 3, 4, 5, 6), torch.float32)
    vector = vector.to(dtype)
    expected, expected_gradient = value_and_gradient(
        published, SCALE, vector.double(), offset.double(), SIGMA, foreground.double()
    )
    probability, gradient = value_and_gradient(offset_to_prob, SCALE, vector, offset, SIGMA, foreground)
    assert probability.dtype == torch.float32 and gradient.dtype == dtype
    assert torch.allclose(probability.double(), expected, atol=1e-5)
    assert torch.allclose(gradient.double(), expected_gradient, rtol=1e-2, atol=1e-3)


def test_under_autocast_the_probability_is_the_same():
    vector, offset, foreground = random_case((1, 2, 8, 9), torch.float32)
    expected = value_and_gradient(offset_to_prob, SCALE[:2], vector, offset, SIGMA[:2], foreground)
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradient(offset_to_prob, SCALE[:2], vector, offset, SIGMA[:2], foreground)
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


def test_without_a_gradient():
    vector, offset, _ = random_case((1, 2, 4, 5))
    with_gradient = offset_to_prob(SCALE[:2], vector.clone().requires_grad_(), offset, SIGMA[:2])
    assert with_gradient.requires_grad
    assert not offset_to_prob(SCALE[:2], vector, offset, SIGMA[:2]).requires_grad
    for off in (torch.no_grad(), torch.inference_mode()):
        with off:
            assert torch.equal(offset_to_prob(SCALE[:2], vector, offset, SIGMA[:2]), with_gradient)


def test_whoever_asks_for_another_gradient_gets_it():
    vector, offset, foreground = random_case((1, 2, 3, 4))
    inputs = (torch.tensor(SCALE[:2]).double(), vector, offset, torch.tensor(SIGMA[:2]).double(), foreground)
    assert torch.autograd.gradcheck(offset_to_prob, [t.requires_grad_() for t in inputs])


def test_nan_stays_visible():
    vector, offset, foreground = random_case((1, 3, 4, 5, 6), torch.float32)
    hit = tuple(foreground[0, 0].nonzero()[0].tolist())
    vector[(0, 1, *hit)] = float("nan")
    probability, gradient = value_and_gradient(offset_to_prob, SCALE, vector, offset, SIGMA, foreground)
    assert probability[(0, 0, *hit)].isnan() and probability.isnan().sum() == 1
    assert gradient[(0, slice(None), *hit)].isnan().all() and gradient.isnan().sum() == 3


def test_a_second_backward_pass_gives_the_same_and_a_gradient_of_the_gradient_is_refused():
    vector, offset, _ = random_case((1, 2, 4, 5))
    total = offset_to_prob(SCALE[:2], vector.requires_grad_(), offset, SIGMA[:2]).sum()
    first, second = (torch.autograd.grad(total, vector, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        torch.autograd.grad(total, vector, create_graph=True)


@pytest.mark.slow
def test_a_compiled_caller_gets_the_same():
    vector, offset, foreground = random_case((1, 2, 8, 9), torch.float32)
    expected = value_and_gradient(offset_to_prob, SCALE[:2], vector, offset, SIGMA[:2], foreground)
    compiled = torch.compile(offset_to_prob, backend="aot_eager", fullgraph=True)
    found = value_and_gradient(compiled, SCALE[:2], vector, offset, SIGMA[:2], foreground)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected))


def test_scale_and_sigma_may_be_tensors():
    vector, offset = torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3, 3)
    lists = offset_to_prob([2.0, 3.0], vector, offset, [1.0, 2.0])
    assert torch.equal(lists, offset_to_prob(torch.tensor([2.0, 3.0]), vector, offset, torch.tensor([1, 2])))


def test_half_precision_far_from_the_origin():
    """At coordinate 4000 the published form cannot tell neighbours apart; the offset form does not care."""
    vector = torch.full((1, 2, 1, 4001), 0.5, dtype=torch.float16)
    offset = torch.full((1, 2, 1, 4001), 2.5, dtype=torch.float16)
    exact = math.exp(-0.25)  # misses by half a voxel on each of two axes
    assert offset_to_prob((4, 4), vector, offset, (1, 1)).float().flatten()[-1].item() == pytest.approx(
        exact, abs=1e-3
    )
