"""Results, messages, the log and bars, on terminals, pipes and disks that fail."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from skoots import terminal
from skoots.errors import SkootsError

log = logging.getLogger("skoots")
NAME = "runs/\u7d30\u80de-\u03b2"


def file_of(encoding: str, errors: str = "strict") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)


def written(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(stream.encoding)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def broken_pipe() -> Iterator[IO[str]]:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stream:
        yield stream


@pytest.fixture
def full_disk() -> Iterator[IO[str]]:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as stream:
        yield stream


# What is printed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "errors", "text"),
    [
        ("utf-8", "strict", NAME),
        ("cp1252", "strict", r"runs/\u7d30\u80de-\u03b2"),
        ("latin-1", "strict", r"runs/\u7d30\u80de-\u03b2"),
        ("ascii", "surrogateescape", r"runs/\u7d30\u80de-\u03b2"),
        ("ascii", "replace", "runs/??-?"),  # as the user has asked for
        ("shift_jis", "strict", NAME),
    ],
)
def test_letters_that_the_encoding_lacks_are_escaped(
    encoding: str, errors: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = file_of(encoding, errors), file_of(encoding, errors)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    terminal.print_result(NAME)
    terminal.print_summary(NAME)
    with terminal.log_to_terminal():
        log.warning(NAME)
    terminal.print_message(NAME)
    assert written(out) == f"{text}\n{text}\n"
    assert written(err) == f"warning: {text}\n{text}\n"


def test_a_file_name_that_is_no_unicode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    out = file_of("utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    terminal.print_result(os.fsdecode(b"caf\xe9.tif"))
    assert written(out) == "caf\\udce9.tif\n"


def test_a_result_that_nobody_reads_ends_the_command(
    broken_pipe: IO[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", broken_pipe)
    with terminal.guarded(), pytest.raises(terminal.NobodyReads):
        terminal.print_result("scores")
    os.write(broken_pipe.fileno(), b"what a library writes later goes nowhere")


def test_a_summary_that_nobody_reads_is_dropped(
    broken_pipe: IO[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stdout", broken_pipe)
    with terminal.guarded():
        print("a library speaks", flush=True)
        terminal.print_summary("trained 5 epochs")
        terminal.check_result()
    assert not caplog.records


def test_a_result_on_a_full_disk_is_a_fault_and_a_summary_a_warning(
    full_disk: IO[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stdout", full_disk)
    with terminal.guarded():
        with pytest.raises(
            SkootsError, match=r"The result could not be printed: No space left on device\. Make room"
        ):
            terminal.print_result("scores")
        terminal.print_summary("trained 5 epochs")
        terminal.check_result()
    assert caplog.messages == ["The summary could not be printed: No space left on device."]
    full_disk.flush()  # nothing is left for the end of the interpreter to stumble over


def test_what_a_library_prints_is_looked_after(full_disk: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", full_disk)
    with terminal.guarded():
        print("the help of a command")
        with pytest.raises(SkootsError, match="could not be printed"):
            terminal.check_result()


def test_room_that_comes_back_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk(io.StringIO):
        is_full = True

        def flush(self) -> None:
            if self.is_full:
                raise OSError(28, "No space left on device")

    disk = Disk()
    monkeypatch.setattr(sys, "stderr", disk)
    with terminal.guarded():
        terminal.print_message("epoch 1")
        disk.is_full = False
        terminal.print_message("epoch 2")
    assert "epoch 2\n" in disk.getvalue()


@pytest.mark.parametrize("gone", [None, "closed"])
def test_streams_that_are_not_there_take_everything(
    gone: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = None if gone is None else io.StringIO()
    if stream is not None:
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    with terminal.guarded(), terminal.log_to_terminal():
        terminal.print_summary("done")
        log.info("epoch 1")
        assert not terminal.wants_bars()
        print("a library")
    assert sys.stdout is stream


def test_bytes_have_no_way_past(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", file_of("ascii"))
    with terminal.guarded():
        assert not hasattr(sys.stdout, "buffer") and sys.stdout.encoding == "ascii"
        assert sys.stdout.errors == "strict"


# The log ----------------------------------------------------------------------------------------------------


def test_log_goes_to_stderr_while_a_command_runs(capsys: pytest.CaptureFixture[str]) -> None:
    before = (log.level, list(log.handlers))
    with terminal.log_to_terminal():
        log.info("epoch %d", 3)
        log.warning("odd")
        log.debug("hidden")
        terminal.show_warnings_only()
        log.info("hidden too")
        log.error("bad")
    log.info("after")
    captured = capsys.readouterr()
    assert captured.err == "epoch 3\nwarning: odd\nerror: bad\n"
    assert captured.out == ""
    assert (log.level, list(log.handlers)) == before


def test_the_log_file_goes_on_without_a_reader_and_says_so_once(
    broken_pipe: IO[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "stderr", broken_pipe)
    with terminal.guarded(), terminal.log_to_terminal():
        for epoch in range(1, 4):
            log.info("epoch %d", epoch)
    assert sorted(caplog.messages) == [
        "Nobody reads what is shown any more; the work goes on, and so does this log.",
        "epoch 1",
        "epoch 2",
        "epoch 3",
    ]


def test_quiet_hides_nothing_from_other_handlers() -> None:
    lines = io.StringIO()
    other = logging.StreamHandler(lines)
    log.addHandler(other)
    try:
        with terminal.log_to_terminal():
            terminal.show_warnings_only()
            log.info("for the file")
    finally:
        log.removeHandler(other)
    assert lines.getvalue() == "for the file\n"


# Progress bars ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guarded", [True, False])
def test_log_does_not_break_a_progress_bar(guarded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal.Stream(screen) if guarded else screen)
    with terminal.log_to_terminal(), terminal.progress_bar(total=2, mininterval=0) as bar:
        bar.update()
        log.info("epoch 1")
        bar.update()
    lines = screen.getvalue().split("\n")
    shown = next(line for line in lines if "epoch 1" in line)
    assert shown.split("\r")[-1] == "epoch 1"  # the bar was wiped from the line before


def test_a_bar_goes_on_without_a_reader(broken_pipe: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", broken_pipe)
    assert list(terminal.progress_bar(range(5), mininterval=0)) == [0, 1, 2, 3, 4]


def test_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not terminal.wants_bars(quiet=False)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert terminal.wants_bars(quiet=False)
    assert not terminal.wants_bars(quiet=True)
