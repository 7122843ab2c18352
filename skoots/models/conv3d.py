"""A 3D convolution that a CPU computes fast for one small crop, too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 20480
"""Up to this many C * D * H torch computes a batch of one without oneDNN, see ``use_mkldnn`` in its
Convolution.cpp: two to six times slower in 3D with a kernel of 3 x 3 x 3."""


class Conv3d(nn.Conv3d):
    """``nn.Conv3d``; where it keeps the shape, one small crop on a CPU is cut into a batch of two halves,
    with what the kernel reaches across the cut. ``benchmarks/training.py convolution`` has the times."""

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, D, H, W) to (B, C', D, H, W)."""
        return self._in_halves(features) if self._is_slow(features) else super().forward(features)

    def _is_slow(self, features: Tensor) -> bool:
        batch, channels, depth, height, width = features.shape
        return (
            batch == 1
            and 1 < channels <= SMALL // (depth * height)  # with one channel there is nothing to gain
            and features.device.type == "cpu"
            and features.dtype == torch.float32
            and self.kernel_size != (1, 1, 1)
            and max(depth, height, width) > 1
            and self._keeps_the_shape
        )

    @property
    def _keeps_the_shape(self) -> bool:
        plain = self.stride == self.dilation == (1, 1, 1) and self.groups == 1
        odd = all(k % 2 for k in self.kernel_size)
        centred = self.padding == tuple(k // 2 for k in self.kernel_size)
        return plain and odd and centred and self.padding_mode == "zeros"

    def _in_halves(self, features: Tensor) -> Tensor:
        axis = max((2, 3, 4), key=lambda a: features.shape[a])
        reach, length = self.kernel_size[axis - 2] // 2, features.shape[axis]
        half = (length + 1) // 2
        margins = [0] * 6
        margins[2 * (4 - axis) : 2 * (4 - axis) + 2] = reach, reach + 2 * half - length
        padded = F.pad(features, margins)
        halves = torch.cat([padded.narrow(axis, start, half + 2 * reach) for start in (0, half)])
        padding = [0 if a == axis else self.kernel_size[a - 2] // 2 for a in (2, 3, 4)]
        first, second = F.conv3d(halves, self.weight, self.bias, padding=padding).split(1)
        return torch.cat([first, second.narrow(axis, 0, length - half)], axis)
