"""From vectors to a probability that they reach their skeleton.

The published form builds the coordinate of every voxel, adds the scaled vector, and compares with the
skeleton point ("baked") that the voxel should reach. The coordinate cancels: ``offset_to_prob`` needs neither
mesh nor baked field, keeps its precision at any distance from the origin, and is what training uses.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def _per_axis(values: Sequence[float] | Tensor, like: Tensor) -> Tensor:
    """D numbers, shaped to multiply (B, D, *S)."""
    tensor = torch.as_tensor(values, dtype=like.dtype, device=like.device)
    return tensor.view(1, -1, *(1,) * (like.ndim - 2))


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
    return mesh + _per_axis(scale, vector) * vector


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
    scale: Sequence[float] | Tensor, vector: Tensor, offset: Tensor, sigma: Sequence[float] | Tensor
) -> Tensor:
    """The same probability from the offset: exp(-sum (scale * vector - offset)^2 / (2 sigma^2)).

    Args:
        scale: D voxels per axis.
        vector: (B, D, *S) in [-1, 1].
        offset: (B, D, *S) voxels from each voxel to its skeleton point.
        sigma: D voxels per axis.

    Returns:
        (B, 1, *S) in [0, 1].
    """
    return _gaussian(_per_axis(scale, vector) * vector - offset, sigma)


def _gaussian(miss: Tensor, sigma: Sequence[float] | Tensor) -> Tensor:
    return torch.exp(-((miss / _per_axis(sigma, miss)) ** 2).sum(1, keepdim=True) / 2)
