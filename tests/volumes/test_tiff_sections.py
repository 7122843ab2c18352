"""Every section of a TIFF stack is read, or the fault names the file."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.volumes import open_volume

Z, Y, X = 7, 40, 52
VOLUME = np.random.default_rng(0).integers(1, 60000, (Z, Y, X)).astype(np.uint16)
NAMES = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
CODECS = (None, "zlib", "lzw", "zstd", "packbits", "lzma")


def write_pages(path: Path, options: Callable[[int], dict] = lambda page: {}, pages=VOLUME, **file) -> None:
    with tifffile.TiffWriter(path, **file) as writer:
        for number, page in enumerate(pages):
            writer.write(page, **{"metadata": None, "photometric": "minisblack", **options(number)})


def assert_reads(path: Path, truth: np.ndarray = VOLUME) -> None:
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.read_all(), truth)
    box = Box((2, 11, 17), (6, 34, 43))
    np.testing.assert_array_equal(volume.read(box), truth[box.slices])


# --- pages that are stored in different ways ---

STORED = {
    "one page is not compressed": lambda n: {"compression": None if n == 3 else "zlib", "rowsperstrip": 8},
    "one page has other strips": lambda n: {"compression": "zlib", "rowsperstrip": 16 if n == 3 else 8},
    "one page has a predictor": lambda n: {"compression": "zlib", "predictor": 2 if n == 3 else 1},
    "every codec": lambda n: {"compression": CODECS[n % len(CODECS)], "rowsperstrip": 8 + n},
    "tiles and strips": lambda n: {"compression": "zlib", "tile": (16, 32) if n % 2 else None},
    "tiles of two sizes": lambda n: {"tile": (16, 16 + 16 * (n % 2))},
    "one page is white on black": lambda n: {"photometric": "miniswhite" if n == 3 else "minisblack"},
    "each page with metadata of its own": lambda n: {"metadata": {}, "compression": CODECS[n % 2]},
}


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_pages_of_one_size_and_type_are_one_stack(tmp_path, stored, byteorder):
    write_pages(tmp_path / "a.tif", STORED[stored], byteorder=byteorder, bigtiff=byteorder == ">")
    assert_reads(tmp_path / "a.tif")


@pytest.mark.parametrize("dialect", ["ome", "imagej", "shaped"])
def test_metadata_do_not_hide_how_a_page_is_stored(tmp_path, dialect):
    """Readers that take the first page's strips for all find garbage, or nothing, in the fourth."""
    described = {
        "ome": ome_xml(str(uuid.uuid4()), [], Z),
        "imagej": f"ImageJ=1.54f\nimages={Z}\nslices={Z}\n",
        "shaped": f'{{"shape": [{Z}, {Y}, {X}], "axes": "ZYX"}}',
    }[dialect]
    for other in ({"compression": None, "rowsperstrip": Y}, {"compression": "zlib", "rowsperstrip": 16}):
        write_pages(
            tmp_path / "a.tif",
            lambda n, other=other: (
                {"compression": "zlib", "rowsperstrip": 8}
                | (other if n == 3 else {})
                | ({"description": described} if n == 0 else {})
            ),
        )
        assert_reads(tmp_path / "a.tif")


@pytest.mark.parametrize("other", [VOLUME[3, :, :50], VOLUME[3].astype(np.uint8), VOLUME[3, :36]])
def test_a_page_of_another_size_or_type_is_named(tmp_path, other):
    write_pages(tmp_path / "a.tif", pages=[*VOLUME[:3], other, *VOLUME[4:]])
    with pytest.raises(VolumeError, match=r"a\.tif holds separate images: page 4 is \d+ x \d+ uint"):
        open_volume(tmp_path / "a.tif")


def test_two_stacks_in_one_file_are_not_one(tmp_path):
    for options in ({}, {"ome": True}):
        with tifffile.TiffWriter(tmp_path / "a.tif", **options) as writer:
            for part in (VOLUME, VOLUME[:4]):
                writer.write(part, metadata={"axes": "ZYX"}, photometric="minisblack")
        with pytest.raises(VolumeError, match="page 8 is as large as page 1"):
            open_volume(tmp_path / "a.tif")


# --- what is no section ---

SMALL = VOLUME[:, ::2, ::2]


def _pyramid(writer, **options):
    for page, small in zip(VOLUME, SMALL):
        writer.write(page, metadata=None, subifds=1, compression="zlib", **options)
        writer.write(small, metadata=None, subfiletype=1)


def _interleaved(writer):
    for page, small in zip(VOLUME, SMALL):
        writer.write(page, metadata=None)
        writer.write(small, metadata=None, subfiletype=1)


def _thumbnail_first(writer):
    writer.write(np.zeros((10, 10, 3), np.uint8), metadata=None, subfiletype=1, photometric="rgb")
    for page in VOLUME:
        writer.write(page, metadata=None, compression="lzw")


def _thumbnail_last(writer):
    for page in VOLUME:
        writer.write(page, metadata=None)
    writer.write(SMALL[0], metadata=None)


def _described(writer):
    writer.write(VOLUME, metadata={"axes": "ZYX"}, subifds=2, photometric="minisblack")
    for step in (2, 4):
        writer.write(VOLUME[:, ::step, ::step], subfiletype=1, photometric="minisblack")


@pytest.mark.parametrize("write", [_pyramid, _interleaved, _thumbnail_first, _thumbnail_last, _described])
def test_pyramids_and_thumbnails_are_no_sections(tmp_path, write):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        write(writer)
    assert_reads(tmp_path / "a.tif")


# --- what metadata promise ---


def ome_xml(own: str, parts: list[tuple[str, str, int, int]], sections: int, width: int = X) -> str:
    planes = "".join(
        f'<TiffData IFD="{ifd}" FirstZ="{z}" FirstC="0" FirstT="0" PlaneCount="1">'
        f'<UUID FileName="{file}">urn:uuid:{number}</UUID></TiffData>'
        for file, number, z, ifd in parts
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME {NAMES} '
        f'UUID="urn:uuid:{own}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        f'Type="uint16" SizeX="{width}" SizeY="{Y}" SizeZ="{sections}" SizeC="1" SizeT="1">'
        f"{planes or '<TiffData/>'}</Pixels></Image></OME>"
    )


def write_described(path: Path, array: np.ndarray, text: str, **options) -> None:
    tifffile.imwrite(path, array, photometric="minisblack", metadata=None, description=text, **options)


@pytest.fixture
def ome_set(tmp_path) -> Path:
    """Two files of one image: sections 1 to 4 and 5 to 7."""
    a, b = str(uuid.uuid4()), str(uuid.uuid4())
    parts = [("m0.ome.tif", a, z, z) for z in range(4)] + [("m1.ome.tif", b, z, z - 4) for z in range(4, 7)]
    write_described(tmp_path / "m0.ome.tif", VOLUME[:4], ome_xml(a, parts, Z))
    write_described(
        tmp_path / "m1.ome.tif", VOLUME[4:], ome_xml(b, parts, Z), compression="zlib", rowsperstrip=8
    )
    return tmp_path


def test_a_set_of_files_is_one_image_whichever_is_opened(ome_set):
    assert_reads(ome_set / "m0.ome.tif")
    assert_reads(ome_set / "m1.ome.tif")


def test_a_missing_file_of_a_set_is_named(ome_set):
    (ome_set / "m1.ome.tif").unlink()
    with pytest.raises(
        VolumeError, match=r"m0\.ome\.tif is one file of .* and m1\.ome\.tif is not beside it"
    ):
        open_volume(ome_set / "m0.ome.tif")


def test_a_file_of_a_set_with_too_few_pages(ome_set):
    with tifffile.TiffFile(ome_set / "m1.ome.tif") as tif:
        xml = tif.pages[0].description
    write_described(ome_set / "m1.ome.tif", VOLUME[4:6], xml)
    with pytest.raises(VolumeError, match=r"m0\.ome\.tif is incomplete: .* page 7 is not there"):
        open_volume(ome_set / "m0.ome.tif")


def test_a_file_that_another_describes(tmp_path):
    xml = (
        f'<?xml version="1.0"?><OME {NAMES}><BinaryOnly MetadataFile="set.ome.tif" UUID="urn:uuid:1"/></OME>'
    )
    write_described(tmp_path / "a.tif", VOLUME, xml)
    with pytest.raises(
        VolumeError, match=r"a\.tif is one file of an OME-TIFF set that set\.ome\.tif describes"
    ):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    "text",
    [
        ome_xml("1", [], 9),
        ome_xml("1", [], 5),
        ome_xml("1", [], 7, width=64),
        "ImageJ=1.54f\nimages=5\nslices=5\n",
        "ImageJ=1.54f\nimages=9\nslices=9\n",
        '{"shape": [8, 40, 52], "axes": "ZYX"}',
        '{"shape": [300, 40, 52], "axes": "ZYX"}',
    ],
)
def test_metadata_that_promise_other_numbers(tmp_path, text, compression):
    write_described(tmp_path / "a.tif", VOLUME, text, compression=compression)
    with pytest.raises(VolumeError, match=r"a\.tif (has 7 pages|holds more than one image|is incomplete)"):
        open_volume(tmp_path / "a.tif")


def hyperstack(path: Path, promised: int, stored: int) -> None:
    """As ImageJ writes more than 4 GiB: one page, and behind its pixels those of the others."""
    big_endian = VOLUME.astype(">u2")
    text = f"ImageJ=1.54f\nimages={promised}\nslices={promised}\n"
    with tifffile.TiffWriter(path, byteorder=">") as writer:
        writer.write(big_endian[0], metadata=None, description=text, photometric="minisblack")
    with tifffile.TiffFile(path) as tif:
        begin = tif.pages[0].dataoffsets[0]
    path.write_bytes(path.read_bytes()[:begin] + big_endian[:stored].tobytes())


def test_sections_behind_the_only_page(tmp_path):
    hyperstack(tmp_path / "a.tif", Z, Z)
    assert_reads(tmp_path / "a.tif")
    hyperstack(tmp_path / "a.tif", Z, 5)
    with pytest.raises(VolumeError, match=r"a\.tif has 1 page .* its ImageJ text promises another image"):
        open_volume(tmp_path / "a.tif")


# --- tables of strips and tiles ---


def edit(path: Path, tags: tuple[int, ...], change: Callable[[bytearray, tifffile.TiffTag], None]) -> None:
    """Change some tags of the fourth page in place."""
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        for tag in tif.pages[3].aspage().tags:
            if tag.code in tags:
                change(data, tag)
    path.write_bytes(data)


def shorten(data: bytearray, tag: tifffile.TiffTag) -> None:
    struct.pack_into("<I", data, tag.offset + 4, tag.count - 1)


def empty_second(data: bytearray, tag: tifffile.TiffTag) -> None:
    width = {3: 2, 4: 4}[int(tag.dtype)]
    data[tag.valueoffset + width : tag.valueoffset + 2 * width] = bytes(width)


def mistype(data: bytearray, tag: tifffile.TiffTag) -> None:
    struct.pack_into("<H", data, tag.offset + 2, {4: 11, 3: 8}[int(tag.dtype)])  # floats, signed integers


def make_negative(data: bytearray, tag: tifffile.TiffTag) -> None:
    struct.pack_into("<H", data, tag.offset + 2, 9)
    at = tag.valueoffset if tag.dtype == 4 else tag.offset + 8
    struct.pack_into("<i", data, at, -4096)


def halve(data: bytearray, tag: tifffile.TiffTag) -> None:
    width = {3: 2, 4: 4}[int(tag.dtype)]
    count = int.from_bytes(data[tag.valueoffset : tag.valueoffset + width], "little") // 2
    data[tag.valueoffset : tag.valueoffset + width] = count.to_bytes(width, "little")


OFFSETS, COUNTS = (273, 324), (279, 325)


STRIPS, TILES = {"rowsperstrip": 8}, {"tile": (16, 16)}


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize(
    ("pieces", "tags", "change"),
    [
        *((STRIPS, tags, shorten) for tags in (OFFSETS + COUNTS, OFFSETS, COUNTS)),
        *((STRIPS, tags, empty_second) for tags in (OFFSETS + COUNTS, OFFSETS, COUNTS)),
        *((TILES, tags, shorten) for tags in (OFFSETS + COUNTS, OFFSETS, COUNTS)),
        *((TILES, tags, empty_second) for tags in (OFFSETS, COUNTS)),  # both of them: a tile that is left out
    ],
)
def test_a_table_that_lacks_pieces_is_a_fault(tmp_path, compression, pieces, tags, change):
    write_pages(tmp_path / "a.tif", lambda n: {"compression": compression, **pieces})
    edit(tmp_path / "a.tif", tags, change)
    with pytest.raises(VolumeError, match=r"a\.tif: pixels of page 4 are missing"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tags", [OFFSETS, (256,), (257,), (278, 322)])
@pytest.mark.parametrize("change", [mistype, make_negative])
def test_numbers_that_are_no_counts_are_a_fault(tmp_path, compression, tags, change):
    for pieces in (STRIPS, TILES) if tags != (278, 322) or compression else ():
        write_pages(tmp_path / "a.tif", lambda n, pieces=pieces: {"compression": compression, **pieces})
        edit(tmp_path / "a.tif", tags, change)
        with pytest.raises(VolumeError, match=r"a\.tif"):
            open_volume(tmp_path / "a.tif").read_all()


@pytest.mark.parametrize("codec", [*CODECS, "jpeg", "jpeg2000", "png"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_piece_that_is_cut_is_a_fault(tmp_path, codec, tile):
    pages = (VOLUME >> 8).astype(np.uint8) if codec == "jpeg" else VOLUME
    options = {"compression": codec, "tile": tile} | ({} if tile else {"rowsperstrip": 8})
    write_pages(tmp_path / "a.tif", lambda n: options, pages)
    edit(tmp_path / "a.tif", COUNTS, halve)
    with pytest.raises(
        VolumeError, match=r"a\.tif: (section 4 cannot be decoded|pixels of page 4 are missing)"
    ):
        open_volume(tmp_path / "a.tif").read_all()


def test_tiles_that_were_left_out_are_zeros(tmp_path):
    def tiles():
        for page in VOLUME:
            for y in range(0, Y, 16):
                for x in range(0, X, 16):
                    tile = np.zeros((16, 16), np.uint16)
                    part = page[y : y + 16, x : x + 16]
                    tile[: part.shape[0], : part.shape[1]] = part
                    yield None if (y, x) == (16, 16) else tile

    truth = VOLUME.copy()
    truth[:, 16:32, 16:32] = 0
    options = {"tile": (16, 16), "compression": "zlib", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(tmp_path / "a.tif", tiles(), shape=VOLUME.shape, dtype=VOLUME.dtype, **options)
    assert_reads(tmp_path / "a.tif", truth)


def test_a_chain_of_pages_that_runs_in_a_circle(tmp_path):
    write_pages(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        first, at = tif.pages[1].offset, tif.pages.next_page_offset
    data = bytearray((tmp_path / "a.tif").read_bytes())
    struct.pack_into("<I", data, at, first)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(
        VolumeError, match=r"a\.tif is damaged: its page 7 is followed by one that came before"
    ):
        open_volume(tmp_path / "a.tif")
