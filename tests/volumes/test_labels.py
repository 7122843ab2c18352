"""Integer ids out of volumes."""

from __future__ import annotations

import numpy as np
import pytest

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes import open_volume, read_labels, write_volume


def labels_in(tmp_path, array, channels=None):
    path = tmp_path / "a.labels.tif"
    write_volume(path, array, channels=channels, overwrite=True)
    return open_volume(path)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"])
def test_all_integer_types_become_int32(tmp_path, kind):
    array = np.arange(60).reshape(3, 4, 5).astype(kind)
    volume = labels_in(tmp_path, array)
    labels = read_labels(volume)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, array)
    box = Box((1, 1, 1), (3, 3, 3))
    np.testing.assert_array_equal(read_labels(volume, box), array[box.slices])


@pytest.mark.parametrize(
    ("kind", "largest", "read"),
    [("uint32", 2**32 - 1, "int64"), ("int64", 2**31 - 1, "int32"), ("uint64", 2**63 - 1, "int64")],
)
def test_large_ids_are_kept(tmp_path, kind, largest, read):
    array = np.zeros((3, 4, 5), kind)
    array[1, 2, 3] = largest
    labels = read_labels(labels_in(tmp_path, array))
    assert labels.dtype == read
    assert int(labels[1, 2, 3]) == largest


def test_ids_that_no_integer_holds(tmp_path):
    with pytest.raises(VolumeError, match=r"a\.labels\.tif: the label 9223372036854775808 is larger than"):
        read_labels(labels_in(tmp_path, np.full((3, 4, 5), 2**63, np.uint64)))


@pytest.mark.parametrize("value", [1.0, 0.5])
@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_float_labels_are_refused_with_the_way_to_convert(tmp_path, kind, value):
    volume = labels_in(tmp_path, np.full((3, 4, 5), value, kind))
    message = (
        rf"a\.labels\.tif is {kind}, but labels must be integer ids .* convert it: labels\.round\(\)\.astype"
    )
    with pytest.raises(VolumeError, match=message):
        read_labels(volume)


def test_negative_ids_only_as_ignore_label(tmp_path):
    array = np.array([[0, 1], [-1, 2]], np.int16)
    volume = labels_in(tmp_path, array)
    with pytest.raises(VolumeError, match=r"a\.labels\.tif has the negative label -1.* set ignore_label: -1"):
        read_labels(volume)
    np.testing.assert_array_equal(read_labels(volume, ignore_label=-1), array)
    with pytest.raises(VolumeError, match="negative label -1"):
        read_labels(volume, ignore_label=-2)


def test_one_channel_is_none_and_several_are_refused(tmp_path):
    array = np.arange(60, dtype=np.uint16).reshape(1, 3, 4, 5)
    np.testing.assert_array_equal(read_labels(labels_in(tmp_path, array, channels=1)), array[0])
    with pytest.raises(
        VolumeError, match=r"has 3 channels, but labels have none.* save it with the axes zyx"
    ):
        read_labels(labels_in(tmp_path, array[0], channels=3))
