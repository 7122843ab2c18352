"""Labels of an image that shows no objects."""

from __future__ import annotations

from typing import Any

import numpy as np

from skoots.volumes.base import Volume
from skoots.volumes.layout import Layout


class BackgroundLabels(Volume):
    """A label volume that is 0 everywhere and takes no memory.

    Args:
        image: the image that it belongs to.
    """

    def __init__(self, image: Volume) -> None:
        self._image = image
        layout = Layout(image.shape, tuple(range(image.spatial_dims)), None)
        super().__init__(
            f"{image.path} (background)", layout, np.dtype(np.int32), image.voxel_size, image.unit
        )

    def _read(self, index: tuple[slice, ...]) -> np.ndarray:
        return np.zeros([part.stop - part.start for part in index], np.int32)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._image,)
