"""What the libraries below raise over damaged files, as faults that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from skoots.errors import SkootsError, VolumeError


@contextmanager
def damage_names(file: str, problem: str, remedy: str = "Write or copy it again.") -> Iterator[None]:
    """Turn whatever a library raises over a damaged file into a ``VolumeError``.

    Wrap it around calls of the library alone: what our own code raises is a bug and keeps its traceback.

    Args:
        file: what the message begins with.
        problem: what is wrong, without a full stop, e.g. ``is truncated or no HDF5 file``.
        remedy: a sentence.

    Raises:
        VolumeError: the library failed.
        MemoryError: there was not enough, which need not be the file's fault.
    """
    try:
        yield
    except (SkootsError, MemoryError):
        raise
    except Exception as error:  # parsers of damaged bytes fail with anything, AssertionError to TokenError
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise VolumeError(f"{file} {problem} ({reason}). {remedy}") from error
