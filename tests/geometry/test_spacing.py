"""Lengths: scalars are physical, lists are voxels."""

from __future__ import annotations

import pytest

from skoots.errors import VolumeError
from skoots.geometry import relative_spacing, to_voxels


def test_relative_spacing_counts_in_finest_edges():
    assert relative_spacing((50, 10, 20)) == (5.0, 1.0, 2.0)
    assert relative_spacing((0.4, 0.4)) == (1.0, 1.0)


def test_a_scalar_is_as_long_along_every_axis():
    voxel_size = (50, 10, 20)
    voxels = to_voxels(6, voxel_size)
    assert [v * s for v, s in zip(voxels, voxel_size)] == pytest.approx([60, 60, 60])
    assert to_voxels(6.0, (3, 3)) == (6.0, 6.0)


def test_a_list_is_voxels_already():
    assert to_voxels([1, 2, 3], (50, 10, 20)) == (1.0, 2.0, 3.0)
    assert to_voxels((4, 5), (1, 9)) == (4.0, 5.0)


def test_a_list_needs_a_number_an_axis():
    with pytest.raises(ValueError, match="2 numbers for 3 axes"):
        to_voxels([1, 2], (1, 1, 1))


@pytest.mark.parametrize(
    "edges", [(0, 1), (-1, 1), (float("nan"), 1), (float("inf"), 1), (1e20, 8), (1e308, 1e-320)]
)
def test_no_voxel_is_so_long(edges: tuple[float, float]) -> None:
    for turned in (edges, edges[::-1]):
        with pytest.raises(VolumeError, match="at most 200 times each other"):
            relative_spacing(turned)
    assert relative_spacing((1e-320, 1e-320)) == (1, 1)
    assert relative_spacing((200, 1)) == (200, 1)
