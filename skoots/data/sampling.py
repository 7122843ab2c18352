"""What a training window is drawn around: nothing, or a point of an object or of a boundary."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from skoots.ranges import Share
from skoots.skeletons import Skeletons


@dataclass(frozen=True)
class Sampling:
    """Shares of training windows by what they are drawn around; those that are left lie anywhere.

    Args:
        objects: an object, all alike, and one of its skeleton points: small objects are seen as often as
            large ones.
        foreground: any skeleton point, all alike: long objects are seen more often.
        rare: as ``objects``, out of the smallest quarter of the volume's objects.
        boundaries: a voxel that has two different objects among itself and its neighbours.

    Raises:
        ValueError: they add up to more than 1.
    """

    objects: Share = 0.5
    foreground: Share = 0.0
    rare: Share = 0.0
    boundaries: Share = 0.0

    def __post_init__(self) -> None:
        shares = {f.name: getattr(self, f.name) for f in fields(self)}
        if sum(shares.values()) > 1 + 1e-9:
            listed = " + ".join(f"{name} {share:g}" for name, share in shares.items() if share)
            raise ValueError(f"the shares add up to more than 1 ({listed}); lower one")

    def kind(self, rng: np.random.Generator) -> str | None:
        """What the next window is drawn around; None for anywhere."""
        left = rng.random()
        for f in fields(self):
            left -= getattr(self, f.name)
            if left < 0:
                return f.name
        return None


@dataclass(frozen=True)
class Places:
    """Where in a volume the windows of each kind can be; made once, so that a draw reads nothing.

    Args:
        skeletons: of the volume's objects.
        boundaries: (n, D) voxels between objects.
        filled: rows of the skeletons that have points.
        small: those of the smallest quarter of the objects.
    """

    skeletons: Skeletons
    boundaries: np.ndarray
    filled: np.ndarray = field(init=False)
    small: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        counts = np.diff(self.skeletons.starts)
        filled = np.flatnonzero(counts)
        # length times cross section stands for the volume, which nobody has counted
        size = counts * self.skeletons.inscribed ** (self.skeletons.points.shape[1] - 1)
        order = filled[np.argsort(size[filled], kind="stable")]
        object.__setattr__(self, "filled", filled)
        object.__setattr__(self, "small", order[: -(-len(order) // 4)])

    def draw(self, kind: str | None, rng: np.random.Generator) -> np.ndarray | None:
        """A point (D,) of a kind; where the volume has no boundary, of an object; without objects, None."""
        if kind is None or not len(self.filled):
            return None
        if kind == "foreground":
            return self.skeletons.points[rng.integers(len(self.skeletons.points))]
        if kind == "boundaries" and len(self.boundaries):
            return self.boundaries[rng.integers(len(self.boundaries))]
        rows = self.small if kind == "rare" else self.filled
        row = rows[rng.integers(len(rows))]
        return self.skeletons.points[rng.integers(self.skeletons.starts[row], self.skeletons.starts[row + 1])]
