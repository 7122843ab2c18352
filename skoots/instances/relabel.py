"""Renumbering labels."""

from __future__ import annotations

import fastremap
import numpy as np


def renumber(labels: np.ndarray) -> np.ndarray:
    """Ids 1..n in order of first appearance, 0 kept, int32."""
    compact, _ = fastremap.renumber(np.ascontiguousarray(labels), preserve_zero=True, in_place=False)
    return compact.astype(np.int32)


def drop_small(labels: np.ndarray, min_size: int) -> np.ndarray:
    """Labels without the objects of fewer than ``min_size`` voxels.

    Args:
        labels: (*S) non-negative ids, not much larger than their number.
        min_size: voxels.
    """
    if min_size <= 1:
        return labels
    small = np.bincount(labels.ravel()) < min_size
    return np.where(small[labels], 0, labels)
