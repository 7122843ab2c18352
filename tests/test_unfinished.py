"""Files and folders that bear their name whole or not at all, whatever kills their writer."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from skoots import unfinished
from skoots.errors import SkootsError, VolumeError
from skoots.unfinished import Scratch, Unfinished, remove_tree, sweep, sweep_folder

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")


def forked(work: Callable[[], None], before: Callable[[], None] = lambda: None) -> int:
    """Do something in a process of its own; its exit status, negative for a signal."""
    child = os.fork()
    if not child:
        try:
            before()
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def fill(folder: Path, value: str) -> None:
    """A small store, such as a Zarr."""
    (folder / "0").mkdir(parents=True)
    for name in ("a", "b"):
        (folder / "0" / name).write_text(value)


def value_of(path: Path) -> str:
    """What a name holds as a whole."""
    parts = {(path / "0" / name).read_text() for name in ("a", "b")} if path.is_dir() else {path.read_text()}
    (value,) = parts
    return value


def put(path: Path, value: str) -> None:
    with Unfinished(path) as file:
        if path.suffix == ".zarr":
            fill(file.temporary, value)
        else:
            file.temporary.write_text(value)


# One writer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.tif", "a.zarr", "[a*]?.tif"])
def test_a_name_holds_the_old_one_until_the_new_one_is_whole(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for value in ("first", "second"):
        put(path, value)
        assert value_of(path) == value and os.listdir(tmp_path) == [name]
    with pytest.raises(KeyboardInterrupt), Unfinished(path) as file:
        file.temporary.write_text("half")
        raise KeyboardInterrupt
    assert value_of(path) == "second" and os.listdir(tmp_path) == [name]


def test_a_file_may_take_the_place_of_a_link_and_leaves_what_it_meant(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "kept")
    (tmp_path / "a.zarr").symlink_to(tmp_path / "elsewhere")
    put(tmp_path / "a.zarr", "new")
    assert value_of(tmp_path / "a.zarr") == "new" and value_of(tmp_path / "elsewhere") == "kept"
    assert not hidden(tmp_path)


def test_what_has_appeared_meanwhile_stays_and_so_does_the_work(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    sentence = r"a\.tif has appeared meanwhile; .* in .*a-\w{8}\.tif\."
    with pytest.raises(VolumeError, match=sentence), Unfinished(path, False, VolumeError) as file:
        file.temporary.write_text("ours")
        path.write_text("theirs")
    (kept,) = set(tmp_path.iterdir()) - {path}
    assert path.read_text() == "theirs" and kept.read_text() == "ours"


def test_a_second_name_never_writes_into_the_first(tmp_path: Path) -> None:
    """Renaming a name onto another of the same file does nothing, and leaves both."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("old")
    os.link(one, other)
    with Unfinished(tmp_path / "new") as file:
        file.temporary.write_text("new")
        file.link(one, other)
        file.link(file.temporary, tmp_path / "third")
    assert (one.read_text(), other.read_text(), (tmp_path / "third").read_text()) == ("old", "old", "new")
    assert not hidden(tmp_path)


def test_without_hard_links_the_second_name_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "one").write_text("x")
    with Scratch(tmp_path / "other") as scratch:
        scratch.link(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "other").read_text() == "x" and not hidden(tmp_path)


# Killed writers ---------------------------------------------------------------------------------------------


def killed_at(count: int) -> Callable[[], None]:
    """Ends the process before the count-th thing that it asks of the file system."""

    def begin() -> None:
        seen = [0]

        def hook(event: str, _: object) -> None:
            if event.partition(".")[0] in ("os", "shutil", "open", "fcntl", "ctypes"):
                seen[0] += 1
                if seen[0] == count:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)

    return begin


@POSIX
@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
@pytest.mark.parametrize("exchanges", [True, False])
def test_killed_at_every_call_the_old_or_the_new_one_is_there(
    name: str, exchanges: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two names cannot be exchanged in one step, the next writer restores what it may have to."""
    path = tmp_path / name
    if not exchanges:
        monkeypatch.setattr(unfinished, "_exchange", lambda one, other: False)
    elif name == "a.zarr" and not exchange_works(tmp_path):
        pytest.skip("this file system cannot exchange two names")
    values, killed = [], 0
    for count in range(1, 500):
        put(path, "old")
        status = forked(lambda: put(path, "new"), killed_at(count))
        if exchanges or name == "a.tif":
            assert path.exists(), count
        if status == 0:
            break
        assert status == -signal.SIGKILL
        killed += 1
        sweep(path)
        values.append(value_of(path))
        assert not hidden(tmp_path), count
    assert status == 0 and killed > 10
    assert set(values) == {"old", "new"} and values == sorted(values, reverse=True)


def exchange_works(folder: Path) -> bool:
    one, other = folder / "one", folder / "other"
    one.mkdir(), other.mkdir()
    try:
        return unfinished._exchange(one, other)
    finally:
        one.rmdir(), other.rmdir()


WRITER = """
import sys
from pathlib import Path
from skoots.unfinished import Unfinished
path = Path(sys.argv[1])
for value in range(10**9):
    with Unfinished(path) as file:
        file.temporary.mkdir()
        for name in ("a", "b"):
            (file.temporary / name).write_text(str(value))
    print(value, flush=True)
"""


@POSIX
def test_a_folder_is_never_missing_while_it_is_replaced_and_killed_at_random(tmp_path: Path) -> None:
    if not exchange_works(tmp_path):
        pytest.skip("this file system cannot exchange two names")
    path, clock = tmp_path / "a.zarr", random.Random(0)
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        end = time.monotonic() + clock.uniform(0.1, 0.3)
        while time.monotonic() < end:
            os.stat(path)  # raises at the first instant without
        writer.kill()
        writer.communicate()
        assert len({(path / name).read_text() for name in ("a", "b")}) == 1
    sweep(path)
    assert os.listdir(tmp_path) == ["a.zarr"]


@POSIX
def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    (ready, tell), (wait, go) = os.pipe(), os.pipe()

    def slowly() -> None:
        with Unfinished(path) as file:
            file.temporary.write_text("slow")
            os.write(tell, b".")
            os.read(wait, 1)

    child = os.fork()
    if not child:
        try:
            slowly()
            os._exit(0)
        finally:
            os._exit(1)
    os.read(ready, 1)
    put(path, "quick")
    sweep_folder(tmp_path)
    assert len(hidden(tmp_path)) == 1 and path.read_text() == "quick"
    os.write(go, b".")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.read_text() == "slow" and not hidden(tmp_path)
    for handle in (ready, tell, wait, go):
        os.close(handle)


def dead(path: Path) -> None:
    """Leave what a killed writer of a path leaves."""

    def begin() -> None:
        file = Unfinished(path)
        file.temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

    assert forked(begin) == -signal.SIGKILL


@POSIX
def test_only_leftovers_of_the_same_name_are_swept(tmp_path: Path) -> None:
    others = [".b.tif.bak", ".a.tif.1234.partial", ".a.tif.12345678.partial.keep"]
    for name in others:
        (tmp_path / name).mkdir()
    dead(tmp_path / "a.tif")
    dead(tmp_path / "xa.tif")
    sweep(tmp_path / "a.tif")
    assert len(hidden(tmp_path)) == len(others) + 1
    sweep_folder(tmp_path)
    assert hidden(tmp_path) == sorted(others)
    sweep(tmp_path / "no folder" / "a.tif")


@POSIX
def test_where_there_are_no_locks_nothing_is_swept_and_all_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead(tmp_path / "a.tif")

    def refuse(self: object, timeout: float | None = None) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.BaseFileLock.acquire", refuse)
    put(tmp_path / "a.tif", "new")
    assert (tmp_path / "a.tif").read_text() == "new" and len(hidden(tmp_path)) == 1


@POSIX
def test_with_hardly_a_file_to_open_nothing_is_left(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    fill(tmp_path / "source", "x")

    def work() -> None:
        limit = len(os.listdir("/proc/self/fd")) - 1
        for spare in range(4):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit + spare, limit + 64))
            try:
                with Unfinished(tmp_path / "a.zarr") as file:
                    shutil.copytree(tmp_path / "source", file.temporary)
                    raise KeyboardInterrupt
            except (OSError, KeyboardInterrupt):
                pass

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("open files cannot be counted here")
    assert forked(work) == 0
    assert os.listdir(tmp_path) == ["source"]


def test_a_tree_is_removed_as_far_as_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "elsewhere", "kept")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # it takes several open files
    fill(tmp_path / "tree", "x")
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "elsewhere")
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "not there")
    assert os.listdir(tmp_path) == ["elsewhere"] and value_of(tmp_path / "elsewhere") == "kept"


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Unfinished(tmp_path / "gone" / "a")
    assert not (tmp_path / "gone").exists()


def test_the_fault_is_a_plain_one_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(SkootsError), Unfinished(tmp_path / "a", overwrite=False) as file:
        file.temporary.write_text("")


def test_what_is_lost_before_its_block_begins_is_removed(tmp_path: Path) -> None:
    """A signal may come in between."""
    lost = Unfinished(tmp_path / "a.tif")
    lost.temporary.write_text("half")
    del lost
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_that_loses_it_leaves_it_to_the_other(tmp_path: Path) -> None:
    kept = Unfinished(tmp_path / "a.tif")
    kept.temporary.write_text("whole")
    child = os.fork()
    if not child:
        del kept
        os._exit(0)
    os.waitpid(child, 0)
    kept.commit()
    assert (tmp_path / "a.tif").read_text() == "whole" and len(list(tmp_path.iterdir())) == 1
