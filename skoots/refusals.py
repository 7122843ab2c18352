"""What the system refuses (space, permission, memory, open files) as one sentence for the user.

Such an error can come from any line that writes, allocates or opens. It is therefore understood in two places
alone: ``writing`` and ``reading`` name the file around code that works on one, and the command line asks
``explained`` about everything that reaches it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from skoots.errors import SkootsError

ROOM = "Make room or choose another folder."
RIGHTS = "Change its permissions or choose another folder."
DESCRIPTORS = "Raise the limit (ulimit -n)."
MEMORY = "Close other programs, or make smaller what is computed at once."

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), ROOM),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), RIGHTS),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), DESCRIPTORS),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "Check the disk, or the connection to it."),
    errno.ENOMEM: MEMORY,
}
_PLAINER = {
    errno.EFBIG: "File too large: there is no space left within the limit for file sizes (ulimit -f)",
    errno.ENOMEM: "Memory ran out",
}
# Libraries in C and C++ hand on no number, or hide it in their text.
_TEXTS = {
    r"No space left on device|PytorchStreamWriter failed writing|unexpected pos \d+ vs"
    r"|\d+ requested and \d+ written": errno.ENOSPC,
    r"Disk quota exceeded": errno.EDQUOT,
    r"File too large": errno.EFBIG,
    r"Read-only file system": errno.EROFS,
    r"Permission denied": errno.EACCES,
    r"Too many open files|received 0 items of ancdata": errno.EMFILE,
    r"Input/output error": errno.EIO,
    r"[Oo]ut of memory|not enough memory|an't allocate memory|annot allocate memory|bad_alloc"
    r"|can't start new thread|failed to map segment"
    r"|could not (create|execute) a primitive|could not create a memory": errno.ENOMEM,  # oneDNN's words
}
_SPEAKING = (OSError, RuntimeError, ValueError, ImportError)


@dataclass(frozen=True)
class Refusal:
    """One thing that the system refused.

    Args:
        number: of the error, as in ``errno``.
        reason: what the system says of it.
        remedy: a sentence.
        path: of the file, if the error names it.
    """

    number: int
    reason: str
    remedy: str
    path: str | None = None

    @property
    def is_room(self) -> bool:
        return self.remedy == ROOM

    @property
    def is_memory(self) -> bool:
        return self.number == errno.ENOMEM


def refusal_in(error: BaseException | None) -> Refusal | None:
    """What the system refused, if that is what an error is about, or what caused it."""
    chain: list[BaseException] = []
    while error is not None:
        chain.append(error)
        if not isinstance(error, _SPEAKING):
            break  # a bug, also where it came while something else was handled
        error = error.__cause__ or error.__context__
    for number_of in (_number_of, _number_in_text):
        for found in chain:
            number = number_of(found)
            if number in _REMEDIES:
                path = getattr(found, "filename", None)
                reason = _PLAINER.get(number) or os.strerror(number)
                return Refusal(number, reason, _REMEDIES[number], None if path is None else str(path))
    return None


def _number_of(error: BaseException) -> int | None:
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    return error.errno if isinstance(error, OSError) else None


def _number_in_text(error: BaseException) -> int | None:
    if not isinstance(error, _SPEAKING):
        return None
    return next((number for text, number in _TEXTS.items() if re.search(text, str(error))), None)


def explained(error: BaseException, memory: str = MEMORY) -> SkootsError | None:
    """An error as a sentence for the user; None if it is a bug.

    Args:
        error: whatever was raised.
        memory: what helps where memory ran out.
    """
    if isinstance(error, SkootsError):
        return error
    refusal = refusal_in(error)
    if refusal is None:
        return None
    where = f"{refusal.path}: " if refusal.path is not None and not refusal.is_memory else ""
    return SkootsError(f"{where}{refusal.reason}. {memory if refusal.is_memory else refusal.remedy}")


@contextmanager
def writing(path: Path | str, kind: type[SkootsError] = SkootsError) -> Iterator[None]:
    """Around code that writes one file: what keeps it from that is said with the file's name.

    Args:
        path: the file, by the name that the user knows.
        kind: of the error.

    Raises:
        SkootsError: of that kind. That memory ran out is no matter of this file, and passes.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        refusal = refusal_in(error)
        if refusal is not None and refusal.is_memory:
            raise
        if refusal is not None:
            raise kind(f"{path} cannot be written: {refusal.reason}. {refusal.remedy}") from error
        if isinstance(error, UnicodeError):
            problem = "it holds letters that are no Unicode, such as those of a misspelt file name"
            raise kind(f"{path} cannot be written: {problem}. Rename that file.") from error
        if isinstance(error, OSError):
            reason = (error.strerror or str(error)).rstrip(".")
            raise kind(f"{path} cannot be written: {reason}. Choose another path.") from error
        raise


@contextmanager
def reading(path: Path | str, kind: type[SkootsError] = SkootsError) -> Iterator[None]:
    """Around code that reads one file: what the system refuses is not taken for damage of the file.

    Args:
        path: the file, by the name that the user knows.
        kind: of the error.

    Raises:
        SkootsError: of that kind. That memory ran out is no matter of this file, and passes.
    """
    try:
        yield
    except (*_SPEAKING, SkootsError) as error:
        refusal = refusal_in(error.__cause__ if isinstance(error, SkootsError) else error)
        if refusal is None or refusal.is_room:
            raise
        if refusal.is_memory:
            raise MemoryError(refusal.reason) from error
        remedy = "Check its permissions." if refusal.remedy == RIGHTS else refusal.remedy
        raise kind(f"{path} cannot be read: {refusal.reason}. {remedy}") from error
