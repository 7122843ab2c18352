"""Intensity statistics against NumPy, and images that have none."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from skoots.data import normalize
from skoots.data.background import background_volume
from skoots.data.intensity_record import IntensityRecord
from skoots.data.normalize import NormalizationKind, bright_tail, measure_intensity, measure_together
from skoots.errors import VolumeError
from skoots.volumes.array import ArrayVolume

SHAPE = (40, 21, 530)  # more than one block along two axes


def volume(dtype=np.uint16, shape=SHAPE, channels=0):
    rng = np.random.default_rng(0)
    array = rng.gamma(2.0, 20.0, (*((channels,) if channels else ()), *shape))
    if channels:
        array *= np.arange(1, channels + 1).reshape(-1, *(1,) * len(shape))
    return ArrayVolume("image.tif", np.clip(array, 0, 250).astype(dtype), channels_first=bool(channels))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [0, 3])
@pytest.mark.parametrize("shape", [SHAPE, (600, 530)])
def test_zscore(dtype, channels, shape):
    image = volume(dtype, shape, channels)
    array = image.read_all().astype(float).reshape(max(1, channels), *shape)
    axes = tuple(range(1, array.ndim))
    intensity = measure_intensity(image, "zscore")
    assert np.allclose(intensity.shift, array.mean(axes), rtol=1e-6)
    assert np.allclose(intensity.scale, array.std(axes), rtol=1e-6)
    applied = intensity.apply(image.read_all().reshape(array.shape))
    assert applied.dtype == np.float32 and applied.shape == array.shape
    assert np.allclose(applied.mean(axes), 0, atol=1e-3) and np.allclose(applied.std(axes), 1, atol=1e-3)


def test_zscore_of_values_far_from_zero():
    """The mean of squares less the square of the mean would have no digit left here."""
    array = 1e6 + np.random.default_rng(0).normal(size=(8, 40, 40))
    intensity = measure_intensity(ArrayVolume("image.tif", array), "zscore")
    assert intensity.scale[0] == pytest.approx(array.std(), rel=1e-5)


@pytest.mark.parametrize("channels", [0, 2])
def test_percentile(channels):
    image = volume(channels=channels)
    array = image.read_all().reshape(max(1, channels), -1)
    low, high = np.percentile(array, [1, 99.8], axis=1)
    intensity = measure_intensity(image, "percentile")
    assert np.allclose(intensity.shift, low) and np.allclose(intensity.scale, high - low)


def test_percentile_of_a_sample(monkeypatch):
    image = volume(np.float32)
    every = measure_intensity(image, "percentile")
    monkeypatch.setattr(normalize, "SAMPLE_VOXELS", 100_000)
    kept = []
    real = normalize.sample_percentiles
    monkeypatch.setattr(normalize, "sample_percentiles", lambda a, q: kept.append(a.size) or real(a, q))
    some = measure_intensity(image, "percentile")
    assert 50_000 <= kept[0] <= 100_000 + 10
    assert some.scale[0] != every.scale[0] and some.scale[0] == pytest.approx(every.scale[0], rel=0.05)


@pytest.mark.parametrize(
    "dtype, low, high", [(np.uint8, 0, 255), (np.int16, -32768, 32767), (np.uint16, 0, 65535)]
)
def test_dtype(dtype, low, high):
    intensity = measure_intensity(volume(dtype), "dtype")
    assert np.allclose(intensity.apply(np.array([[low, high]])), [[0, 1]])


def test_dtype_of_floats_and_none_change_nothing():
    for kind, image in (("dtype", volume(np.float32)), ("none", volume(np.uint8))):
        intensity = measure_intensity(image, kind)
        assert intensity.apply(np.array([[3, 250]])).tolist() == [[3, 250]]


@pytest.mark.parametrize("kind", ["zscore", "percentile"])
def test_one_constant_channel_of_several_is_no_fault(kind):
    array = np.random.default_rng(0).random((2, 4, 5, 6)).astype(np.float32)
    array[1] = 7
    intensity = measure_intensity(ArrayVolume("image.tif", array, channels_first=True), kind)
    assert np.isfinite(intensity.apply(array)).all() and not intensity.apply(array)[1].any()


@pytest.mark.parametrize("kind", ["zscore", "percentile", "asinh"])
@pytest.mark.parametrize("value", [0, 128])
def test_an_image_of_one_value(kind, value):
    constant = ArrayVolume("image.tif", np.full((4, 5, 6), value, np.uint8))
    with pytest.raises(
        VolumeError, match=rf"image.tif: every voxel is {value}, so there is nothing to see; is it the"
    ):
        measure_intensity(constant, kind)


@pytest.mark.parametrize(
    "value, word", [(np.nan, "a NaN"), (np.inf, "an infinite"), (-np.inf, "an infinite")]
)
@pytest.mark.parametrize("kind", get_args(NormalizationKind))
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("own", [True, False])
def test_voxels_that_are_no_numbers_are_named_under_every_normalisation(value, word, kind, dtype, own):
    array = np.random.default_rng(0).random((2, 40, 5, 6)).astype(dtype)
    array[1, 35, 4, 2] = value
    with pytest.raises(
        VolumeError,
        match=rf"image.tif holds {word} voxel at \[35, 4, 2\], channel 1; replace such voxels, for inst",
    ):
        measure_intensity(ArrayVolume("image.tif", array, channels_first=True), kind, own)


def test_asinh_keeps_dim_objects_apart_from_noise_beside_bright_ones():
    rng = np.random.default_rng(0)
    image = rng.normal(100, 10, (64, 64)).astype(np.float32)
    image[:8, :8] += 60
    image[40:48, 40:48] = 9000
    volume = ArrayVolume("image", image)
    values = measure_intensity(volume, "asinh").apply(image[None])[0]
    median, low = np.percentile(image, [50, 16])
    np.testing.assert_allclose(values, np.arcsinh((image - median) / (median - low)), rtol=1e-4, atol=1e-4)
    assert values[:8, :8].mean() > 2 and values.max() < 9
    assert measure_intensity(volume, "zscore").apply(image[None])[0, :8, :8].mean() < 0.1


def test_bright_tail_is_a_ratio_of_percentiles():
    image = volume(np.float32, (30, 40, 50))
    low, middle, high = np.percentile(image.read_all(), [0.2, 50, 99.8])
    assert bright_tail(image) == pytest.approx((high - middle) / (middle - low), rel=1e-5)
    even = np.random.default_rng(0).normal(size=(2, 20, 50, 50))
    even[1] = np.exp(2 * even[1])
    assert bright_tail(ArrayVolume("even", even[0])) == pytest.approx(1, abs=0.2)
    assert bright_tail(ArrayVolume("both", even, channels_first=True)) > 20
    even[0][even[0] < 0.1] = 0
    assert bright_tail(ArrayVolume("dark", even[0])) == np.inf


def test_one_value_is_no_fault_where_nothing_is_divided_by_its_spread():
    constant = ArrayVolume("image.tif", np.full((4, 5, 6), 51, np.uint8))
    for kind, expected in (("dtype", 0.2), ("none", 51)):
        assert np.allclose(measure_intensity(constant, kind).apply(constant.read_all()[None]), expected)
    for kind in ("zscore", "percentile", "asinh"):
        intensity = measure_intensity(constant, kind, own=False)
        assert intensity.scale == 0 and intensity.shift == 51


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    "kind, share, named", [("percentile", 0.0005, "1 and 99.8"), ("asinh", 0.4, "16 and 50")]
)
def test_percentiles_of_one_value_are_refused(dtype, kind, share, named):
    array = np.full((10, 20, 30), 9, dtype)
    array.flat[: int(array.size * share)] = 200
    image = ArrayVolume("sparse.tif", array)
    said = f"sparse.tif: normalize: {kind} .* percentiles {named}, which are one value.*normalize: zscore"
    with pytest.raises(VolumeError, match=said):
        measure_intensity(image, kind)
    assert measure_intensity(image, "zscore").scale > 0
    if kind == "asinh":  # so that a plan does not choose it
        assert bright_tail(image) == np.inf


@pytest.mark.parametrize("kind", ["zscore", "percentile", "asinh"])
@pytest.mark.parametrize("dtypes", [(np.uint8, np.uint8), (np.int16, np.uint8), (np.float32, np.float32)])
def test_statistics_of_volumes_together_are_those_of_all_voxels(kind, dtypes):
    rng = np.random.default_rng(0)
    arrays = [
        np.clip(rng.gamma(2.0, 5.0 + 15 * i, (2, 8, 30, 20 + 30 * i)), 0, 250).astype(dtype)
        for i, dtype in enumerate(dtypes)
    ]
    volumes = [ArrayVolume(f"{i}", array, channels_first=True) for i, array in enumerate(arrays)]
    together = np.concatenate([array.reshape(2, -1).astype(float) for array in arrays], axis=1)
    first, middle, last = np.percentile(together, [1, 50, 99.8], axis=1)
    expected = {
        "zscore": (together.mean(1), together.std(1)),
        "percentile": (first, last - first),
        "asinh": (middle, middle - np.percentile(together, 16, axis=1)),
    }[kind]
    measured = measure_together(volumes, kind)
    assert np.allclose(measured.shift, expected[0], rtol=1e-5) and np.allclose(
        measured.scale, expected[1], rtol=1e-5
    )
    assert measured.compress == (kind == "asinh")


@pytest.mark.parametrize("kind", ["zscore", "percentile", "asinh"])
def test_a_training_of_one_value_has_no_statistics(kind):
    def of(*arrays):
        images = [ArrayVolume(f"{i}.tif", array) for i, array in enumerate(arrays)]
        measured = [measure_intensity(image, kind, own=False) for image in images]
        return IntensityRecord.of(
            kind, [background_volume("", image, each, (1, 1, 1)) for image, each in zip(images, measured)]
        )

    constant = np.full((4, 5, 6), 7, np.uint8)
    with pytest.raises(VolumeError, match=r"0\.tif.*: every voxel is 7, so there is nothing"):
        of(constant)
    with pytest.raises(VolumeError, match=r"0\.tif and 1\.tif: every voxel is 7, so there is nothing"):
        of(constant, constant)
    record = of(constant, np.random.default_rng(0).integers(0, 200, (8, 9, 9), np.uint8))
    assert record.pooled.scale > 10 and record.volumes[0][1].scale == 0
