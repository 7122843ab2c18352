"""TIFF in all its dialects, read by box."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes import create_volume, open_volume, write_volume
from skoots.volumes import tiff as tiff_module
from skoots.volumes.segments import SEGMENTS, SegmentCache
from skoots.volumes.tiff import TiffVolume
from skoots.volumes.tiff_pages import PageReader

LAYOUTS = {
    "memory-mapped": {},
    "zlib": {"compression": "zlib"},
    "lzw with predictor, strips of two rows": {"compression": "lzw", "predictor": True, "rowsperstrip": 2},
    "tiles": {"compression": "zlib", "tile": (16, 16)},
    "uncompressed tiles": {"tile": (16, 16)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 19, 21), (19, 21)])
def test_every_storage_layout_reads_alike(tmp_path, encode, check_reads, layout, shape):
    path, array = tmp_path / "a.tif", encode(shape, "uint16")
    tifffile.imwrite(
        path, array, metadata={"axes": "ZYX"[-len(shape) :]}, photometric="minisblack", **LAYOUTS[layout]
    )
    check_reads(open_volume(path), array)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_types_and_byte_orders(tmp_path, encode, check_reads, dtype, byteorder, compression):
    path, array = tmp_path / "a.tif", encode((4, 5, 6), dtype)
    tifffile.imwrite(
        path,
        array,
        byteorder=byteorder,
        compression=compression,
        photometric="minisblack",
        metadata={"axes": "ZYX"},
    )
    check_reads(open_volume(path), array)


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_plain_pages_are_sections(tmp_path, encode, check_reads, bigtiff, compression):
    path, array = tmp_path / "a.tif", encode((4, 7, 9))
    with tifffile.TiffWriter(path, bigtiff=bigtiff) as writer:
        for section in array:
            writer.write(section, metadata=None, compression=compression)
    check_reads(open_volume(path), array)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dialect", ["imagej", "ome", "shaped"])
@pytest.mark.parametrize("axes", ["ZCYX", "CZYX", "CYX"])
def test_channels_come_first_whatever_the_order(tmp_path, encode, check_reads, dialect, axes, compression):
    stored_axes = "ZCYX" if dialect == "imagej" and len(axes) == 4 else axes
    array = encode((2, 3, 6, 7)[-len(stored_axes) :])
    expected = np.moveaxis(array, stored_axes.index("C"), 0)
    path = tmp_path / "a.tif"
    options = {} if dialect == "shaped" else {dialect: True}
    tifffile.imwrite(
        path,
        array,
        metadata={"axes": stored_axes},
        photometric="minisblack",
        compression=compression,
        **options,
    )
    volume = open_volume(path)
    assert volume.axes == ("czyx" if len(axes) == 4 else "cyx")
    check_reads(volume, expected)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colour_images_keep_their_channels(tmp_path, encode, check_reads, planar, compression):
    stored = encode((20, 22, 3) if planar == "contig" else (3, 20, 22))
    path = tmp_path / "rgb.tif"
    tifffile.imwrite(
        path, stored, photometric="rgb", planarconfig=planar, compression=compression, rowsperstrip=6
    )
    volume = open_volume(path)
    assert (volume.axes, volume.channels, volume.spatial_dims) == ("cyx", 3, 2)
    check_reads(volume, np.moveaxis(stored, -1, 0) if planar == "contig" else stored)


def test_colour_stack(tmp_path, encode, check_reads):
    stored = encode((4, 6, 7, 3))
    path = tmp_path / "rgb.tif"
    tifffile.imwrite(path, stored, photometric="rgb", compression="zlib", metadata={"axes": "ZYXS"})
    check_reads(open_volume(path), np.moveaxis(stored, -1, 0))


def test_three_sections_stored_as_colour_planes(tmp_path, encode, check_reads):
    """What tifffile makes of a stack of three sections if nobody says that it is grey."""
    path, array = tmp_path / "a.tif", encode((3, 20, 22))
    options = {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib", "rowsperstrip": 6}
    tifffile.imwrite(path, array, metadata={"axes": "ZYX"}, **options)
    volume = open_volume(path)
    assert volume.axes == "zyx"
    check_reads(volume, array)


def test_a_single_section_stays_a_stack(tmp_path, encode, check_reads):
    path, array = tmp_path / "a.tif", encode((1, 6, 7))
    tifffile.imwrite(path, array, metadata={"axes": "ZYX"})
    volume = open_volume(path)
    assert volume.axes == "zyx"
    check_reads(volume, array)


def test_ome_pyramid_gives_the_finest_level(tmp_path, encode, check_reads):
    path, array = tmp_path / "a.ome.tif", encode((2, 32, 32))
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(array, subifds=1, tile=(16, 16), metadata={"axes": "ZYX"})
        writer.write(array[:, ::2, ::2], subfiletype=1, tile=(16, 16))
    check_reads(open_volume(path), array)


def test_stated_axes_win(tmp_path, encode, check_reads):
    path, array = tmp_path / "a.tif", encode((3, 6, 7))
    tifffile.imwrite(path, array, imagej=True)  # without axes, tifffile calls the sections channels
    assert open_volume(path).axes == "cyx"
    volume = open_volume(path, axes="zyx")
    assert volume.axes == "zyx"
    check_reads(volume, array)
    check_reads(pickle.loads(pickle.dumps(volume)), array)
    with pytest.raises(VolumeError, match="axes 'zzyx' do not fit"):
        open_volume(path, axes="zzyx")


# --- voxel size ---


def test_voxel_size_of_imagej(tmp_path, encode):
    path = tmp_path / "a.tif"
    metadata = {"spacing": 0.5, "unit": "\\u00B5m", "axes": "ZYX"}
    tifffile.imwrite(
        path, encode((3, 6, 7)), imagej=True, resolution=(1 / 0.25, 1 / 0.125), metadata=metadata
    )
    volume = open_volume(path)
    assert volume.voxel_size == pytest.approx((0.5, 0.125, 0.25))
    assert volume.unit == "um"


def test_voxel_size_of_ome_converts_to_one_unit(tmp_path, encode):
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeX": 9.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 8.0}
    metadata |= {"PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 0.05, "PhysicalSizeZUnit": "µm"}
    tifffile.imwrite(path, encode((3, 6, 7)), ome=True, metadata=metadata)
    volume = open_volume(path)
    assert volume.voxel_size == pytest.approx((50.0, 8.0, 9.0))
    assert volume.unit == "nm"


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [((3, 6, 7), [50, 9, 8], (50, 9, 8)), ((6, 7), [2, 3], (2, 3)), ((3, 6, 7), 4, (4, 0.5, 0.25))],
)
def test_voxel_size_of_json(tmp_path, encode, shape, spacing, expected):
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX"[-len(shape) :], "spacing": spacing, "unit": "nm"}
    tifffile.imwrite(
        path, encode(shape), metadata=metadata, photometric="minisblack", resolution=(4, 2), resolutionunit=1
    )
    volume = open_volume(path)
    assert (volume.voxel_size, volume.unit) == (expected, "nm")


def test_voxel_size_of_bare_resolution_tags(tmp_path, encode):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, encode((6, 7)), resolution=(1e4, 2e4), resolutionunit="CENTIMETER", metadata=None)
    assert (open_volume(path).voxel_size, open_volume(path).unit) == (pytest.approx((0.5, 1.0)), "um")


@pytest.mark.parametrize(
    "options", [{}, {"imagej": True}, {"ome": True}, {"resolution": (72, 72), "resolutionunit": 2}]
)
def test_unknown_voxel_size_is_none(tmp_path, encode, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, encode((3, 6, 7)), metadata={"axes": "ZYX"}, photometric="minisblack", **options)
    assert open_volume(path).voxel_size is None


def test_stated_voxel_size_wins(tmp_path, encode):
    path = tmp_path / "a.tif"
    write_volume(path, encode((3, 6, 7)), voxel_size=(1, 2, 3), unit="um")
    volume = open_volume(path, voxel_size=[5, 4, 4])
    assert (volume.voxel_size, volume.unit) == ((5, 4, 4), None)
    assert pickle.loads(pickle.dumps(volume)).voxel_size == (5, 4, 4)
    with pytest.raises(
        VolumeError, match=r"a\.tif: the voxel size \[1, 2\] has 2 numbers for 3 axes \(z y x\)"
    ):
        open_volume(path, voxel_size=[1, 2])
    with pytest.raises(VolumeError, match="must be positive"):
        open_volume(path, voxel_size=[1, 0, 2])


# --- laziness ---


@pytest.fixture
def decoded(monkeypatch):
    """The pieces (section, strip or tile) that were decoded."""
    pieces: list[tuple[int, int]] = []
    original = PageReader._decoded

    def counted(self, page, number, segment):
        pieces.append((number, segment))
        return original(self, page, number, segment)

    monkeypatch.setattr(PageReader, "_decoded", counted)
    return pieces


def test_only_the_tiles_of_a_box_are_decoded_and_once(tmp_path, encode, decoded):
    path, array = tmp_path / "a.tif", encode((5, 48, 48))
    tifffile.imwrite(path, array, compression="zlib", tile=(16, 16), metadata={"axes": "ZYX"})
    volume = open_volume(path)
    assert decoded == []
    box = Box((1, 10, 17), (3, 20, 30))
    np.testing.assert_array_equal(volume.read(box), array[box.slices])
    assert sorted(decoded) == [(1, 1), (1, 4), (2, 1), (2, 4)]
    volume.read(box)[:] = 0  # what was handed out is not what is remembered
    np.testing.assert_array_equal(volume.read(box), array[box.slices])
    assert len(decoded) == 4


def test_only_the_strips_of_a_box_are_decoded(tmp_path, encode, decoded):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, encode((5, 12, 8)), compression="zlib", rowsperstrip=4, metadata={"axes": "ZYX"})
    open_volume(path).read(Box((4, 4, 0), (5, 8, 8)))
    assert decoded == [(4, 1)]


def test_uncompressed_files_are_mapped_not_read(tmp_path, decoded):
    path = tmp_path / "a.tif"
    with create_volume(path, (64, 1024, 1024), np.uint8) as volume:  # 64 MiB, most of it a hole in the file
        volume.write(Box.at((63, 1023, 1023), (1, 1, 1)), np.full((1, 1, 1), 7, np.uint8))
    import tracemalloc

    tracemalloc.start()
    part = open_volume(path).read(Box((60, 1000, 1000), (64, 1024, 1024)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert part[-1, -1, -1] == 7 and part.sum() == 7 and decoded == []
    assert peak < 4 * 2**20


def test_the_memory_of_pieces_forgets_the_oldest():
    cache, made = SegmentCache(limit=100), []

    def make(key):
        made.append(key)
        return np.zeros(40, np.uint8)

    for key in (1, 2, 1, 3, 1, 2):  # 3 puts out 2, as 1 was used since
        cache.get(key, lambda key=key: make(key))
    assert made == [1, 2, 3, 2]
    assert cache.size == 80
    assert cache.get(9, lambda: np.zeros(101, np.uint8)).size == 101 and cache.size == 80
    assert SEGMENTS.limit > 2**20


# --- faults ---

DIALECTS = {
    "shaped": {},
    "shaped zlib": {"compression": "zlib"},
    "imagej": {"imagej": True},
    "imagej zlib": {"imagej": True, "compression": "zlib"},
    "ome": {"ome": True},
    "ome zlib": {"ome": True, "compression": "zlib"},
    "plain zlib": {"metadata": None, "compression": "zlib"},
    "big": {"bigtiff": True},
}


@pytest.mark.parametrize("kept", [0.03, 0.5, 0.97])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_truncated_files_are_found_when_opened(tmp_path, encode, dialect, kept):
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, encode((8, 32, 32)), **{"metadata": {"axes": "ZYX"}, **DIALECTS[dialect]})
    os.truncate(path, int(os.path.getsize(path) * kept))
    with pytest.raises(VolumeError, match=r"cut\.tif is truncated: .* but the file has \d+ bytes\. Copy"):
        open_volume(path)


def test_a_truncated_single_page_names_its_pixels(tmp_path, encode):
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, encode((64, 64)), metadata=None)
    os.truncate(path, os.path.getsize(path) - 1)
    with pytest.raises(VolumeError, match=r"its pixels need \d+ bytes"):
        open_volume(path)


@pytest.mark.parametrize("head", [b"\x89PNG\r\n\x1a\n" + b"\0" * 100, b"II*", b"hello, I am a text file"])
def test_what_is_no_tiff(tmp_path, head):
    path = tmp_path / "a.tif"
    path.write_bytes(head)
    with pytest.raises(VolumeError, match=r"a\.tif is not a TIFF image"):
        open_volume(path)


def test_garbage_behind_a_good_header(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0\x08\0\0\0\0\0\0\0\0\0" + b"\0" * 50)  # one page without a tag
    with pytest.raises(VolumeError, match=r"a\.tif"):
        open_volume(path)


def test_damaged_pixels_name_the_section(tmp_path, encode):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, encode((5, 32, 32)), compression="zlib", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[1]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = b"\xff" * count
    path.write_bytes(content)
    volume = open_volume(path)
    volume.read(Box((0, 0, 0), (1, 32, 32)))
    with pytest.raises(VolumeError, match=r"a\.tif: section 2 cannot be decoded"):
        volume.read_all()


def test_time_series_are_refused(tmp_path, encode):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, encode((4, 3, 6, 7)), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(VolumeError, match=r"a\.tif holds 4 time points; split it"):
        open_volume(path)


def test_axes_that_cannot_be_told_apart(tmp_path, encode):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, encode((2, 5, 6, 7)))
    with pytest.raises(VolumeError, match=r"a\.tif has shape \(2, 5, 6, 7\) and axes 'qqyx'"):
        open_volume(path)
    assert open_volume(path, axes="czyx").channels == 2


def test_several_images_in_one_file(tmp_path, encode):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(encode((6, 7)), metadata=None)
        writer.write(encode((9, 7)), metadata=None)
    with pytest.raises(VolumeError, match="holds separate images: page 2 is 9 x 7 uint16"):
        open_volume(path)


def test_complex_voxels_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 5), np.complex64))
    with pytest.raises(VolumeError, match=r"a\.tif holds complex64; voxels must be integers or floats"):
        open_volume(path)


# --- writing ---


@pytest.mark.parametrize(
    ("unit", "size"),
    [("nm", (50.0, 9.2, 9.2)), ("um", (0.5, 0.25, 0.125)), ("px", (1, 2, 3)), (None, (3, 2, 1))],
)
def test_what_is_written_is_ome_where_it_can(tmp_path, encode, unit, size):
    path, array = tmp_path / "a.tif", encode((3, 6, 7), "int32")
    write_volume(path, array, voxel_size=size, unit=unit)
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome and tif.series[0].axes == "ZYX"
    np.testing.assert_array_equal(tifffile.imread(path), array)
    volume = open_volume(path)
    assert (volume.voxel_size, volume.unit) == (pytest.approx(size), unit)


def test_three_channels_are_not_taken_for_colours(tmp_path, encode):
    path, array = tmp_path / "a.tif", encode((3, 6, 7))
    write_volume(path, array, channels=3)
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].axes == "CYX"


def test_large_files_are_bigtiff(tmp_path, encode, monkeypatch, check_reads):
    path, array = tmp_path / "a.tif", encode((3, 6, 7))
    write_volume(path, array, compress=False)
    with tifffile.TiffFile(path) as tif:
        assert not tif.is_bigtiff
    monkeypatch.setattr(tiff_module, "BIGTIFF_BYTES", array.nbytes - 1)
    write_volume(path, array, compress=False, overwrite=True)
    with tifffile.TiffFile(path) as tif:
        assert tif.is_bigtiff
    check_reads(open_volume(path), array)


def test_reading_follows_tifffile_on_a_mixed_bag(tmp_path, encode):
    """Whatever tifffile writes by itself reads as tifffile reads it."""
    for number, shape in enumerate([(5, 6), (5, 5, 6), (1, 5, 6), (2, 300, 200)]):
        for compression in (None, "zlib", "deflate", "packbits", "zstd"):
            path: Path = tmp_path / f"{number}.tif"
            array = encode(shape)
            tifffile.imwrite(path, array, compression=compression)
            volume = open_volume(path)
            assert isinstance(volume, TiffVolume)
            np.testing.assert_array_equal(volume.read_all(), tifffile.imread(path).reshape(shape))
