"""Samples become batches."""

from __future__ import annotations

import numpy as np
import torch

from skoots.samples import Batch, Sample


def sample(value, shape=(2, 3, 4)):
    return Sample(
        image=np.full((1, *shape), value, np.float32),
        labels=np.full(shape, value, np.int32),
        offset=np.full((len(shape), *shape), value, np.float32),
        inscribed=np.full(shape, value, np.float32),
        valid=np.full(shape, value > 0),
        voxel_size=(2.0, 1.0, 1.0),
        origin=f"sample {value}",
    )


def test_collate_stacks_in_order():
    batch = Batch.collate([sample(0), sample(1), sample(2)])
    assert batch.images.shape == (3, 1, 2, 3, 4) and batch.images.dtype == torch.float32
    assert batch.labels.shape == (3, 2, 3, 4) and batch.labels.dtype == torch.int64
    assert batch.offset.shape == (3, 3, 2, 3, 4) and batch.inscribed.shape == (3, 2, 3, 4)
    assert batch.valid.dtype == torch.bool and batch.valid.flatten(1).any(1).tolist() == [False, True, True]
    assert batch.images.flatten(1)[:, 0].tolist() == [0, 1, 2]
    assert batch.voxel_size == (2, 1, 1) and batch.origins == ("sample 0", "sample 1", "sample 2")


def test_foreground_is_a_channel_of_its_own():
    foreground = Batch.collate([sample(0), sample(2)]).foreground
    assert foreground.shape == (2, 1, 2, 3, 4) and foreground.dtype == torch.float32
    assert foreground.flatten(1).mean(1).tolist() == [0, 1]


def test_moving_takes_all_tensors_along():
    moved = Batch.collate([sample(1)]).to("meta")
    assert all(
        getattr(moved, name).device.type == "meta"
        for name in ("images", "labels", "offset", "inscribed", "valid")
    )
    assert moved.voxel_size == (2, 1, 1) and moved.origins == ("sample 1",)
