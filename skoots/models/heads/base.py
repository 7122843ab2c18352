"""The contract of heads, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from skoots.models.criteria.base import Criterion
from skoots.models.predictors.base import Predictor
from skoots.models.targets.base import TargetGenerator
from skoots.registry import Registry
from skoots.samples import Batch


class Head(nn.Module, ABC):
    """From features to named outputs; owns its target generator, predictor and criterion.

    Attributes:
        receptive_field: D voxels on either side that an output voxel depends on; None means none, as for a
            1^D convolution.
        scale: (D,) tensor, the voxels that a vector of length 1 spans; None if the head gives no vectors.

    Args:
        target_generator: makes the targets from a batch.
        predictor: makes the maps that decoding reads.
        criterion: compares the two.
        weight: factor of this head in the total loss.
        start_epoch: first epoch (counted from 1) in which the head counts.
    """

    receptive_field: tuple[int, ...] | None = None
    scale: Tensor | None

    def __init__(
        self,
        target_generator: TargetGenerator,
        predictor: Predictor,
        criterion: Criterion,
        weight: float = 1.0,
        start_epoch: int = 1,
    ) -> None:
        super().__init__()
        self.register_buffer("scale", None)
        self.target_generator = target_generator
        self.predictor = predictor
        self.criterion = criterion
        self.weight = weight
        self.start_epoch = start_epoch

    @abstractmethod
    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """(B, in_channels, *S) features to named outputs, each (B, channels, *S), activation applied."""

    @abstractmethod
    def loss(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor], batch: Batch, epoch: int
    ) -> Tensor:
        """The loss of this head as a scalar, before ``weight``."""

    def sigma_at(self, epoch: int) -> tuple[float, ...] | None:
        """D voxels within which a vector counts as a hit at an epoch; None if the head gives no vectors."""
        return None

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        """What the head should output for this batch."""
        return self.target_generator(batch)

    def predict(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The maps that decoding reads."""
        return self.predictor(outputs)


HEADS: Registry[Head] = Registry(
    "head",
    Head,
    home=[
        "skoots.models.heads.vector",
        "skoots.models.heads.semantic",
        "skoots.models.heads.skeleton",
        "skoots.models.heads.affinity",
        "skoots.models.heads.boundary",
    ],
)
