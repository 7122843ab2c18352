"""Exact percentiles of integers against NumPy's, through small blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skoots.data import percentiles
from skoots.data.normalize import measure_intensity
from skoots.data.percentiles import channel_blocks, integer_percentiles, values_of_rank
from skoots.volumes.array import ArrayVolume

DTYPES = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(percentiles, "BLOCK", (3, 4, 5))


def random_volume(dtype, shape, channels, seed, wide):
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    span = (limits.min, limits.max) if wide else (max(limits.min, -9), 9)
    array = rng.integers(*span, ((channels,) if channels else ()) + shape, dtype, endpoint=True)
    return ArrayVolume("image", array, channels_first=bool(channels)), array.reshape(max(1, channels), -1)


@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(1, 7), min_size=2, max_size=3).map(tuple),
    st.sampled_from([0, 2]),
    st.integers(0, 10**6),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_values_of_rank_are_those_of_sorting(dtype, shape, channels, seed, wide):
    volume, flat = random_volume(dtype, shape, channels, seed, wide)
    ranks = sorted(set(np.random.default_rng(seed).integers(0, flat.shape[1], 3).tolist()))
    assert np.array_equal(values_of_rank([volume], ranks), np.sort(flat, 1)[:, ranks].T.astype(float))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wide", [True, False])
def test_percentiles_are_numpys(dtype, wide):
    volume, flat = random_volume(dtype, (7, 9, 11), 2, 0, wide)
    percents = [0, 1, 16, 50, 99.8, 100]
    expected = np.percentile(flat.astype(float), percents, axis=1)
    assert np.allclose(integer_percentiles([volume], percents), expected, rtol=1e-12)


def test_types_of_16_bit_take_one_pass_and_of_32_bit_two(monkeypatch):
    passes = []
    monkeypatch.setattr(percentiles, "channel_blocks", lambda v: passes.append(v.dtype) or channel_blocks(v))
    for dtype, expected in ((np.uint8, 1), (np.int16, 1), (np.uint32, 2)):
        passes.clear()
        integer_percentiles([random_volume(dtype, (4, 5, 6), 0, 0, True)[0]], [1, 50, 99.8])
        assert len(passes) == expected


def test_normalisation_of_integers_looks_at_every_voxel(monkeypatch):
    """A few voxels decide the 99.8th percentile; a sample of the volume would miss some of these."""
    monkeypatch.setattr("skoots.data.normalize.SAMPLE_VOXELS", 50)
    array = np.random.default_rng(0).integers(0, 200, (20, 25, 30), np.uint16)
    array.ravel()[::333] = 5000
    for kind, (low, high) in (("percentile", (1, 99.8)), ("asinh", (16, 50))):
        bounds = np.percentile(array, [low, high])
        intensity = measure_intensity(ArrayVolume("image", array), kind)
        assert float(intensity.scale[0]) == pytest.approx(bounds[1] - bounds[0], rel=1e-6)
        assert float(intensity.shift[0]) == pytest.approx(bounds[0 if kind == "percentile" else 1], rel=1e-6)


def test_volumes_of_several_types_together():
    one, two = (random_volume(dtype, (3, 4, 5), 2, i, True) for i, dtype in enumerate((np.int16, np.uint8)))
    together = np.concatenate([one[1].astype(float), two[1].astype(float)], axis=1)
    expected = np.percentile(together, [1, 50, 99.8], axis=1)
    assert np.allclose(integer_percentiles([one[0], two[0]], [1, 50, 99.8]), expected, rtol=1e-12)
