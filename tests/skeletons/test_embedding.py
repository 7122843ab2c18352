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


@pytest.mark.parametrize("shape", [(2, 3, 5, 6, 7), (2, 2, 8, 9)])
def test_both_forms_agree(shape):
    generator = torch.Generator().manual_seed(0)
    ndim = shape[1]
    vector = (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1).requires_grad_()
    offset = torch.randn(shape, generator=generator, dtype=torch.float64) * 4
    scale, sigma = (5.0, 7.0, 9.0)[:ndim], (2.0, 3.0, 4.0)[:ndim]
    position = vector_to_embedding((0.0,) * ndim, torch.zeros_like(vector))
    published = baked_embed_to_prob(vector_to_embedding(scale, vector), position + offset, sigma)
    short = offset_to_prob(scale, vector, offset, sigma)
    assert short.shape == (shape[0], 1, *shape[2:])
    assert torch.allclose(published, short)
    gradients = [torch.autograd.grad(p.sum(), vector)[0] for p in (published, short)]
    assert torch.allclose(*gradients)


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
