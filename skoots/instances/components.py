"""Connected components of binary maps."""

from __future__ import annotations

from typing import Literal

import cc3d
import numpy as np

# By dimensions, and whether corners count.
NEIGHBOURS: dict[tuple[int, bool], Literal[4, 6, 8, 26]] = {
    (3, True): 26,
    (3, False): 6,
    (2, True): 8,
    (2, False): 4,
}


def label_components(mask: np.ndarray, min_size: int = 0, corners: bool = True) -> np.ndarray:
    """Label connected components.

    Args:
        mask: (*S) bool.
        min_size: components of fewer voxels are dropped.
        corners: neighbours over corners count (26 in 3D, 8 in 2D), else faces only (6, 4).

    Returns:
        (*S) int32 labels 1..n, 0 = outside. Algorithm: connected-components-3d.
    """
    labels = cc3d.connected_components(
        np.ascontiguousarray(mask), connectivity=NEIGHBOURS[mask.ndim, corners], out_dtype=np.uint32
    )
    if min_size <= 1:
        return labels.astype(np.int32)
    keep = np.bincount(labels.ravel()) >= min_size
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[labels]
