"""The zip archive that torch writes: what its directory may say, checked before anything is unpacked."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

HEADER = 30
"""Bytes of a record's own header, less its name."""

UNREADABLE = (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, OverflowError, KeyError)
"""What Python's reader raises for an archive that is not whole."""


def fault_of_records(path: Path) -> str | None:
    """What is wrong with the records of an archive, in words; None if all is well.

    Torch stores records as they are. A record that is compressed, longer than the file, or shares bytes with
    another one can unpack to any size, and is refused by what the directory says of it.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _fault(archive.infolist(), path.stat().st_size)
    except UNREADABLE:
        return "it is truncated or was overwritten"


def damaged_record(path: Path) -> str | None:
    """As ``fault_of_records``, and every record is read and compared with its own checksum."""
    fault = fault_of_records(path)
    if fault is not None:
        return fault
    try:
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
    except UNREADABLE:
        return "it is truncated or was overwritten"
    return None if record is None else f"its record {record!r} does not match its checksum"


def _fault(records: Sequence[zipfile.ZipInfo], size: int) -> str | None:
    twice = [name for name, count in Counter(record.filename for record in records).items() if count > 1]
    if twice:
        return f"it has two records {twice[0]!r}"
    end = 0
    for record in sorted(records, key=lambda record: record.header_offset):
        if record.compress_type != zipfile.ZIP_STORED or record.compress_size != record.file_size:
            return f"its record {record.filename!r} is compressed, which torch never does"
        if record.header_offset < end:
            return f"its record {record.filename!r} overlaps another one"
        end = record.header_offset + HEADER + len(record.orig_filename) + record.file_size
        if end > size:
            return f"its record {record.filename!r} is longer than the file"
    return None
