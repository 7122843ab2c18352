"""Each augmentation that moves voxels: what it draws, and that points go where the labels go."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maps import balls, error_of_points, grid_of

from skoots.data.augment import AUGMENTATIONS, PRESETS, Frame, Sequential, SpatialAugmentation
from skoots.data.augment.elastic import STEEPEST, Elastic
from skoots.data.augment.intensity import BrightnessContrast, Gamma
from skoots.data.augment.linear import Affine, Rotate, RotateScale, Scale, Shear, Translate
from skoots.data.augment.sections import SectionJitter, ShiftedSections
from skoots.data.dataset import CropDataset
from skoots.data.sources import Reading, Synthetic, open_sources
from skoots.errors import ConfigError

SPATIAL = [Rotate, Scale, Shear, Translate, Affine, RotateScale, Elastic, ShiftedSections]
CASES = [
    ((70, 80), (1.0, 1.0)),
    ((48, 90), (2.0, 1.0)),
    ((22, 60, 60), (3.0, 1.0, 1.0)),
    ((40, 44, 48), (1.0, 1.0, 1.0)),
]


def drawn(augmentation, frame, seed):
    return augmentation.draw(frame, np.random.default_rng(seed))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(CASES), st.sampled_from(SPATIAL))
def test_points_follow_the_labels(seed, case, kind):
    shape, voxel_size = case
    radius = 3.0 if max(voxel_size) < 1.5 else 5.0
    window = balls(shape, voxel_size, np.random.default_rng(seed), radius=radius)
    slips = kind is ShiftedSections and len(shape) == 3
    if slips:  # skeletons lie on voxels; between two sections that slip apart there is no right place
        points = window.skeletons.points.copy()
        points[:, 0] = points[:, 0].round()
        window = replace(window, skeletons=replace(window.skeletons, points=points))
    options = {"distance": [1.0, 3.0, 3.0]} if kind is Translate else {}
    moved = kind(rate=1.0, **options)(window, np.random.default_rng(seed))
    assert moved.labels.shape == window.labels.shape and moved.image.shape == window.image.shape
    error, _ = error_of_points(moved, radius, by_section=slips)
    assert error < 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(CASES))
def test_points_follow_the_labels_under_the_strongest_elastic_fields(seed, case):
    shape, voxel_size = case
    radius = 2.5 if max(voxel_size) < 1.5 else 5.0  # no ball may vanish between two sections
    window = balls(shape, voxel_size, np.random.default_rng(seed), radius=radius)
    strongest = Elastic(rate=1.0, grid=5, magnitude=0.25)
    spatial_map = drawn(strongest, Frame(shape, voxel_size), seed)
    assert 0.3 < spatial_map.displacements[0].steepness <= STEEPEST + 1e-9
    moved = strongest(window, np.random.default_rng(seed))
    error, _ = error_of_points(moved, radius)
    assert error < 1


def test_the_negative_of_a_displacement_would_not_do():
    """What the test above would not catch, it would be of no use for."""
    shape, missed = (120, 120), []
    for seed in range(12):
        window = balls(shape, (1.0, 1.0), np.random.default_rng(seed), count=60)
        strongest = Elastic(rate=1.0, grid=5, magnitude=0.25)
        moved = strongest(window, np.random.default_rng(seed))
        points = window.skeletons.points.astype(float)
        displacement = drawn(strongest, Frame(shape, (1.0, 1.0)), seed)
        negative = points - (displacement.backward(points) - points)
        missed.append(np.abs(negative - moved.skeletons.points).max())
        error, seen = error_of_points(moved)
        assert error < 1 and seen > 5
    assert np.median(missed) > 2


@pytest.mark.parametrize("kind", SPATIAL)
@pytest.mark.parametrize("shape, voxel_size", CASES[1:3])
def test_rates_and_generators_decide(kind, shape, voxel_size):
    frame = Frame(shape, voxel_size)
    assert issubclass(kind, SpatialAugmentation) and AUGMENTATIONS.get(kind.__name__) is kind
    assert all(drawn(kind(rate=0), frame, seed) is None for seed in range(5))
    if kind is ShiftedSections and len(shape) == 2:
        assert drawn(kind(rate=1.0), frame, 0) is None
        return
    places = grid_of(shape)[::97]
    one, two, other = (drawn(kind(rate=1.0), frame, seed).backward(places) for seed in (4, 4, 5))
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    share = sum(drawn(kind(rate=0.3), frame, seed) is not None for seed in range(300))
    assert 60 < share < 125


def lengths(spatial_map, voxel_size):
    """Physical lengths of physical unit steps after the map, and the angles between them."""
    size = np.array(voxel_size)
    forward = np.linalg.inv(spatial_map.matrices[0]) * size[:, None] / size
    gram = forward.T @ forward
    return np.sqrt(np.diag(gram)), gram


@pytest.mark.parametrize("degrees", [180.0, [180.0, 20.0, 30.0]])
def test_a_rotation_is_rigid_in_physical_space(degrees):
    frame = Frame((12, 40, 40), (4.0, 1.0, 2.0))
    for seed in range(10):
        turn = drawn(Rotate(1.0, degrees), frame, seed)
        assert np.allclose(lengths(turn, frame.voxel_size)[1], np.eye(3), atol=1e-9)
        centre = np.array([[5.5, 19.5, 19.5]])
        assert np.allclose(turn.backward(centre), centre)
        assert np.allclose(turn.matrices[0][0], (1, 0, 0)) == (degrees == 180.0)


def test_scale_and_shear_and_translation():
    frame = Frame((12, 40, 40), (4.0, 1.0, 1.0))
    for seed in range(10):
        factors, _ = lengths(drawn(Scale(1.0, (0.5, 0.8)), frame, seed), frame.voxel_size)
        assert np.ptp(factors) < 1e-9 and 0.5 <= factors[0] <= 0.8
        shear = np.linalg.inv(drawn(Shear(1.0, 10.0), frame, seed).matrices[0])
        assert np.allclose(np.diag(shear), 1) and 0 < np.abs(shear - np.eye(3)).max() <= math.tan(
            math.radians(10)
        )
        shift = drawn(Translate(1.0, 8.0), frame, seed).forward(np.zeros((1, 3)))[0]
        assert (np.abs(shift) <= (2, 8, 8)).all() and np.abs(shift).max() > 0.1
        assert (
            np.abs(drawn(Translate(1.0, [0, 3, 3]), frame, seed).forward(np.zeros((1, 3)))) <= (0, 3, 3)
        ).all()
        both = Affine(1.0, (0.5, 0.8), 30.0, 5.0, 4.0)
        matrix = np.linalg.inv(drawn(both, frame, seed).matrices[0])
        assert np.allclose(matrix[0], (1, 0, 0)) and np.allclose(matrix[:, 0], (1, 0, 0))
        assert 0.24 < np.linalg.det(matrix) < 0.65


def test_elastic_grids_and_magnitudes():
    frame = Frame((16, 61, 61), (4.0, 1.0, 1.0))
    field = drawn(Elastic(1.0, 6, 0.05), frame, 0).displacements[0]
    assert field.spacing == (1.5, 2.0, 2.0)  # nodes; control points lie 3 sections or 12 voxels apart
    spread = np.abs(
        np.concatenate([drawn(Elastic(1.0, 6, 0.05), frame, s).displacements[0].values for s in range(20)])
    )
    reached = spread.reshape(-1, 3).max(0)
    assert (reached < (0.375, 1.5, 1.5)).all() and (reached > (0.19, 0.75, 0.75)).all()  # 1.5 finest voxels
    listed = drawn(Elastic(1.0, [2, 6, 6], [0.01, 0.05, 0.05]), frame, 0).displacements[0]
    assert listed.values.shape == (9, 31, 31, 3) and np.abs(listed.values[..., 0]).max() < 0.01 * 7.5
    flat = drawn(Elastic(1.0, [2, 6, 6]), Frame((61, 61), (1.0, 1.0)), 0)
    assert flat.displacements[0].values.shape == (31, 31, 2)
    thin = drawn(Elastic(1.0), Frame((1, 61, 61), (1.0, 1.0, 1.0)), 0)
    assert thin.displacements[0].values.shape[0] == 1


def test_elastic_fields_are_smooth_and_random_everywhere():
    values = np.stack(
        [
            drawn(Elastic(1.0, 5, 0.1), Frame((65, 65), (1.0, 1.0)), s).displacements[0].values
            for s in range(200)
        ]
    )
    assert np.abs(values.mean(0)).max() < 0.3 and values.std(0).min() > 0.6  # no place is favoured
    first, second = (np.abs(np.diff(values, n, axis=1)).max() for n in (1, 2))
    assert second < first / 3


def test_a_field_too_strong_is_weakened_and_said_once(caplog):
    elastic = Elastic(1.0, grid=5, magnitude=0.25)
    with caplog.at_level(logging.WARNING):
        steep = [drawn(elastic, Frame((65, 65), (1.0, 1.0)), s).displacements[0].steepness for s in range(5)]
    assert max(steep) == pytest.approx(STEEPEST) and caplog.text.count("might have folded") == 1


def test_a_rehearsal_that_says_so_says_it_for_all(caplog):
    elastic, frame = Elastic(1.0, grid=5, magnitude=0.25), Frame((65, 65), (1.0, 1.0))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            Sequential([elastic]).rehearse(frame)
        for seed in range(5):
            drawn(elastic, frame, seed)
    assert caplog.text.count("might have folded") == 1


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: Elastic(grid=12, magnitude=0.2), "a magnitude of 0.2 with 12 control points folds"),
        (
            lambda: Elastic(grid=[2, 6, 6], magnitude=[0.1, 0.1, 0.5]),
            "a magnitude of 0.5 with 6 control points",
        ),
        (lambda: Elastic(grid=6, magnitude=[0.1, 0.5, 0.1]), "a magnitude of 0.5 with 6 control points"),
        (lambda: Elastic(grid=[2, 6, 11], magnitude=0.15), "a magnitude of 0.15 with 11 control points"),
        (lambda: Elastic(grid=[2, 6], magnitude=[0.1, 0.1, 0.5]), "a magnitude of 0.5 with 6 control points"),
        (lambda: Scale(scale=(0.0, 1.0)), "above 0"),
        (lambda: RotateScale(scale=(1.2, 1.0)), "above 0"),
        (lambda: Shear(degrees=45), "folds the image. Stay below 45"),
        (lambda: Affine(shear=50), "Stay below 45"),
        (lambda: Rotate(degrees=[1, 2, 3, 4]), "has 4 numbers"),
        (lambda: BrightnessContrast(contrast=(1.3, 0.7)), r"contrast is \[1.3, 0.7\], must be a smallest"),
        (lambda: BrightnessContrast(brightness=(0.3, -0.3)), "brightness is"),
        (lambda: Gamma(gamma=(1.4, 0.7)), "gamma is"),
        (lambda: SectionJitter(contrast=(1.1, 0.9)), "contrast is"),
    ],
)
def test_what_cannot_be_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize(
    "part",
    [
        Elastic(0.01, grid=[6, 6]),
        Elastic(0.01, magnitude=[0.1] * 4),
        Translate(0, [3.0, 3.0]),
        Rotate(0.01, [180, 10]),
    ],
)
def test_lists_that_do_not_fit_the_crop_are_refused_before_training(part):
    volumes = open_sources([Synthetic([12, 24, 24], radius=(2, 3))], Reading())
    told = r".*(grid|magnitude|distance|degrees) .* numbers for 3 axes"
    with pytest.raises(ConfigError, match=rf"data\.augment: {told}"):
        CropDataset(volumes, (8, 16, 16), [part])
    background = open_sources([Synthetic([12, 24, 24])], Reading(), background=True)
    with pytest.raises(ConfigError, match=rf"data\.background_augment: {told}"):
        CropDataset(volumes, (8, 16, 16), background=background, background_augmentations=[part])


def test_shifted_sections():
    frame = Frame((30, 40, 40), (3.0, 1.0, 1.0))
    places = grid_of((30, 4, 4))
    some = drawn(ShiftedSections(1.0, 0.3, 5.0), frame, 1).backward(places) - places
    assert not some[:, 0].any() and np.abs(some).max() <= 5
    sections = some.reshape(30, 16, 3)
    assert np.allclose(sections, sections[:, :1]) and 3 <= np.count_nonzero(sections[:, 0, 1]) <= 16
    jitter = drawn(ShiftedSections(1.0, 1.0, 1.0), frame, 1).backward(places) - places
    assert jitter.reshape(30, 16, 3)[:, 0, 1:].all()


def test_all_maps_of_a_crop_are_one_in_their_order():
    frame = Frame((12, 30, 30), (2.0, 1.0, 1.0))
    parts = [
        AUGMENTATIONS.build({"type": name, "rate": 1.0})
        for name in ("Elastic", "Flip", "Rotate", "Shear", "Noise", "Elastic", "Translate")
    ]
    sequence = Sequential([parts[0], Sequential(parts[1:3]), *parts[3:]])
    whole = sequence.draw_map(frame, np.random.default_rng(3))
    rng, places = np.random.default_rng(3), grid_of(frame.shape)[::13]
    maps = [part.draw(frame, rng) for part in parts if isinstance(part, SpatialAugmentation)]
    expected = places
    for step in reversed(maps):
        expected = step.backward(expected)
    assert len(whole.displacements) == 2 and np.allclose(whole.backward(places), expected)
    assert [type(part).__name__ for part in sequence.others] == ["Noise"]


def test_presets():
    names = {preset: [type(part).__name__ for part in make()] for preset, make in PRESETS.items()}
    assert names["none"] == [] and names["default"] == [
        "Flip",
        "SwapAxes",
        "BrightnessContrast",
        "Blur",
        "Noise",
    ]
    assert names["original"][:3] == ["Flip", "Affine", "Elastic"] and "Invert" in names["original"]
    volumes = open_sources(
        [Synthetic([12, 40, 40], radius=(2, 3)), Synthetic([12, 40, 40], seed=1, radius=(2, 3))], Reading()
    )
    samples = [CropDataset(volumes, (8, 24, 24), PRESETS["original"](), seed=2)[1, i] for i in range(20)]
    assert any(not s.valid.all() for s in samples) and all(s.image.shape == (1, 8, 24, 24) for s in samples)


@pytest.mark.parametrize(
    "normalize, middle, tenth", [("zscore", 0, 0.4), ("percentile", 0.5, 0.1), ("dtype", 0.5, 0.1)]
)
def test_the_original_keeps_to_the_range_of_the_grey_values(normalize, middle, tenth):
    parts = {type(part).__name__: vars(part) for part in PRESETS["original"](normalize)[:5]}
    assert parts["Invert"]["about"] == middle
    assert parts["BrightnessContrast"]["brightness"] == (-tenth, tenth)
    assert vars(PRESETS["original"](normalize)[-1])["deviation"] == tenth
