"""How far a network sees, measured on the network itself."""

from __future__ import annotations

import torch
from torch import nn


def measure_receptive_field(network: nn.Module, in_channels: int, size: tuple[int, ...]) -> tuple[int, ...]:
    """Voxels on either side of an output voxel that the gradient of its value reaches.

    Args:
        network: (1, in_channels, *size) images to features of the same size; its mode and gradients are left
            as they were.
        in_channels: of the images.
        size: D voxels; a network that sees farther than half of it gets this half.
    """
    training = network.training
    network.eval()
    device = next(network.parameters()).device
    image = torch.randn(1, in_channels, *size, requires_grad=True, device=device)
    centre = tuple(n // 2 for n in size)
    window = (slice(None), slice(None), *centre)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(network(image)[window].sum(), image)
    network.train(training)
    touched = gradient.abs().sum((0, 1)).nonzero() - torch.tensor(centre, device=device)
    return tuple(int(reach) for reach in touched.abs().amax(0))
