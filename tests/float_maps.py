"""The labels that a decoder makes of a network's maps, for the tests of several rooms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from skoots.instances import Decoder, Maps, SkeletonDecoder


def decode(
    maps: Mapping[str, np.ndarray],
    scale: Sequence[float] | None,
    voxel_size: Sequence[float] | None = None,
    decoder: Decoder | None = None,
) -> np.ndarray:
    """Instances of maps as the network gives them.

    Args:
        maps: (C, *S) floats by name.
        scale: D voxels that a vector of length 1 spans.
        voxel_size: D edge lengths; None means isotropic.
        decoder: None takes the published one with its defaults.
    """
    decoder = decoder or SkeletonDecoder()
    size = voxel_size or (1.0,) * (next(iter(maps.values())).ndim - 1)
    return decoder.decode(Maps.of(maps, decoder.reads, size, scale))


def in_order(labels: np.ndarray) -> np.ndarray:
    """Ids 1, 2, ... in the order in which they first appear, so that partitions can be compared."""
    ids, first = np.unique(labels, return_index=True)
    order = [label for label in ids[np.argsort(first)] if label != 0]
    numbers = dict(zip([0, *order], range(len(order) + 1)))
    return np.array([numbers[label] for label in ids])[np.searchsorted(ids, labels)]
