"""The contract of detectors (the first stage of top-down models), and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from skoots.registry import Registry


class Detector(nn.Module, ABC):
    """From images to boxes around single objects."""

    @abstractmethod
    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        """(B, C, *S) images to one dict an image: ``boxes`` (N, 2 D) in voxels and ``scores`` (N,)."""


DETECTORS: Registry[Detector] = Registry("detector", Detector)
