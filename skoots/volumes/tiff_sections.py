"""Which pages of a TIFF file are the sections of its image, and whether all are there.

tifffile knows the dialects. Where a page is missing or differs from the others it reads on, and sections are
black or shifted; here each of these is a fault that names the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

from skoots.errors import VolumeError
from skoots.volumes.damage import damage_names
from skoots.volumes.tiff_metadata import ome_set

Page = TiffPage | TiffFrame

# dialects whose pages are one stack unless they say otherwise; slides and the like have labels of any size
_PLAIN = ("generic", "uniform")
_STRICT = (*_PLAIN, "shaped", "imagej", "ome")
# reduced images and masks, in NewSubfileType
_NO_SECTION = 0b101


@dataclass(frozen=True)
class Sections:
    """The pages of an image in their order.

    Args:
        pages: one for each section, or one alone after whose pixels the other sections follow.
        shape: shape of all together.
        axes: one letter an axis, as tifffile names them.
        dtype: type of the voxels.
    """

    pages: Sequence[Page]
    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype


def sections_of(path: str, tif: TiffFile) -> Sections:
    """The sections of the first image of a file.

    Args:
        path: for messages.
        tif: the file, open.

    Raises:
        VolumeError: the metadata promise what the file lacks, a page does not fit the others, or there are
            several images.
    """
    tif.pages.cache = True  # each page in full: frames take from the first page how all are stored
    with damage_names(path, "cannot be read as a TIFF image"):
        chain = [page for page in tif.pages if isinstance(page, TiffPage)]
    _check_files(path, tif)
    with damage_names(path, "cannot be read as a TIFF image"):
        series = list(tif.series)
    if not series:
        raise VolumeError(f"{path} is a TIFF file without an image; write it again.")
    first = series[0]
    if first.kind == "generic" and (tif.is_ome or tif.is_imagej):
        what = "OME-XML" if tif.is_ome else "ImageJ text"
        raise VolumeError(
            f"{path} has {_count(len(chain), 'page')} of {_size(chain[0])}, and its {what} promises another "
            "image or is damaged. Copy it again, or save it anew from the program that wrote it."
        )
    shown = [page for page in chain if not page.subfiletype & _NO_SECTION] or chain
    if first.kind in _PLAIN or (first.kind == "shaped" and _all_single(series, first)):
        found = _stack(path, shown)
    else:
        found = Sections(_pages(path, first), tuple(first.shape), first.axes, _dtype(path, first.keyframe))
    if not all(isinstance(n, int) and n >= 0 for n in found.shape):
        raise VolumeError(f"{path} is damaged: its shape is {found.shape}. Copy or write it again.")
    if 0 in found.shape:
        raise VolumeError(f"{path} holds no voxels.")
    _check_alike(path, found.pages)
    if first.kind in _STRICT:
        _check_others(path, found, shown, series)
    elif any(math.prod(other.shape) >= math.prod(first.shape) for other in series[1:]):
        raise VolumeError(
            f"{path} holds {len(series)} separate images; save the one to use as a file of its own."
        )
    return found


def _check_files(path: str, tif: TiffFile) -> None:
    """An OME-TIFF may be a set of files, and each of them names all."""
    if not tif.is_ome:
        return
    description, files = ome_set(tif.ome_metadata or "", Path(path).name)
    if description is not None:
        raise VolumeError(
            f"{path} is one file of an OME-TIFF set that {description} describes. Open that file, or save "
            "the image as one file."
        )
    missing = [name for name in files if not (Path(path).parent / name).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise VolumeError(
            f"{path} is one file of an OME-TIFF set, and {missing[0]}{more} is not beside it. Copy all files "
            "of the set into one folder."
        )


def _all_single(series: Sequence[TiffPageSeries], first: TiffPageSeries) -> bool:
    """Whether sections were written one by one, each as an image of its own."""
    alike = [other for other in series if other.shape == first.shape]
    return len(alike) > 1 and all(math.prod(each.shape) == math.prod(each.keyframe.shape) for each in alike)


def _stack(path: str, pages: Sequence[TiffPage]) -> Sections:
    first = pages[0]
    alike = [page for page in pages if _kind(page) == _kind(first)]
    lead = (len(alike),) if len(alike) > 1 else ()
    return Sections(alike, (*lead, *first.shape), "I" * len(lead) + first.axes, _dtype(path, first))


def _pages(path: str, series: TiffPageSeries) -> list[Page]:
    """The pages of a series, each read in full."""
    with damage_names(path, "cannot be read as a TIFF image"):
        pages = list(_there(series))
    there = [page for page in pages if page is not None]
    if len(there) < len(pages):
        raise VolumeError(
            f"{path} is incomplete: its metadata promise {len(pages)} pages, and page "
            f"{pages.index(None) + 1} is not there. Copy or write it again."
        )
    wanted = math.prod(series.shape) / max(1, math.prod(series.keyframe.shape))
    unbroken = len(pages) == 1 and series.keyframe.is_final
    if wanted != len(pages) and not unbroken:
        raise VolumeError(
            f"{path} has {_count(len(pages), 'page')} of {_size(series.keyframe)}, and its metadata promise "
            f"shape {tuple(series.shape)}. Copy it again, or save it anew from the program that wrote it."
        )
    if unbroken:
        _check_unbroken(path, series)
    opened = set()
    try:
        with damage_names(path, "cannot be read as a TIFF image"):
            for page in there:
                if page.parent.filehandle.closed:
                    page.parent.filehandle.open()
                    opened.add(page.parent.filehandle)
            return [page if page.offset <= 0 else page.aspage() for page in there]
    finally:
        for handle in opened:
            handle.close()


def _there(series: TiffPageSeries) -> Iterator[Page | None]:
    for number in range(len(series)):
        try:
            yield series[number]
        except IndexError:  # as many were promised
            return


def _check_unbroken(path: str, series: TiffPageSeries) -> None:
    """Sections that have no pages of their own follow the first one's pixels, up to the next page at most."""
    begin = series.keyframe.dataoffsets[0]
    end = begin + math.prod(series.shape) * np.dtype(series.dtype).itemsize
    parent = series.keyframe.parent
    if any(begin <= page.offset < end for page in parent.pages):
        raise VolumeError(
            f"{path} holds fewer sections than its metadata promise: for shape {tuple(series.shape)} its "
            "pixels would run into the description of a page. Copy or write it again."
        )


def _check_alike(path: str, pages: Sequence[Page]) -> None:
    first = pages[0]
    for number, page in enumerate(pages, 1):
        if _kind(page) != _kind(first):
            raise VolumeError(
                f"{path}: page {number} of its image is {_size(page)} and page 1 is {_size(first)}; sections "
                "of a stack are alike. Write it again."
            )


def _check_others(
    path: str, found: Sections, shown: Sequence[TiffPage], series: Sequence[TiffPageSeries]
) -> None:
    """Every page that is no section has to be a thumbnail, a level of a pyramid or a smaller image."""
    first = found.pages[0]
    used = {page.offset for page in found.pages if page.parent is shown[0].parent}
    levels = {page.offset for level in series[0].levels[1:] for page in level if page is not None}
    separate = {
        page.offset
        for other in series[1:]
        if other.kind == "ome" and math.prod(other.shape) < math.prod(found.shape)
        for page in other
        if page is not None
    }
    for page in shown:
        if page.offset in used or page.offset in levels:
            continue
        if _kind(page) == _kind(first):
            raise VolumeError(
                f"{path} holds more than one image: page {page.index + 1} is as large as page 1, and its "
                f"metadata count {_count(len(found.pages), 'page')} of {len(shown)}. Save the one to use as "
                "a file of its own."
            )
        thumbnail = all(2 * small <= large for small, large in zip(_edges(page), _edges(first)))
        if not thumbnail and page.offset not in separate:
            raise VolumeError(
                f"{path} holds separate images: page {page.index + 1} is {_size(page)} and page 1 is "
                f"{_size(first)}. Save the one to use as a file of its own."
            )


def _dtype(path: str, page: TiffPage) -> np.dtype:
    if page.dtype is None:
        raise VolumeError(
            f"{path} holds {page.bitspersample}-bit voxels of sample format {page.sampleformat}, which "
            "cannot be read; save it as integers or floats of 8 to 64 bit."
        )
    return np.dtype(page.dtype)


def _kind(page: Page) -> tuple[object, ...]:
    return (*page.shaped, page.dtype)


def _edges(page: Page) -> tuple[int, int]:
    return page.shaped[2], page.shaped[3]


def _size(page: Page) -> str:
    return f"{' x '.join(str(n) for n in page.shape)} {page.dtype}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
