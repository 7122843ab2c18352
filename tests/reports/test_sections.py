"""Which section is shown, and how."""

from __future__ import annotations

import numpy as np

from skoots.reports.sections import busiest_section, image_section, in_proportion, section


def test_the_busiest_section_shows_most_objects_and_of_several_most_of_them() -> None:
    labels = np.zeros((4, 6, 6), int)
    labels[0] = 7  # full, of one object
    labels[1, 0, :3] = 1, 2, 3
    labels[2, 0, :4] = 1, 2, 3, 3
    assert busiest_section(labels) == 2
    assert busiest_section(np.zeros((3, 2, 2), int)) == 0
    assert busiest_section(labels[1]) == 0


def test_sections_of_volumes_and_planes() -> None:
    volume = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert np.array_equal(section(volume, 1, 3), volume[:, 1])
    assert np.array_equal(section(volume[0], 1, 3), volume[0, 1])
    assert np.array_equal(section(volume, 0, 2), volume)
    assert np.array_equal(image_section(volume, 2), volume[0, 2])
    rgb = np.arange(3 * 2 * 4 * 5).reshape(3, 2, 4, 5)
    assert np.array_equal(image_section(rgb, 1), rgb[:, 1].transpose(1, 2, 0))
    assert np.array_equal(image_section(rgb[:, 0], 0), rgb[:, 0].transpose(1, 2, 0))


def test_pixels_become_square() -> None:
    picture = np.arange(2 * 3 * 3).reshape(2, 3, 3)
    assert np.array_equal(in_proportion(picture, (9.0, 2.0, 1.0)), np.repeat(picture, 2, axis=0))
    assert np.array_equal(in_proportion(picture[..., 0], (1.0, 3.0)), np.repeat(picture[..., 0], 3, axis=1))
    assert np.array_equal(in_proportion(picture, (4.0, 4.0)), picture)
