"""What the system refuses, in words; and nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from skoots.errors import SkootsError, VolumeError
from skoots.refusals import explained, reading, refusal_in, writing

ROOM = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG]
OTHERS = [errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE]


def of_system(number: int, path: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), path) if path else OSError(number, os.strerror(number))


@pytest.mark.parametrize("number", [*ROOM, *OTHERS])
def test_only_a_lack_of_space_asks_for_room(number: int) -> None:
    with pytest.raises(VolumeError) as caught, writing("o/s.tif", VolumeError):
        raise of_system(number, "o/.s.tif.1a2b3c4d.partial/content")
    told = str(caught.value)
    assert told.startswith(f"o/s.tif cannot be written: {os.strerror(number)}") and "partial" not in told
    assert ("Make room" in told) == (number in ROOM)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (MemoryError(), errno.ENOMEM),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
            errno.ENOMEM,
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), errno.ENOMEM),
        (RuntimeError("can't start new thread"), errno.ENOMEM),
        (RuntimeError("could not create a primitive"), errno.ENOMEM),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), errno.ENOMEM),
        (RuntimeError("[enforce fail] . PytorchStreamWriter failed writing file data/0"), errno.ENOSPC),
        (OSError("400 requested and 12 written"), errno.ENOSPC),  # numpy
        (
            ValueError('RESOURCE_EXHAUSTED: Error writing "x": No space left on device [OS error]'),
            errno.ENOSPC,
        ),
        (RuntimeError("received 0 items of ancdata"), errno.EMFILE),
        (
            RuntimeError("unable to open shared memory object </torch_1>: Too many open files (24)"),
            errno.EMFILE,
        ),
    ],
)
def test_libraries_say_it_in_their_own_words(error: Exception, number: int) -> None:
    refusal = refusal_in(error)
    assert refusal is not None and refusal.number == number


def test_what_the_system_says_counts_more_than_words_about_it() -> None:
    try:
        try:
            raise of_system(errno.EFBIG)
        except OSError:
            raise RuntimeError("unexpected pos 1536 vs 1448")  # noqa: B904 - as torch does
    except RuntimeError as error:
        refusal = refusal_in(error)
    assert refusal is not None and refusal.number == errno.EFBIG


@pytest.mark.parametrize(
    "bug", [KeyError("x"), ValueError("odd"), RuntimeError("shapes differ"), of_system(errno.ENOENT, "gone")]
)
def test_bugs_stay_bugs(bug: Exception) -> None:
    assert explained(bug) is None
    bug.__cause__ = KeyError("y")
    assert refusal_in(bug) is None


def test_a_bug_that_came_while_the_disk_was_full_stays_one() -> None:
    bug = AttributeError("x")
    bug.__context__ = of_system(errno.ENOSPC)
    assert explained(bug) is None


def test_sentences() -> None:
    fault = SkootsError("as it is.")
    assert explained(fault) is fault
    assert str(explained(MemoryError(), "Take a smaller crop.")) == "Memory ran out. Take a smaller crop."
    assert str(explained(of_system(errno.EROFS, "runs"))) == (
        "runs: Read-only file system. Change its permissions or choose another folder."
    )
    assert str(explained(of_system(errno.EMFILE))) == "Too many open files. Raise the limit (ulimit -n)."


def test_memory_is_no_matter_of_a_file() -> None:
    for around in (writing, reading):
        with pytest.raises(MemoryError), around("a.tif", VolumeError):
            raise MemoryError
    with pytest.raises(MemoryError), reading("a.tif", VolumeError):
        raise of_system(errno.ENOMEM, "a.tif")


def test_writing_names_whatever_keeps_a_file_from_being_written(tmp_path: Path) -> None:
    path, told = (
        tmp_path / "a" / "b",
        r"/a/b cannot be written: No such file or directory\. Choose another path",
    )
    with pytest.raises(SkootsError, match=told), writing(path):
        path.write_text("")
    told = "b cannot be written: it holds letters that are no Unicode"
    with pytest.raises(SkootsError, match=told), writing(tmp_path / "b"):
        (tmp_path / "b").write_text(os.fsdecode(b"caf\xe9"), encoding="utf-8")
    with pytest.raises(ValueError, match="odd"), writing(tmp_path / "b"):
        raise ValueError("odd")
    fault = SkootsError("as it is.")
    with pytest.raises(SkootsError) as caught, writing(tmp_path / "b"):
        raise fault
    assert caught.value is fault


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.EMFILE, "Raise the limit"), (errno.EACCES, "Check its permissions")]
)
def test_a_file_is_not_called_damaged_where_it_could_not_be_opened(number: int, remedy: str) -> None:
    told = rf"a\.tif cannot be read: {os.strerror(number)}\. {remedy}"
    with pytest.raises(VolumeError, match=told), reading("a.tif", VolumeError):
        raise VolumeError("a.tif is damaged; write it again.") from of_system(number)


def test_a_damaged_file_is_called_so() -> None:
    with pytest.raises(VolumeError, match="is damaged"), reading("a.tif", VolumeError):
        raise VolumeError("a.tif is damaged.") from ValueError("bad tag")
