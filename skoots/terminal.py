"""The one place that writes to the terminal: results on stdout; log, messages and progress bars on stderr.

What happens to the terminal ends no work. Letters that its encoding lacks are escaped; when nobody reads any
more (``| head``, a ``tee`` that died, a closed window) or the disk behind it is full, the rest is dropped.
Only a command whose result is what it prints says so, by its exit status.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, TypeAlias

from skoots.errors import SkootsError

if TYPE_CHECKING:
    from tqdm import tqdm

ProgressBar: TypeAlias = "tqdm"

log = logging.getLogger("skoots")
_NOBODY_READS = {errno.EPIPE, errno.ECONNRESET, errno.EIO, errno.EBADF, errno.ENXIO} | (
    {errno.EINVAL} if os.name == "nt" else set()  # what Windows says of a pipe whose reader is gone
)


class NobodyReads(Exception):  # noqa: N818 - no error
    """The reader of stdout has had enough: a command whose result is what it prints ends quietly."""


class Stream:
    """A text stream whose writes always succeed; what went wrong is kept in ``failure``.

    Args:
        inner: the stream; None, as Python has it where it was closed from the start, drops everything.
    """

    def __init__(self, inner: IO[str] | None) -> None:
        self._inner = inner
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # bytes written past this class would not be looked after
            raise AttributeError(name)
        return getattr(self.__dict__["_inner"], name)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Stream) and self._inner is other._inner)

    def __hash__(self) -> int:
        return hash(id(self._inner))

    @property
    def encoding(self) -> str:
        return getattr(self._inner, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        try:
            return self._inner is not None and self._inner.isatty()
        except ValueError:  # it was closed
            return False

    def write(self, text: str) -> int:
        """Write, and hand it on at once: what is lost is noticed here and not when the interpreter ends."""
        if self._inner is not None:
            try:
                self._inner.write(self._spelled(text))
                self._inner.flush()
            except (OSError, ValueError) as error:  # ValueError: the stream was closed
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        if self._inner is not None:
            try:
                self._inner.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def settle(self) -> None:
        """Let go of what could not be written, over which the interpreter would stumble at its end."""
        self.flush()
        if self.failure is not None:
            self._drop()

    @property
    def is_read(self) -> bool:
        """Whether somebody may still read what is written."""
        return self.failure is None or self.failure.errno not in _NOBODY_READS

    def _give_up(self, error: OSError | ValueError) -> None:
        self.failure = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
        if not self.is_read:  # a full disk may have room again later
            self._drop()

    def _drop(self) -> None:
        """Send all that follows nowhere, be it written by a library or a child process."""
        with suppress(OSError, ValueError, AttributeError):
            assert self._inner is not None
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, self._inner.fileno())
            finally:
                os.close(nowhere)
            self._inner.flush()

    def _spelled(self, text: str) -> str:
        """The text with escapes for letters that the encoding lacks, such as ``\\u7d30``."""
        try:
            text.encode(self.encoding, getattr(self._inner, "errors", None) or "strict")
        except UnicodeEncodeError:
            return text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        return text


def _stream(inner: IO[str] | None) -> Stream:
    return inner if isinstance(inner, Stream) else Stream(inner)


def guard() -> None:
    """Let all that this process prints, libraries included, go through ``Stream`` from now on."""
    sys.stdout, sys.stderr = _stream(sys.stdout), _stream(sys.stderr)


@contextmanager
def guarded() -> Iterator[None]:
    """As ``guard``, for as long as a command runs."""
    before = sys.stdout, sys.stderr
    guard()
    try:
        yield
    finally:
        settle()
        sys.stdout, sys.stderr = before


def settle() -> None:
    """Write out what is still to be written, and let go of what cannot be."""
    for stream in (sys.stdout, sys.stderr):
        _stream(stream).settle()


# Results and messages ---------------------------------------------------------------------------------------


def print_result(text: str, end: str = "\n") -> None:
    """Print what a command is for.

    Raises:
        NobodyReads: the reader of a pipe is gone.
        SkootsError: it could not be printed.
    """
    stream = _stream(sys.stdout)
    if stream.is_read:
        stream.failure = None
    stream.write(text + end)
    check_result()


def check_result() -> None:
    """See to it that all that was printed has arrived.

    Raises:
        NobodyReads: the reader of a pipe is gone.
        SkootsError: it could not be printed.
    """
    stream = _stream(sys.stdout)
    if not stream.is_read:
        raise NobodyReads
    if stream.failure is not None:
        raise SkootsError(
            f"The result could not be printed: {stream.failure.strerror}. Make room, or send it elsewhere."
        )


def print_summary(text: str) -> None:
    """Print what became of work whose result lies in files; a terminal that is gone does not spoil that."""
    stream = _stream(sys.stdout)
    stream.write(text + "\n")
    if stream.failure is not None and stream.is_read:
        log.warning("The summary could not be printed: %s.", stream.failure.strerror)
    stream.failure = None


def print_message(text: str) -> None:
    """Say something on stderr, in whole lines."""
    _stream(sys.stderr).write(text + "\n")


def print_trace() -> None:
    """Show the traceback of the exception that is being handled."""
    print_message(traceback.format_exc().rstrip("\n"))


# The log ----------------------------------------------------------------------------------------------------


class TerminalHandler(logging.Handler):
    """Writes to what stderr is at the moment, above progress bars instead of through them."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._was_read = True

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        return message if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {message}"

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        stream = _stream(sys.stderr)
        tqdm.write(self.format(record), file=stream)
        if self._was_read and not stream.is_read:
            self._was_read = False  # for a log file:
            log.warning("Nobody reads what is shown any more; the work goes on, and so does this log.")


def speaks() -> bool:
    """Whether this process is the one that talks to the user: the first one of several."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def log_to_terminal(level: int = logging.NOTSET) -> Iterator[None]:
    """Show what the package logs for as long as a command runs.

    Args:
        level: the least that is shown.
    """
    handler = TerminalHandler(level if speaks() else logging.CRITICAL)
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def show_warnings_only() -> None:
    """Hide the rest from the terminal; a log file of the run still receives it."""
    for handler in log.handlers:
        if isinstance(handler, TerminalHandler):
            handler.setLevel(logging.WARNING)


# Progress bars ----------------------------------------------------------------------------------------------


def wants_bars(quiet: bool = False) -> bool:
    """Whether to draw progress bars: a bar in a file or a pipe is a flood of half lines."""
    return not quiet and speaks() and _stream(sys.stderr).isatty()


def progress_bar(steps: Iterable[Any] | None = None, **options: Any) -> ProgressBar:
    """A progress bar, over a loop or to be moved by hand; ``options`` are tqdm's."""
    from tqdm import tqdm

    return tqdm(steps, file=_stream(sys.stderr), dynamic_ncols=True, **options)
