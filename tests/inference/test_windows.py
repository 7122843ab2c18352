"""Windows of large volumes: they partition a volume, and the first few speak for all."""

from __future__ import annotations

import math

import numpy as np
import pytest

from skoots.inference.windows import drawn_windows, windows


@pytest.mark.parametrize(
    ("shape", "size", "most"),
    [
        ((20, 30), (1, 1), 10**6),
        ((100, 300), (1, 1), 500),
        ((16, 200, 100), (4, 1, 1), 3000),
        ((9,), (1,), 1),
    ],
)
def test_small_boxes_near_a_cube_that_hold_every_voxel_once(
    shape: tuple[int, ...], size: tuple[float, ...], most: int
) -> None:
    boxes = windows(shape, size, most)
    held = np.zeros(shape, int)
    for box in boxes:
        held[box.slices] += 1
        assert box.size <= most
    assert (held == 1).all()
    if math.prod(shape) <= most:
        assert len(boxes) == 1
    else:
        assert boxes[0].size > most / 4
        edges = [n * s for n, s in zip(boxes[0].shape, size)]
        assert max(edges) <= 2.5 * min(edges)


def test_each_volume_has_its_turn_before_another_has_two() -> None:
    shapes, sizes = [(40, 40), (10, 10), (40, 20)], [(1.0, 1.0)] * 3
    drawn = list(drawn_windows(shapes, sizes, 100))
    assert len(drawn) == len(set(drawn)) == sum(len(windows(shape, (1, 1), 100)) for shape in shapes)
    numbers = [number for number, _ in drawn]
    assert sorted(numbers[:3]) == [0, 1, 2] and sorted(numbers[3:5]) == [0, 2]
    assert drawn == list(drawn_windows(shapes, sizes, 100))
    starts = [box.start for number, box in drawn if number == 0]
    assert starts != sorted(starts)  # a corner does not speak for the whole
