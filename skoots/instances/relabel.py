"""Renumbering labels."""

from __future__ import annotations

import numpy as np


def close_gaps(sizes: np.ndarray, min_size: int = 0) -> np.ndarray:
    """New labels 1..n, in the same order, for the labels that are kept; index it with labels.

    Args:
        sizes: voxels of each label, the background first.
        min_size: labels of fewer voxels become 0, and so do those of none.

    Returns:
        int32 of the same length.
    """
    kept = sizes >= max(1, min_size)
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)
