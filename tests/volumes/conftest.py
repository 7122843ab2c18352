"""Arrays whose voxels encode their own position, so that a drift of one voxel shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from skoots.geometry import Box
from skoots.volumes import Volume

DTYPES = [
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float16",
    "float32",
    "float64",
]


def positions(shape: Sequence[int], dtype: str = "uint16") -> np.ndarray:
    """Every voxel holds its own flat index (shifted for signed types, so that negative values occur too)."""
    size = int(np.prod(shape))
    assert dtype not in ("uint8", "int8") or size <= 256
    first = -(size // 2) if np.dtype(dtype).kind == "i" else 0
    array = np.arange(first, first + size).reshape(shape)
    return array.astype(dtype)


def assert_reads(volume: Volume, expected: np.ndarray) -> None:
    """The whole volume and boxes at its corners, inside and one voxel wide read as in memory.

    Args:
        volume: what is tested.
        expected: (*S) or (C, *S).
    """
    spatial = expected.shape[-volume.spatial_dims :]
    assert volume.shape == spatial
    assert volume.channels == (expected.shape[0] if expected.ndim > len(spatial) else None)
    assert volume.dtype == expected.dtype.newbyteorder("=")
    boxes = [
        Box.of_shape(spatial),
        Box(tuple(n // 3 for n in spatial), tuple(max(n // 3 + 1, n - 1) for n in spatial)),
        Box.at([n - 1 for n in spatial], [1] * len(spatial)),
        Box((0,) * len(spatial), tuple(max(1, n // 2) for n in spatial)),
        Box(tuple(n // 2 for n in spatial), spatial),
    ]
    for box in boxes:
        part = volume.read(box)
        assert part.dtype.isnative and part.flags.c_contiguous and part.flags.writeable
        np.testing.assert_array_equal(part, expected[(..., *box.slices)])
    np.testing.assert_array_equal(volume.read_all(), expected)


@pytest.fixture(scope="session")
def encode() -> Callable[..., np.ndarray]:
    return positions


@pytest.fixture(scope="session")
def check_reads() -> Callable[[Volume, np.ndarray], None]:
    return assert_reads


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def peak_memory():
    """A block that may not take more than so many MiB at a time, in whatever language."""

    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the system does not tell")

    @contextmanager
    def at_most(mebibytes):
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts fresh
        before = resident("VmHWM")
        yield
        assert resident("VmHWM") - before < mebibytes * 1024

    def resident(name):
        status = Path("/proc/self/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1])

    return at_most
