"""How much memory a model takes in training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skoots.models.segmentation_model import SegmentationModel
from skoots.samples import Batch

# What a step takes beside what is kept for the backward pass (gradients of activations, workspaces), as a
# factor: peaks of the resident memory were 1.2 to 1.7 times what is kept, for U-Nets in 2D and 3D.
TRANSIENT = 1.5
COPIES_OF_WEIGHTS = 4  # weights, gradients, and the two moments of Adam


@dataclass(frozen=True)
class Footprint:
    """Memory of a training step.

    Args:
        fixed: bytes whatever the batch.
        per_voxel: bytes for each voxel of the batch.
    """

    fixed: int
    per_voxel: float

    def bytes_for(self, voxels: int) -> int:
        """Of a step on so many voxels, all crops of the batch together."""
        return int(self.fixed + self.per_voxel * voxels)

    def voxels_in(self, budget: int) -> int:
        """That fit into so many bytes."""
        return max(0, int((budget - self.fixed) / self.per_voxel))


def measure_footprint(model: SegmentationModel, batch: Batch) -> Footprint:
    """Count what a forward pass with its loss keeps for the backward pass; it grows with the voxels.

    Args:
        model: as it will be trained; its running statistics change.
        batch: a small one, of two crops or more; they are multiples of the model's stride.
    """
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        total, _ = model.loss(model(batch.images), model.targets(batch), batch, 1)
    activations = sum(size for place, size in kept.items() if place not in own)
    del total  # the storages had to live until here, so that no two of them shared an address
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    data = sum(t.numel() * t.element_size() for t in vars(batch).values() if isinstance(t, Tensor))
    voxels = batch.labels.numel()
    return Footprint(COPIES_OF_WEIGHTS * weights, (TRANSIENT * activations + data) / voxels)
