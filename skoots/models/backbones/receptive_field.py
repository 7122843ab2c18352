"""How far a backbone sees, measured on the backbone itself."""

from __future__ import annotations

import copy
import math

import torch

from skoots.models.backbones.base import Backbone

SHORT = 16  # length of the first image, in strides of the backbone
LONG = 4096  # and of the second, for those that see farther, in voxels,
VOXELS = 2**17  # while it has no more of them
WHOLE_IMAGE = {2: 16, 3: 6}  # what is said, in strides, of one that sees all there is


def measure_receptive_field(backbone: Backbone, in_channels: int, axis: int) -> int:
    """Voxels on either side along an axis that a voxel of the features depends on, at most a stride too many.

    A NaN in the image makes NaN of all that depends on it. A backbone that sees the whole image (attention,
    squeeze-and-excitation, instance norm) depends on the tiling whatever the halo, and gets a usual one.

    Args:
        backbone: left as it is; a copy computes on the CPU, where convolutions do not spread NaN as fast
            algorithms on GPUs do.
        in_channels: of the images.
        axis: of D.
    """
    probe = copy.deepcopy(backbone).cpu().float().eval()
    stride = backbone.stride[axis]
    short = SHORT * stride
    others = math.prod(backbone.stride) // stride
    longest = max(short, min(LONG, VOXELS // others) // stride * stride)
    for length in (short, longest):
        reach = _reach(probe, in_channels, axis, length)
        if reach < length // 2 - stride:
            return reach
    return WHOLE_IMAGE[backbone.spatial_dims] * stride


@torch.inference_mode()
def _reach(backbone: Backbone, in_channels: int, axis: int, length: int) -> int:
    """In an image that is as long along the axis, and one stride wide along the others."""
    shape, stride = list(backbone.stride), backbone.stride[axis]
    shape[axis] = length
    image = torch.randn(1, in_channels, *shape)
    first = length // stride // 2 * stride
    image.narrow(2 + axis, first, stride).fill_(torch.nan)
    named, reach = backbone.named(backbone(image)), 0
    for feature in backbone.features:
        touched = named[feature.name].isnan().movedim(2 + axis, 0).flatten(1).any(1).nonzero()
        low = int(touched.min()) * feature.stride[axis]
        high = (int(touched.max()) + 1) * feature.stride[axis] - 1
        reach = max(reach, first + stride - 1 - low, high - first)
    return reach
