"""Weights of the original SKOOTS as weights of our UNeXT and its three heads.

The original's axes are row, column, section; ours are section, row, column. So its kernels are turned, and
so are the components of its vectors: the network then gives for z, y, x what the original gave for its own
order.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skoots.errors import SnapshotError
from skoots.models.weights import bare_names

SECTION_FIRST = (2, 0, 1)

HEADS = {"vector": "out_embed", "semantic": "out_prob", "skeleton": "out_skeleton"}

NAMES = (
    (r"backbone\.init_stage\.", "backbone.stem."),
    (r"backbone\.downsample_layers\.(\d+)\.", r"backbone.down.\1."),
    (r"backbone\.down_norms\.(\d+)\.", r"backbone.down.\1.2."),
    (r"backbone\.upsample_layers\.(\d+)\.", r"backbone.up.\1.merge."),
    (r"backbone\.concat\.(\d+)\.conv\.", r"backbone.up.\1.merge.join."),
    (r"backbone\.up_stages\.(\d+)\.", r"backbone.up.\1.blocks."),
    (r"backbone\.up_norms\.(\d+)\.", r"backbone.up.\1.norm."),
    (r"backbone\.upscale_out\.", "backbone.out."),
    (r"backbone\.final_concat\.conv\.", "backbone.out.join."),
    (r"backbone\.out_conv\.", "backbone.project."),
    *((rf"{theirs}\.", f"heads.{ours}.conv.") for ours, theirs in HEADS.items()),
)
LAYERS = {"dwconv": "conv", "pwconv1": "widen", "pwconv2": "narrow", "compress": "narrow"}

_DOWN_BLOCK = re.compile(r"backbone\.down_stages\.(\d+)\.(\d+)\.")
_BEFORE_BLOCKS = 3  # layers of a way down before its blocks: a convolution and two norms


@dataclass(frozen=True)
class OriginalNetwork:
    """A network of the original as parts of ours.

    Args:
        in_channels: of the images.
        backbone: arguments of ``UNeXT`` that the weights tell.
        head_kernel: edge of the convolution of each head.
        weights: by the names that they have in a ``SegmentationModel`` with the heads vector, semantic and
            skeleton.
    """

    in_channels: int
    backbone: dict[str, Any]
    head_kernel: int
    weights: dict[str, Tensor]


def read_network(weights: Mapping[str, Tensor]) -> OriginalNetwork:
    """What the weights of a model file of the original are in our network.

    Args:
        weights: by the original's names.

    Raises:
        SnapshotError: they are not those of a UNeXT.
    """
    theirs = bare_names(weights)
    down = _channels(theirs, "backbone.down_norms")
    up = _channels(theirs, "backbone.up_norms")
    depths = [
        _count(theirs, f"backbone.{way}_stages.{stage}")
        for way, stages in (("down", down), ("up", up))
        for stage in range(len(stages))
    ]
    kernel = _turned(_found(theirs, "backbone.init_stage.1.dwconv.weight", axes=5)).shape[2:]
    backbone = {
        "dims": [*down, *up],
        "depths": depths,
        "kernel": kernel[0] if len(set(kernel)) == 1 else list(kernel),
        "out_channels": _found(theirs, "backbone.out_conv.weight", axes=5).shape[0],
    }
    stem = _found(theirs, "backbone.init_stage.0.weight", axes=5)
    edge = _found(theirs, f"{HEADS['vector']}.weight", axes=5).shape[-1]
    ours = {_our_name(name): _turned(value) for name, value in _with_factors(theirs).items()}
    for name in ("heads.vector.conv.weight", "heads.vector.conv.bias"):
        if name in ours and len(ours[name]) == len(SECTION_FIRST):
            ours[name] = ours[name][list(SECTION_FIRST)]
    return OriginalNetwork(stem.shape[1], backbone, edge, ours)


def _found(weights: Mapping[str, Tensor], name: str, axes: int) -> Tensor:
    if name not in weights:
        raise SnapshotError(f"The weights are not those of a UNeXT of the original SKOOTS: they lack {name}.")
    if weights[name].ndim != axes or not weights[name].numel():
        raise SnapshotError(
            f"The weights are not those of a UNeXT of the original SKOOTS: {name} has the shape "
            f"{tuple(weights[name].shape)}."
        )
    return weights[name]


def _channels(weights: Mapping[str, Tensor], norms: str) -> list[int]:
    """Channels of each stage of a way, which are those of its norm."""
    names = itertools.takewhile(weights.__contains__, (f"{norms}.{i}.weight" for i in itertools.count()))
    return [_found(weights, name, axes=1).shape[0] for name in names]


def _count(weights: Iterable[str], stage: str) -> int:
    """Blocks of a stage."""
    blocks = {name[len(stage) + 1 :].split(".")[0] for name in weights if name.startswith(f"{stage}.")}
    return len(blocks)


def _with_factors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with a factor of 1 for each block that was made without factors, as the original does where
    LAYER_SCALE_INIT_VALUE is 0."""
    ones = {
        f"{name.removesuffix('dwconv.weight')}gamma": torch.ones(len(value))
        for name, value in weights.items()
        if name.endswith("dwconv.weight")
    }
    return {**ones, **weights}


def _turned(value: Tensor) -> Tensor:
    """A kernel (out, in, row, column, section) as (out, in, z, y, x); other weights as they are."""
    return (
        value.permute(0, 1, *(2 + axis for axis in SECTION_FIRST)).contiguous() if value.ndim == 5 else value
    )


def _our_name(name: str) -> str:
    block = _DOWN_BLOCK.match(name)
    if block is not None:
        stage, index = block[1], int(block[2]) + _BEFORE_BLOCKS
        name = f"backbone.down.{stage}.{index}.{name[block.end() :]}"
    for theirs, ours in NAMES:
        name = re.sub(f"^{theirs}", ours, name)
    return ".".join(LAYERS.get(word, word) for word in name.split("."))
