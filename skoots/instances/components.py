"""Connected components of binary maps."""

from __future__ import annotations

import cc3d
import numpy as np
from scipy import ndimage

from skoots.instances.relabel import close_gaps


def label_components(mask: np.ndarray, min_size: int = 0, corners: bool = True) -> np.ndarray:
    """Label connected components.

    Args:
        mask: (*S) bool.
        min_size: components of fewer voxels are dropped.
        corners: neighbours over corners count (26 in 3D, 8 in 2D), else faces only (6, 4).

    Returns:
        (*S) int32 labels 1..n, 0 = outside. Algorithm: connected-components-3d in 3D, scipy in 2D.
    """
    labels = _label_2d(mask, corners) if mask.ndim == 2 else _label_3d(mask, corners)
    if min_size <= 1:
        return labels
    return close_gaps(np.bincount(labels.ravel(), minlength=1), min_size)[labels]


def _label_2d(mask: np.ndarray, corners: bool) -> np.ndarray:
    # connected-components-3d 4.1 splits and merges some of the components that touch at corners.
    return ndimage.label(mask, np.ones((3, 3)) if corners else None)[0]


def _label_3d(mask: np.ndarray, corners: bool) -> np.ndarray:
    labels = cc3d.connected_components(
        np.ascontiguousarray(mask), connectivity=26 if corners else 6, out_dtype=np.uint32
    )
    return labels.view(np.int32)
