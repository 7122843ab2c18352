"""Backbone, neck and heads as one model that speaks in named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from skoots.models.backbones.base import Backbone
from skoots.models.heads.base import Head
from skoots.models.necks.base import Neck
from skoots.models.nonfinite import check_map
from skoots.samples import Batch

Outputs = dict[str, dict[str, Tensor]]


class SegmentationModel(nn.Module):
    """``model(images) -> {head: {output: tensor}}``.

    Args:
        backbone: from images to features.
        heads: by name; the name is the key of outputs, losses and weights.
        neck: brings several features, or coarse ones, to the images' resolution; None if the backbone gives
            one feature that has it.
        freeze_bn_stats: batch norms of the backbone keep their running statistics in training.
        freeze_bn_weights: batch norms of the backbone keep their weights.

    Raises:
        ValueError: the features need a neck.
    """

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, Head],
        neck: Neck | None = None,
        freeze_bn_stats: bool = False,
        freeze_bn_weights: bool = False,
    ) -> None:
        super().__init__()
        if neck is None and backbone.needs_neck:
            given = ", ".join(map(str, backbone.features))
            raise ValueError(f"{type(backbone).__name__} gives {given}: a neck must bring them together")
        self.backbone = backbone
        self.neck = neck
        self.heads = nn.ModuleDict(heads)
        self.freeze_bn_stats = freeze_bn_stats
        if freeze_bn_weights:
            for layer in self._backbone_batch_norms():
                for parameter in layer.parameters(recurse=False):  # timm's may hold an activation
                    parameter.requires_grad_(False)
        self.train()

    def named_heads(self) -> list[tuple[str, Head]]:
        """Heads with their names, in the order of the config."""
        return [(name, cast(Head, head)) for name, head in self.heads.items()]

    def _backbone_batch_norms(self) -> list[nn.Module]:
        return [m for m in self.backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]

    def train(self, mode: bool = True) -> SegmentationModel:
        """Training or evaluation mode; frozen statistics stay frozen."""
        super().train(mode)
        if self.freeze_bn_stats:
            for layer in self._backbone_batch_norms():
                layer.eval()
        return self

    @property
    def spatial_dims(self) -> int:
        return self.backbone.spatial_dims

    @property
    def stride(self) -> tuple[int, ...]:
        """D integers; tiles that begin at multiples of them are seen as in the whole image."""
        return self.backbone.stride

    @property
    def receptive_field(self) -> tuple[int, ...]:
        """D voxels on either side that an output voxel depends on: the halo that makes tiling exact."""
        none = (0,) * self.spatial_dims
        neck = self.neck.receptive_field if self.neck is not None else none
        heads = [head.receptive_field or none for _, head in self.named_heads()]
        return tuple(b + n + max(h) for b, n, h in zip(self.backbone.receptive_field, neck, zip(*heads)))

    @property
    def finest_channels(self) -> int:
        """Channels at the images' resolution, of which a tile's memory is mostly made."""
        features = self.backbone.features[:1] if not self.backbone.needs_neck else ()
        return max([*(f.channels for f in features), *([self.neck.out_channels] if self.neck else [])])

    @property
    def vector_scale(self) -> tuple[float, ...] | None:
        """D voxels that a vector of length 1 spans; None without a vector head."""
        scales = [head.scale for _, head in self.named_heads() if head.scale is not None]
        return tuple(scales[0].tolist()) if scales else None

    def vector_sigma(self, epoch: int) -> tuple[float, ...] | None:
        """D voxels within which a vector counts as a hit at an epoch; None without a vector head."""
        sigmas = [head.sigma_at(epoch) for _, head in self.named_heads()]
        return next((sigma for sigma in sigmas if sigma is not None), None)

    def forward(self, images: Tensor) -> Outputs:
        """(B, C, *S) images of any shape to outputs of the same *S."""
        shape = images.shape[2:]
        images = pad_to_multiple(images, self.backbone.divisibility)
        given = self.backbone.named(self.backbone(images))
        features: Tensor = (
            given[self.backbone.features[0].name] if self.neck is None else self.neck(images, given)
        )
        window = (slice(None), slice(None), *(slice(0, n) for n in shape))
        features = features[window]
        return {name: head(features) for name, head in self.named_heads()}

    def targets(self, batch: Batch) -> Outputs:
        """What each head should output for this batch."""
        return {name: head.targets(batch) for name, head in self.named_heads()}

    def loss(
        self, outputs: Outputs, targets: Outputs, batch: Batch, epoch: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, and each head's loss before its weight.

        Heads whose ``start_epoch`` has not come are reported but do not count; in epoch 0, the warm-up before
        the first epoch, all do.
        """
        parts = {
            name: head.loss(outputs[name], targets[name], batch, epoch) for name, head in self.named_heads()
        }
        counted = [
            head.weight * parts[name] for name, head in self.named_heads() if not 0 < epoch < head.start_epoch
        ]
        total = torch.stack(counted).sum() if counted else torch.stack(list(parts.values())).sum() * 0
        return total, parts

    def predict(self, outputs: Outputs) -> dict[str, Tensor]:
        """The maps of all heads by map name.

        Raises:
            NonFiniteMapError: a map holds NaN or infinite values.
        """
        maps = self.maps(outputs)
        for name, (head, values) in maps.items():
            check_map(head, name, values)
        return {name: values for name, (_, values) in maps.items()}

    def maps(self, outputs: Outputs) -> dict[str, tuple[str, Tensor]]:
        """The maps by name, whatever they hold, each with the name of its head."""
        maps: dict[str, tuple[str, Tensor]] = {}
        for name, head in self.named_heads():
            for key, values in head.predict(outputs[name]).items():
                if key in maps:
                    raise ValueError(f"head {name!r} gives a map {key!r}, which another head gives too")
                maps[key] = name, values
        return maps


def pad_to_multiple(images: Tensor, multiple: tuple[int, ...]) -> Tensor:
    """Pad the end of each axis by repeating the border, so that the shape is divisible.

    Args:
        images: (B, C, *S).
        multiple: D integers.
    """
    missing = [-n % m for n, m in zip(images.shape[2:], multiple)]
    if not any(missing):
        return images
    return F.pad(images, [p for m in reversed(missing) for p in (0, m)], mode="replicate")
