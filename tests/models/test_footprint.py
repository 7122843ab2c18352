"""The memory of a training step, against what a process really takes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from skoots.models.backbones.unet import UNet
from skoots.models.footprint import TRANSIENT, Footprint, measure_footprint
from skoots.models.heads.semantic import SemanticHead
from skoots.models.segmentation_model import SegmentationModel
from skoots.samples import Batch


def batch_of(shape: tuple[int, ...], count: int = 2) -> Batch:
    return Batch(
        torch.rand(count, 1, *shape),
        torch.ones(count, *shape, dtype=torch.int64),
        torch.zeros(count, len(shape), *shape),
        torch.ones(count, *shape),
        torch.ones(count, *shape, dtype=torch.bool),
        (1.0,) * len(shape),
        ("",) * count,
    )


def model_of(channels: list[int], dims: int) -> SegmentationModel:
    backbone = UNet(1, dims, channels)
    return SegmentationModel(backbone, {"semantic": SemanticHead(backbone.out_channels, dims)})


def test_what_is_kept_is_counted_tensor_by_tensor() -> None:
    """Of sigmoid(conv(x)) autograd keeps x, the weights and the sigmoid's output."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 6, 1)

        def loss(self, outputs, targets, batch, epoch):  # type: ignore[no-untyped-def]
            return outputs.sum(), {}

        def targets(self, batch):  # type: ignore[no-untyped-def]
            return {}

        def forward(self, images):  # type: ignore[no-untyped-def]
            return self.conv(images).sigmoid()

    found = measure_footprint(Plain(), batch_of((8, 8)))  # type: ignore[arg-type]
    data = 4 + 8 + 2 * 4 + 4 + 1  # bytes a voxel of the batch
    assert found.per_voxel == pytest.approx(TRANSIENT * (4 + 6 * 4) + data)
    assert found.fixed == 4 * (6 + 6) * 4


@pytest.mark.parametrize(("shape", "dims"), [((16, 16, 16), 3), ((32, 32), 2)])
def test_it_grows_with_the_voxels_alone(shape: tuple[int, ...], dims: int) -> None:
    model = model_of([4, 8, 16], dims)
    small = measure_footprint(model, batch_of(shape))
    large = measure_footprint(model, batch_of(tuple(2 * n for n in shape), 4))
    assert large.per_voxel == pytest.approx(small.per_voxel, rel=0.02)
    assert large.fixed == small.fixed == 16 * sum(p.numel() for p in model.parameters())
    wide = measure_footprint(model_of([8, 16, 32], dims), batch_of(shape))
    assert 1.7 < wide.per_voxel / small.per_voxel < 2


def test_voxels_and_bytes_are_inverse() -> None:
    footprint = Footprint(1000, 250.0)
    assert footprint.bytes_for(4) == 2000
    assert footprint.voxels_in(2000) == 4 and footprint.voxels_in(500) == 0


STEP = """
import sys, torch
sys.path.insert(0, {folder!r})
from test_footprint import batch_of, model_of
from skoots.models.footprint import measure_footprint

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

torch.set_num_threads(1)
model = model_of([12, 24, 48], 3)
predicted = measure_footprint(model, batch_of((16, 16, 16))).bytes_for(2 * 64**3)
batch = batch_of((16, 16, 16))
model.loss(model(batch.images), model.targets(batch), batch, 1)[0].backward()
before = peak()
batch = batch_of((64, 64, 64))
model.loss(model(batch.images), model.targets(batch), batch, 1)[0].backward()
print(predicted, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_step_takes_what_was_predicted() -> None:
    script = STEP.format(folder=__file__.rsplit("/", 1)[0])
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    predicted, taken = map(int, printed.split())
    assert 0.7 < predicted / taken < 1.5
