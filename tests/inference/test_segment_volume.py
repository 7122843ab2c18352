"""Segmenting whole volumes: nothing depends on the tiles, and no voxel moves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skoots.data.normalize import Intensity, measure_intensity
from skoots.errors import SkootsError
from skoots.geometry import Box
from skoots.inference import maps as maps_module
from skoots.inference.segment_volume import Plan, predict_tiles, segment_volume
from skoots.instances import Decoding, decode, renumber
from skoots.models.backbones.unet import UNet
from skoots.models.heads.base import Head
from skoots.models.heads.semantic import SemanticHead
from skoots.models.heads.skeleton import SkeletonHead
from skoots.models.heads.vector import VectorHead
from skoots.models.segmentation_model import SegmentationModel, pad_to_multiple
from skoots.skeletons import nearest_offsets, skeleton_mask, skeletonize, touching_skeletons
from skoots.synthetic import make_volume
from skoots.volumes import Volume, create_volume, open_volume, write_volume
from skoots.volumes.array import ArrayVolume

CPU = torch.device("cpu")


class DoubleModel(SegmentationModel):
    """In double precision, so that equality does not hang on the order in which a convolution adds."""

    def forward(self, images: Tensor) -> dict[str, dict[str, Tensor]]:
        return super().forward(images.double())


def random_model(voxel_size: tuple[float, ...], seed: int, channels: int = 1) -> SegmentationModel:
    """Random weights; three levels."""
    torch.manual_seed(seed)
    dims = len(voxel_size)
    heads: dict[str, Head] = {
        "vector": VectorHead(4, dims, voxel_size, scale=5.0),
        "semantic": SemanticHead(4, dims),
        "skeleton": SkeletonHead(4, dims),
    }
    return DoubleModel(UNet(channels, dims, (4, 6, 8), voxel_size), heads).double()


@torch.no_grad()
def spread_maps(model: SegmentationModel, images: Tensor) -> None:
    """Let running statistics fit the images, and every map vary about its middle."""
    for layer in model.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = 1.0
    padded = pad_to_multiple(images.double(), model.stride)
    model.train().backbone(padded)
    features = model.eval().backbone(padded)
    for head in model.heads.values():
        conv: Any = head.conv
        deviation, mean = torch.std_mean(conv(features).transpose(0, 1).flatten(1), 1)
        conv.bias.copy_((conv.bias - mean) / deviation)
        conv.weight.div_(deviation.view(-1, *(1,) * (conv.weight.ndim - 1)))


def random_image(shape: tuple[int, ...], seed: int, channels: int | None = None) -> Volume:
    full = shape if channels is None else (channels, *shape)
    array = np.random.default_rng(seed).integers(0, 1000, full).astype(np.uint16)
    return ArrayVolume("image", array, channels_first=channels is not None)


def whole_maps(plan: Plan, image: Volume) -> dict[str, np.ndarray]:
    """What the model says of the whole volume at once."""
    array = plan.intensity.apply(image.read_all().reshape(-1, *image.shape))
    with torch.no_grad():
        maps = plan.model.eval().predict(plan.model(torch.from_numpy(array)[None]))
    return {name: value[0].float().numpy() for name, value in maps.items()}


def balanced_plan(image: Volume, voxel_size: tuple[float, ...], seed: int) -> Plan:
    """A plan that finds about half of the voxels in objects, and some of these on skeletons."""
    intensity = measure_intensity(image, "zscore")
    model = random_model(voxel_size, seed, image.channels or 1)
    spread_maps(model, torch.from_numpy(intensity.apply(image.read_all().reshape(-1, *image.shape)))[None])
    plan = Plan(model, intensity, voxel_size, Decoding(), CPU)
    maps = whole_maps(plan, image)
    level = np.quantile(maps["skeleton"][maps["semantic"] > 0.5], 0.85) * 255
    return Plan(model, intensity, voxel_size, Decoding(skeleton_threshold=(np.floor(level) + 0.5) / 255), CPU)


def tiled(plan: Plan, core: tuple[int, ...] | None) -> Plan:
    return Plan(plan.model, plan.intensity, plan.voxel_size, plan.decoding, plan.device, core)


def labels_of(plan: Plan, image: Volume, folder: Path, **named: Any) -> np.ndarray:
    target = folder / f"labels-{len(list(folder.iterdir()))}.npy"
    with create_volume(target, image.shape, np.int32) as output:
        count = segment_volume(plan, image, output, folder, **named)
    labels = np.load(target)
    assert labels.dtype == np.int32 and np.unique(labels[labels > 0]).tolist() == list(range(1, count + 1))
    return labels


# A random network -------------------------------------------------------------------------------------------

CASES: list[tuple[tuple[int, ...], tuple[float, ...], list[tuple[int, ...] | None]]] = [
    ((53, 47), (1.0, 1.0), [(8, 8), (7, 13), (4, 47), (64, 16), (53, 47), None]),
    ((19, 26, 23), (1.0, 1.0, 1.0), [(8, 8, 8), (5, 26, 9), (19, 7, 23), None]),
    ((9, 37, 30), (4.0, 1.0, 1.0), [(3, 16, 16), (9, 11, 30), (2, 40, 7)]),
]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("shape", "voxel_size", "cores"), CASES)
def test_the_result_does_not_depend_on_the_tiles(
    shape: tuple[int, ...],
    voxel_size: tuple[float, ...],
    cores: list[tuple[int, ...] | None],
    seed: int,
    tmp_path: Path,
) -> None:
    image = random_image(shape, seed)
    plan = balanced_plan(image, voxel_size, seed)
    maps = whole_maps(plan, image)
    expected = decode(
        np.rint(maps["vector"] * 127).astype(np.int8),
        np.rint(maps["semantic"][0] * 255) / 255,
        np.rint(maps["skeleton"][0] * 255) / 255,
        plan.model.vector_scale or (),
        voxel_size,
        plan.decoding,
    )
    assert expected.max() > 2 and 0.2 < (expected > 0).mean() < 0.8
    for core in cores:
        labels = labels_of(tiled(plan, core), image, tmp_path)
        assert np.array_equal(renumber(labels), expected), core


def test_quantisation_changes_next_to_nothing(tmp_path: Path) -> None:
    """Five bytes a voxel decode as floats do, but for the few voxels that stand on a threshold."""
    image = random_image((19, 26, 23), 3)
    plan = balanced_plan(image, (1.0, 1.0, 1.0), 3)
    maps = whole_maps(plan, image)
    exact = decode(
        maps["vector"],
        maps["semantic"][0],
        maps["skeleton"][0],
        plan.model.vector_scale or (),
        None,
        plan.decoding,
    )
    labels = labels_of(plan, image, tmp_path)
    assert ((labels > 0) == (exact > 0)).mean() > 0.97


def test_a_halo_that_is_too_small_shows(tmp_path: Path) -> None:
    """The halo is what makes tiles exact, so a smaller one must not be."""
    image = random_image((40, 40), 0)
    plan = balanced_plan(image, (1.0, 1.0), 0)
    bare = Plan(plan.model, plan.intensity, plan.voxel_size, plan.decoding, CPU, (8, 8), halo=(0, 0))
    assert not np.array_equal(labels_of(bare, image, tmp_path), labels_of(plan, image, tmp_path))


def test_channels_are_kept_apart(tmp_path: Path) -> None:
    image = random_image((24, 30), 0, channels=2)
    plan = balanced_plan(image, (1.0, 1.0), 0)
    assert np.array_equal(labels_of(plan, image, tmp_path), labels_of(tiled(plan, (8, 7)), image, tmp_path))


def test_single_precision_maps_agree(tmp_path: Path) -> None:
    image = random_image((21, 26, 23), 4)
    plan = balanced_plan(image, (1.0, 1.0, 1.0), 4)
    exact = whole_maps(plan, image)
    plan.model.forward = lambda images: SegmentationModel.forward(plan.model, images)  # type: ignore[method-assign]
    plan.model.float()
    for core in ((8, 8, 8), (21, 26, 23)):
        for box, values in predict_tiles(tiled(plan, core), image):
            window = (slice(None), *box.slices)
            for name, value in values.items():
                assert value.dtype == np.float32
                np.testing.assert_allclose(value, exact[name][window], atol=2e-5)


def test_small_objects_are_dropped_and_the_others_renumbered(tmp_path: Path) -> None:
    image = random_image((53, 47), 1)
    plan = balanced_plan(image, (1.0, 1.0), 1)
    everything = labels_of(plan, image, tmp_path)
    sizes = np.bincount(everything.ravel())
    limit = int(sizes[1:].max())
    strict = Plan(
        plan.model, plan.intensity, plan.voxel_size, replace_min_size(plan.decoding, limit), CPU, (8, 13)
    )
    labels = labels_of(strict, image, tmp_path)
    assert 0 < labels.max() < everything.max()
    assert np.bincount(labels.ravel())[1:].min() >= limit
    kept = sizes >= limit
    kept[0] = False
    assert np.array_equal(renumber(labels), renumber(np.where(kept[everything], everything, 0)))


def replace_min_size(decoding: Decoding, min_size: int) -> Decoding:
    return Decoding(**{**vars(decoding), "min_size": min_size})


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 2, 1)])
def test_volumes_smaller_than_the_stride(shape: tuple[int, ...], tmp_path: Path) -> None:
    image = random_image(shape, 5)
    plan = Plan(
        random_model((1.0,) * len(shape), 0),
        Intensity(np.zeros(1), np.ones(1)),
        (1.0,) * len(shape),
        Decoding(),
        CPU,
    )
    assert labels_of(plan, image, tmp_path).shape == shape


@pytest.mark.parametrize("extension", ["tif", "zarr"])
def test_maps_are_written_too(extension: str, tmp_path: Path) -> None:
    image = random_image((9, 20, 22), 2)
    plan = balanced_plan(image, (4.0, 1.0, 1.0), 2)
    outputs = {
        name: create_volume(tmp_path / f"{name}.{extension}", image.shape, np.float32, channels=channels)
        for name, channels in (("vector", 3), ("semantic", 1))
    }
    labels_of(tiled(plan, (4, 8, 9)), image, tmp_path, map_outputs=outputs)
    for name, output in outputs.items():
        output.close()
        written = open_volume(tmp_path / f"{name}.{extension}").read_all().reshape(-1, *image.shape)
        assert np.array_equal(written, whole_maps(plan, image)[name])


def test_large_maps_lie_in_files_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = random_image((19, 26, 23), 1)
    plan = balanced_plan(image, (1.0, 1.0, 1.0), 1)
    expected = labels_of(plan, image, tmp_path)
    monkeypatch.setattr(maps_module, "IN_MEMORY_BYTES", 0)
    folder = tmp_path / "meanwhile"
    folder.mkdir()
    held: list[int] = []

    def look(steps: Iterable[Any], what: str) -> Iterable[Any]:
        for step in steps:
            held.append(len(list(folder.glob(".maps.*/*.npy"))))
            yield step

    with create_volume(tmp_path / "out.npy", image.shape, np.int32) as output:
        segment_volume(tiled(plan, (8, 8, 8)), image, output, folder, progress=look)
    assert set(held) == {4} and list(folder.iterdir()) == []
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected)


def test_a_model_that_cannot_be_decoded_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps_module, "IN_MEMORY_BYTES", 0)
    image = random_image((20, 20), 0)
    plan = balanced_plan(image, (1.0, 1.0), 0)
    del plan.model.heads["vector"]
    with pytest.raises(SkootsError, match="no vector map, which decoding needs"):
        labels_of(plan, image, tmp_path)
    del plan.model.heads["skeleton"]
    with pytest.raises(SkootsError, match="no vector and no skeleton map"):
        labels_of(plan, image, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_the_tiles(tmp_path: Path) -> None:
    said: list[tuple[str, int]] = []

    def count(steps: Any, what: str) -> Any:
        said.append((what, len(steps)))
        return steps

    image = random_image((20, 20), 0)
    labels_of(tiled(balanced_plan(image, (1.0, 1.0), 0), (8, 20)), image, tmp_path, progress=count)
    assert said == [("predict", 3), ("assign", 1)]


# An oracle --------------------------------------------------------------------------------------------------


class Oracle:
    """A model that knows the truth by position: the image holds each voxel's number."""

    def __init__(
        self, labels: np.ndarray, voxel_size: tuple[float, ...], stride: tuple[int, ...], halo: int
    ) -> None:
        ids = torch.from_numpy(labels.astype(np.int64))
        skeletons = skeletonize(labels, voxel_size)
        offset = torch.from_numpy(nearest_offsets(labels, skeletons, voxel_size))
        assert touching_skeletons(ids, offset) == 0
        inscribed = np.zeros(labels.max() + 1, np.float32)
        inscribed[skeletons.ids] = skeletons.inscribed
        mask = skeleton_mask(
            ids[None], offset[None], torch.from_numpy(inscribed[labels])[None], voxel_size, "auto"
        )
        longest = offset.flatten(1).abs().amax(1)
        self.vector_scale = tuple(float(n) for n in longest.clamp(min=1) * 1.01)
        scale = torch.tensor(self.vector_scale).view(-1, *(1,) * labels.ndim)
        self.maps = {
            "vector": offset / scale,
            "semantic": (ids > 0).float()[None],
            "skeleton": mask.float(),
            "position": torch.arange(labels.size).view(1, *labels.shape).float(),
        }
        self.stride, self.receptive_field = stride, (halo,) * labels.ndim

    def eval(self) -> Oracle:
        return self

    def __call__(self, images: Tensor) -> Tensor:
        return images[0, 0].long()

    def predict(self, position: Tensor) -> dict[str, Tensor]:
        return {name: whole.flatten(1)[:, position][None] for name, whole in self.maps.items()}


TUBES: list[tuple[tuple[int, ...], tuple[float, ...], tuple[int, ...]]] = [
    ((70, 61), (1.0, 1.0), (4, 4)),
    ((23, 34, 31), (1.0, 1.0, 1.0), (4, 4, 4)),
    ((11, 40, 37), (3.0, 1.0, 1.0), (1, 4, 4)),
]


def disjoint_tubes(shape: tuple[int, ...], voxel_size: tuple[float, ...]) -> np.ndarray:
    """Touching tubes whose bare skeletons do not touch, so that their exact targets decode to them."""
    for seed in range(50):
        labels = make_volume(shape, seed, radius=(2.0, 4.0))[1]
        offset = nearest_offsets(labels, skeletonize(labels, voxel_size), voxel_size)
        if (
            labels.max() > 3
            and touching_skeletons(torch.from_numpy(labels.astype(np.int64)), torch.from_numpy(offset)) == 0
        ):
            return labels
    raise AssertionError("no seed makes such a volume")


@pytest.mark.parametrize("extension", ["tif", "zarr"])
@pytest.mark.parametrize(("shape", "voxel_size", "stride"), TUBES)
def test_exact_maps_give_the_labels_back_through_tiles_and_files(
    shape: tuple[int, ...],
    voxel_size: tuple[float, ...],
    stride: tuple[int, ...],
    extension: str,
    tmp_path: Path,
) -> None:
    truth = disjoint_tubes(shape, voxel_size)
    position = np.arange(truth.size, dtype=np.float32).reshape(shape)
    write_volume(tmp_path / f"image.{extension}", position, voxel_size, "um")
    image = open_volume(tmp_path / f"image.{extension}")
    assert image.voxel_size == voxel_size
    identity = Intensity(np.zeros(1, np.float32), np.ones(1, np.float32))
    cuts: list[tuple[Any, int]] = [(None, 3), ((8,) * len(shape), 2), ((9, 13, 7)[-len(shape) :], 5)]
    for number, (core, halo) in enumerate(cuts):
        oracle: Any = Oracle(truth, voxel_size, stride, halo)
        plan = Plan(oracle, identity, voxel_size, Decoding(), CPU, core)
        paths = SimpleNamespace(
            labels=tmp_path / f"{number}.{extension}", where=tmp_path / f"{number}w.{extension}"
        )
        with (
            create_volume(paths.labels, shape, np.int32, voxel_size, "um") as output,
            create_volume(paths.where, shape, np.float32, voxel_size, "um", channels=1) as where,
        ):
            count = segment_volume(plan, image, output, tmp_path, {"position": where})
        found = open_volume(paths.labels)
        assert (found.shape, found.dtype, found.voxel_size) == (shape, np.int32, voxel_size)
        labels = found.read_all()
        assert count == truth.max() == labels.max()
        assert np.array_equal(renumber(labels), renumber(truth))
        assert np.array_equal(open_volume(paths.where).read_all().reshape(shape), position)
        part = Box(tuple(n // 3 for n in shape), tuple(n // 2 for n in shape))
        assert np.array_equal(found.read(part), labels[part.slices])
