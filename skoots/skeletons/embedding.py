"""From vectors to a probability that they reach their skeleton.

The published form builds the coordinate of every voxel, adds the scaled vector, and compares with the
skeleton point ("baked") that the voxel should reach. The coordinate cancels: ``offset_to_prob`` needs neither
mesh nor baked field, keeps its precision at any distance from the origin, and is what training uses. Its
gradient is written out by hand: one channel at a time and in place, where autograd keeps every term.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor


def per_axis(values: Sequence[float] | Tensor, like: Tensor) -> Tensor:
    """D numbers, as a list or a tensor, shaped to multiply (B, D, *S)."""
    if not isinstance(values, Tensor):
        # Filled where they are needed: a GPU would wait for a copy from the host.
        values = torch.stack([like.new_full((), value) for value in values])
    return values.to(like).view(1, -1, *(1,) * (like.ndim - 2))


def vector_to_embedding(scale: Sequence[float] | Tensor, vector: Tensor) -> Tensor:
    """Where each voxel's vector leads: position + scale * vector (Buswinka et al. 2023).

    Args:
        scale: D voxels that a vector of length 1 spans, per axis (z, y, x).
        vector: (B, D, *S) in [-1, 1].

    Returns:
        (B, D, *S) voxel coordinates.
    """
    axes = [torch.arange(n, dtype=vector.dtype, device=vector.device) for n in vector.shape[2:]]
    mesh = torch.stack(torch.meshgrid(*axes, indexing="ij")).unsqueeze(0)
    return mesh + per_axis(scale, vector) * vector


def baked_embed_to_prob(embedding: Tensor, baked: Tensor, sigma: Sequence[float] | Tensor) -> Tensor:
    """Probability that an embedding hits its skeleton point: exp(-sum (embedding - baked)^2 / (2 sigma^2)).

    Args:
        embedding: (B, D, *S) voxel coordinates.
        baked: (B, D, *S) coordinates of the skeleton point that each voxel should reach.
        sigma: D voxels per axis (z, y, x).

    Returns:
        (B, 1, *S) in [0, 1].
    """
    return _gaussian(embedding - baked, sigma)


def offset_to_prob(
    scale: Sequence[float] | Tensor,
    vector: Tensor,
    offset: Tensor,
    sigma: Sequence[float] | Tensor,
    foreground: Tensor | None = None,
) -> Tensor:
    """The same probability from the offset: exp(-sum (scale * vector - offset)^2 / (2 sigma^2)).

    Args:
        scale: D voxels per axis.
        vector: (B, D, *S) in [-1, 1].
        offset: (B, D, *S) voxels from each voxel to its skeleton point.
        sigma: D voxels per axis.
        foreground: (B, 1, *S), a factor of the probability; None for 1.

    Returns:
        (B, 1, *S) in [0, 1], in float32 at least.
    """
    dtype = torch.promote_types(vector.dtype, torch.float32)
    vector, offset = vector.to(dtype), offset.to(dtype)
    scale, sigma = per_axis(scale, vector), per_axis(sigma, vector)
    factor = None if foreground is None else foreground.to(dtype)
    others_learn = any(t is not None and t.requires_grad for t in (offset, scale, sigma, factor))
    if others_learn or torch.compiler.is_compiling():  # a compiler fuses the plain form by itself
        probability = _gaussian(scale * vector - offset, sigma)
        return probability if factor is None else probability * factor
    return cast(Tensor, _OffsetToProb.apply(vector, offset, scale, sigma, factor))


def _gaussian(miss: Tensor, sigma: Sequence[float] | Tensor) -> Tensor:
    return torch.exp(-((miss / per_axis(sigma, miss)) ** 2).sum(1, keepdim=True) / 2)


class _OffsetToProb(torch.autograd.Function):
    """``offset_to_prob`` with a gradient for ``vector`` alone.

    With u = (scale * vector - offset) / (sqrt(2) sigma) on each axis, p = foreground * exp(-sum u^2) and
    dp/dvector = -2 p u scale / (sqrt(2) sigma). Only p is kept, and u is computed again.
    torch refuses a gradient of this gradient, because it is written into a buffer.
    """

    @staticmethod
    def forward(
        ctx: Any, vector: Tensor, offset: Tensor, scale: Tensor, sigma: Tensor, foreground: Tensor | None
    ) -> Tensor:
        unit = (2**0.5 * sigma).flatten()
        reach, per_voxel = scale.flatten() / unit, 1 / unit
        probability = torch.zeros_like(vector[:, :1])
        miss = torch.empty_like(probability)
        for v, o, r, n in zip(vector.split(1, 1), offset.split(1, 1), reach, per_voxel):
            torch.mul(v, r, out=miss).addcmul_(o, n, value=-1)
            probability.addcmul_(miss, miss, value=-1)
        probability.exp_()
        if foreground is not None:
            probability.mul_(foreground)
        ctx.save_for_backward(vector, offset, reach, per_voxel, probability)
        return probability

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        vector, offset, reach, per_voxel, probability = ctx.saved_tensors
        pull = probability * gradient
        result = torch.empty_like(vector)
        for v, o, out, r, n in zip(
            vector.split(1, 1), offset.split(1, 1), result.split(1, 1), reach, per_voxel
        ):
            torch.mul(v, -2 * r * r, out=out).addcmul_(o, r * n, value=2).mul_(pull)
        return result, None, None, None, None
