"""Several augmentations in a row, with one map for all that move voxels."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np

from skoots.data.augment.base import (
    AUGMENTATIONS,
    Augmentation,
    Change,
    Frame,
    IntensityAugmentation,
    SpatialAugmentation,
    Window,
    moved,
)
from skoots.data.augment.spatial_map import SpatialMap
from skoots.errors import SkootsError


@AUGMENTATIONS.register
class Sequential(Augmentation):
    """Transforms one after the other.

    Those that move voxels are composed, in their order, into one map that is applied first and once; all
    others follow in their order. So grey values change after the resampling, wherever they stand in the list.

    Args:
        transforms: augmentations; another ``Sequential`` stands for what it holds.
    """

    def __init__(self, transforms: Sequence[Augmentation]) -> None:
        parts = list(_flattened(transforms))
        self.spatial = [part for part in parts if isinstance(part, SpatialAugmentation)]
        self.others = [part for part in parts if not isinstance(part, SpatialAugmentation)]

    def draw_map(self, frame: Frame, rng: np.random.Generator) -> SpatialMap:
        """One map for everything that moves; to be drawn before anything else."""
        composed = SpatialMap.identity(frame.ndim)
        for part in self.spatial:
            drawn = part.draw(frame, rng)
            composed = composed if drawn is None else composed.then(drawn)
        return composed

    def change(self, window: Window, rng: np.random.Generator) -> Window:
        """All that moves nothing, after the map."""
        for part in self.others:
            window = part(window, rng)
        return window

    def draw_changes(self, frame: Frame, rng: np.random.Generator) -> list[Change]:
        """What ``change`` would do to the image, for a device to do.

        Raises:
            SkootsError: some parts cannot, see ``unportable``.
        """
        if self.unportable:
            raise SkootsError(
                f"{', '.join(self.unportable)} cannot work on the device: make crops on the CPU."
            )
        drawn = [part.draw(frame, rng) for part in self.others if isinstance(part, IntensityAugmentation)]
        return [change for change in drawn if change is not None]

    def rehearse(self, frame: Frame) -> None:
        """Draw every map once, whatever its rate: what does not fit the crop is said before training.

        Raises:
            SkootsError: a list has too few numbers for the axes of the crop.
        """
        for part in self.spatial:
            certain = copy.copy(part)
            vars(certain).update({"rate": 1.0} if "rate" in vars(part) else {})
            certain.draw(frame, np.random.default_rng(0))

    @property
    def unportable(self) -> list[str]:
        """Names of the parts that work on the CPU alone."""
        return [type(part).__name__ for part in self.others if not isinstance(part, IntensityAugmentation)]

    def __call__(self, window: Window, rng: np.random.Generator) -> Window:
        drawn = self.draw_map(Frame(window.labels.shape, window.voxel_size), rng)
        return self.change(moved(window, drawn), rng)


def _flattened(transforms: Sequence[Augmentation]) -> Iterator[Augmentation]:
    for part in transforms:
        if isinstance(part, Sequential):
            yield from part.spatial
            yield from part.others
        else:
            yield part
