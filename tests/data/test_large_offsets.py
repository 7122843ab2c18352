"""An offset under the grey values changes nothing, in training and segmenting, whatever type holds it.

Everything is compared with arithmetic in exact fractions, or in float64 of the same image without its offset.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from skoots.data.augment.presets import no_augmentations, original_augmentations
from skoots.data.background import background_volume
from skoots.data.dataset import CropDataset
from skoots.data.exact_shift import minus, split
from skoots.data.intensity_record import IntensityRecord
from skoots.data.labelled_volume import LabelledVolume
from skoots.data.normalize import Intensity, bright_tail, measure_intensity, read_scaled
from skoots.data.resident import ResidentSample
from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.skeletons import skeletonize
from skoots.synthetic import make_volume
from skoots.volumes.array import ArrayVolume

SHAPE = (12, 30, 34)
OFFSETS = {
    "uint16 near the end": (np.uint16, 2**16 - 4000),
    "int32 + 2**30": (np.int32, 2**30),
    "uint32 + 2**28": (np.uint32, 2**28),
    "uint32 near the end": (np.uint32, 2**32 - 5000),
    "int64 + 2**60": (np.int64, 2**60),
    "int64 - 2**63": (np.int64, -(2**63)),
    "uint64 near the end": (np.uint64, 2**64 - 5000),
    "float32 + 2**12": (np.float32, 2**12),
    "float64 + 2**40": (np.float64, 2**40),
    "float64 + 2**52": (np.float64, 2**52),  # where its next number is 1 away
}
every_offset = pytest.mark.parametrize("offset", OFFSETS)
SUBTRACTING = ["zscore", "percentile", "asinh"]


@dataclass(frozen=True)
class Scene:
    """Counts from 0 to 4000 and their labels."""

    counts: np.ndarray
    labels: np.ndarray


@pytest.fixture(scope="module")
def scene() -> Scene:
    image, labels = make_volume(SHAPE, 3, radius=(2, 4))
    return Scene(np.rint(np.clip(image, 0, 1) ** 2 * 3999).astype(np.int64), labels)


def shifted(counts: np.ndarray, offset: str) -> np.ndarray:
    dtype, by = OFFSETS[offset]
    return np.array([int(count) + by for count in counts.ravel()], object).reshape(counts.shape).astype(dtype)


def volume(array: np.ndarray) -> ArrayVolume:
    return ArrayVolume("image.tif", array)


def labelled(array: np.ndarray, scene: Scene, intensity: Intensity, resident: str = "") -> LabelledVolume:
    skeletons = skeletonize(scene.labels)
    ones = (1.0, 1.0, 1.0)
    return LabelledVolume(
        "v", volume(array), ArrayVolume("l", scene.labels), skeletons, intensity, ones, None, resident
    )


@every_offset
@pytest.mark.parametrize("kind", SUBTRACTING)
def test_the_same_voxels_come_out(scene: Scene, offset: str, kind: Any) -> None:
    there = shifted(scene.counts, offset)
    assert [int(v) for v in there.flat] == [int(v) + OFFSETS[offset][1] for v in scene.counts.flat]
    plain = measure_intensity(volume(scene.counts.astype(np.float64)), kind)
    intensity = measure_intensity(volume(there), kind)
    expected = (scene.counts - plain.shift[0]) / plain.scale[0]
    expected = np.arcsinh(expected) if kind == "asinh" else expected
    np.testing.assert_allclose(intensity.scale, plain.scale, rtol=1e-12)
    tolerance = 1e-6 if offset != "uint16 near the end" else 1e-5  # 32-bit arithmetic: half a count in 131072
    np.testing.assert_allclose(intensity.apply(there[None])[0], expected, rtol=1e-6, atol=tolerance)


@every_offset
@pytest.mark.parametrize("kind", SUBTRACTING)
def test_shifts_are_exact(scene: Scene, offset: str, kind: Any) -> None:
    there = shifted(scene.counts, offset)
    exact = sorted(int(v) for v in there.flat)
    n = len(exact)

    def percentile(p: float) -> Fraction:
        place = Fraction(p) / 100 * (n - 1)
        below = int(place)
        return exact[below] + (exact[min(below + 1, n - 1)] - exact[below]) * (place - below)

    expected = {
        "zscore": Fraction(sum(exact), n),
        "percentile": percentile(1),
        "asinh": percentile(50),
    }[kind]
    assert abs(measure_intensity(volume(there), kind).exact_shift[0] - expected) < 1e-8


@every_offset
@pytest.mark.parametrize("kind", ["zscore", "asinh"])
@pytest.mark.parametrize("augment", [no_augmentations, original_augmentations])
def test_crops_are_the_same_wherever_they_are_made(
    scene: Scene, offset: str, kind: Any, augment: Any
) -> None:
    there = shifted(scene.counts, offset)
    crops = []
    for array in (scene.counts.astype(np.float64), there):
        intensity = measure_intensity(volume(array), kind)
        for on_device in (False, True):
            made = [(labelled(array, scene, intensity), 2)]
            dataset = CropDataset(made, (8, 16, 16), augment(), seed=1, on_device=on_device)
            crops.append(dataset.sample((1, 0)).image)
    for crop in crops[1:]:
        np.testing.assert_allclose(crop, crops[0], rtol=1e-4, atol=1e-3)
    assert crops[0].std() > 0.1


@every_offset
def test_resident_volumes_are_cut_like_those_that_are_read(scene: Scene, offset: str) -> None:
    there = shifted(scene.counts, offset)
    made = labelled(there, scene, measure_intensity(volume(there), "zscore"), resident=f"offset {offset}")
    dataset = CropDataset([(made, 2)], (8, 16, 16), no_augmentations(), seed=1, on_device=True)
    drawn = dataset[1, 0]
    assert isinstance(drawn, ResidentSample)
    read, cut = drawn.to("cpu").make(), drawn.cut("cpu").make()
    assert torch.equal(read.images, cut.images)


@every_offset
def test_segmenting_reads_what_training_reads(scene: Scene, offset: str) -> None:
    there = shifted(scene.counts, offset)
    made = labelled(there, scene, measure_intensity(volume(there), "zscore"))
    box = Box((2, 3, 4), (10, 19, 20))
    window = made.window(box).image
    assert np.array_equal(window, made.intensity.compressed(read_scaled(made.image, box, made.intensity)))


@every_offset
@pytest.mark.parametrize("kind", SUBTRACTING)
def test_a_snapshot_keeps_the_exact_shift(scene: Scene, offset: str, kind: Any) -> None:
    half = shifted(scene.counts, offset)[:6], shifted(scene.counts, offset)[6:]
    volumes = [
        background_volume("", volume(array), measure_intensity(volume(array), kind), (1, 1, 1))
        for array in half
    ]
    record = IntensityRecord.of(kind, volumes)
    again = IntensityRecord.from_plain(record.plain())
    assert again.pooled.exact_shift == record.pooled.exact_shift
    together = measure_intensity(volume(np.concatenate(half)), kind)
    assert abs(again.pooled.exact_shift[0] - together.exact_shift[0]) < 1e-8
    np.testing.assert_allclose(again.pooled.scale, together.scale, rtol=1e-9)


@every_offset
def test_the_plan_sees_the_same_tail(scene: Scene, offset: str) -> None:
    plain = bright_tail(volume(scene.counts.astype(np.float64)))
    assert bright_tail(volume(shifted(scene.counts, offset))) == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("contrast", [1e-9, 1e-30, 1e30, 1e100])
@pytest.mark.parametrize("kind", SUBTRACTING)
def test_any_contrast_of_float64(scene: Scene, contrast: float, kind: Any) -> None:
    array = scene.counts * contrast
    plain, intensity = (measure_intensity(volume(a.astype(float)), kind) for a in (scene.counts, array))
    ours, theirs = intensity.apply(array[None]), plain.apply(scene.counts[None])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])
def test_the_range_of_a_type(dtype: Any) -> None:
    limits = np.iinfo(dtype)
    array = np.array([[limits.min, limits.max, limits.max // 2]], dtype)
    applied = measure_intensity(volume(array), "dtype").apply(array[None])[0, 0]
    middle = Fraction(int(array[0, 2]) - int(limits.min), int(limits.max) - int(limits.min))
    np.testing.assert_allclose(applied, [0, 1, float(middle)], atol=1e-7)


@pytest.mark.parametrize(
    "offset", ["uint32 + 2**28", "int64 + 2**60", "uint64 near the end", "float64 + 2**40"]
)
@pytest.mark.parametrize("kind", ["none", "dtype"])
def test_what_keeps_the_offset_and_would_lose_the_contrast_is_refused(
    scene: Scene, offset: str, kind: Any
) -> None:
    array = shifted(scene.counts * 16 // 4000, offset)
    with pytest.raises(VolumeError, match=rf"image.tif: normalize: {kind} leaves voxels from .* zscore"):
        measure_intensity(volume(array), kind)
    for quiet in (
        scene.counts.astype(np.int32),
        scene.counts / 4000,
        (scene.counts * 2**19).astype(np.uint32),
    ):
        applied = measure_intensity(volume(quiet), "none").apply(quiet[None])[0]
        np.testing.assert_allclose(applied, quiet, rtol=1e-6)
    measure_intensity(
        volume(np.full((4, 5, 6), OFFSETS[offset][1], OFFSETS[offset][0])), kind
    )  # of one value


@pytest.mark.parametrize("kind", ["none", "dtype", "percentile"])
def test_voxels_beyond_float32_are_refused_where_they_stay_beyond(scene: Scene, kind: Any) -> None:
    array = scene.counts / 4000
    array[3, 4, 5] = 1e60
    with pytest.raises(
        VolumeError, match=rf"image.tif: with normalize: {kind}, voxels from 0 to 1e\+60 are bey"
    ):
        measure_intensity(volume(array), kind)
    measure_intensity(volume(array), "zscore")


def test_voxels_too_far_apart_or_too_near_are_refused(scene: Scene) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            VolumeError, match=r"image.tif holds voxels from 0 to 1e\+300 in the box from \[0, 0, 0\]"
        ):
            measure_intensity(volume(np.where(scene.counts > 2000, 1e300, 0.0)), "zscore")
        with pytest.raises(VolumeError, match=r"image.tif: the voxels differ by too little"):
            measure_intensity(volume(scene.counts * 1e-300), "zscore")


@pytest.mark.parametrize("value, said", [(np.nan, "a NaN"), (-np.inf, "an infinite")])
def test_what_the_statistics_of_others_do_not_show_is_named_when_it_is_read(value: float, said: str) -> None:
    array = np.random.default_rng(0).random((8, 9, 10))
    array[5, 6, 7] = value
    of_training = Intensity(np.zeros(1), np.ones(1))
    with pytest.raises(VolumeError, match=rf"image.tif holds {said} voxel at \[5, 6, 7\]"):
        read_scaled(volume(array), Box((4, 4, 4), (8, 9, 10)), of_training)
    array[5, 6, 7] = 1e39
    with pytest.raises(
        VolumeError, match=r"image.tif holds voxels of up to 1e\+39 in the box from \[4, 4, 4\]"
    ):
        read_scaled(volume(array), Box((4, 4, 4), (8, 9, 10)), of_training)
    made = background_volume("v", volume(array), replace(of_training), (1, 1, 1))
    with pytest.raises(VolumeError, match=r"image.tif holds voxels of up to 1e\+39"):
        made.window(Box((0, 0, 0), (8, 9, 10)))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_taking_away_is_exact_at_all_ends(dtype: Any) -> None:
    limits = np.iinfo(dtype)
    chance = np.random.default_rng(0)
    values = chance.integers(limits.min, limits.max, 300, dtype, endpoint=True)
    values[:2] = limits.min, limits.max
    for whole in (limits.min, limits.max, 0, 3, *(int(v) for v in values[2:8])):
        for more in (Fraction(0), Fraction(1, 3)):
            (shift,), (rest,) = split([whole + more])
            expected = [float(int(value) - whole - more) for value in values]
            np.testing.assert_allclose(
                minus(values, float(shift), float(rest)), expected, rtol=1e-15, atol=1e-12
            )
