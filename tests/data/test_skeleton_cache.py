"""Skeleton files: made once, noticed when labels change, read from the original, never run."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import random
from collections import Counter

import numpy as np
import pytest
import torch

from skoots.data import skeleton_cache
from skoots.data.label_index import index_labels
from skoots.data.skeleton_file import read_content
from skoots.errors import VolumeError
from skoots.skeletons import skeletonize
from skoots.snapshots import files
from skoots.snapshots.files import replacing
from skoots.synthetic import make_volume
from skoots.volumes.array import ArrayVolume

ISOTROPIC = (1.0, 1.0, 1.0)


def load_or_trace(path, labels, *args, **keywords):
    volume = ArrayVolume("labels", labels)
    return skeleton_cache.load_or_trace(path, volume, index_labels(volume), *args, **keywords)


@pytest.fixture(autouse=True)
def user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def labels():
    return make_volume((12, 20, 20), 0, radius=(2, 3))[1]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "a.skeletons.trch"


def same(a, b):
    return all(
        np.array_equal(getattr(a, k), getattr(b, k)) and getattr(a, k).dtype == getattr(b, k).dtype
        for k in ("ids", "starts", "points", "inscribed")
    )


def test_computed_once(path, labels, monkeypatch):
    first, traced = load_or_trace(path, labels, ISOTROPIC)
    assert traced and same(first, skeletonize(labels))
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file stays behind
    monkeypatch.setattr(skeleton_cache, "trace_volume", lambda *a: pytest.fail("traced a second time"))
    again, traced = load_or_trace(path, labels, ISOTROPIC)
    assert not traced and same(first, again)


@pytest.mark.parametrize("change", ["one voxel", "voxel size", "algorithm", "order"])
def test_whatever_skeletons_depend_on_is_noticed(path, labels, change, caplog):
    load_or_trace(path, labels, ISOTROPIC)
    edited, size, algorithm = labels.copy(), ISOTROPIC, "thinning"
    if change == "one voxel":
        edited[tuple(np.argwhere(labels)[0])] = 0
    elif change == "order":
        edited = np.ascontiguousarray(np.swapaxes(edited, 1, 2))
    elif change == "voxel size":
        size = (3.0, 1.0, 1.0)
    else:
        pytest.importorskip("kimimaro")
        algorithm = "kimimaro"
    with caplog.at_level(logging.WARNING):
        skeletons, traced = load_or_trace(path, edited, size, algorithm)
    assert traced and "a.skeletons.trch does not fit its labels" in caplog.text
    assert same(skeletons, skeletonize(edited, size, algorithm))
    assert not load_or_trace(path, edited, size, algorithm)[1]  # and kept


def test_a_read_only_folder_uses_the_users_cache(path, labels, user_cache, monkeypatch):
    real = os.access
    monkeypatch.setattr(
        os, "access", lambda p, mode, **k: os.fspath(p) != os.fspath(path.parent) and real(p, mode, **k)
    )
    skeletons, traced = load_or_trace(path, labels, ISOTROPIC)
    assert traced and not path.exists()
    assert [p.name for p in user_cache.rglob("*.trch")] == ["a.skeletons.trch"]
    again, traced = load_or_trace(path, labels, ISOTROPIC)
    assert not traced and same(skeletons, again)
    other = path.parent.parent / "other" / path.name  # another folder, the same name: another place
    other.parent.mkdir()
    assert skeleton_cache._cached(other) != skeleton_cache._cached(path)


@pytest.fixture
def read_only(monkeypatch, user_cache):
    """Neither the folder of the data nor the user's cache takes a file."""

    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(files, "Unfinished", refuse)
    monkeypatch.setattr(skeleton_cache, "_said", set())


def test_without_any_place_to_keep_them_it_is_said_once(path, labels, read_only, caplog):
    other = path.with_name("b.skeletons.trch")
    for place in (path, other, path):
        skeletons, traced = load_or_trace(place, labels, ISOTROPIC)
        assert traced and same(skeletons, skeletonize(labels, ISOTROPIC))
    (told,) = caplog.messages
    assert told.startswith("Skeletons are not kept, and traced again by the next training. ")
    assert told.count("Read-only file system") == 2 and "Make room" not in told  # of both places
    with pytest.raises(VolumeError, match=r"a\.skeletons\.trch cannot be written: Read-only file system"):
        load_or_trace(path, labels, ISOTROPIC, must_keep=True)


def test_a_full_disk_beside_the_labels_uses_the_users_cache(path, labels, user_cache, monkeypatch, caplog):
    real = files.Unfinished

    def full_here(place, *words):
        if place.parent == path.parent:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(place, *words)

    monkeypatch.setattr(files, "Unfinished", full_here)
    assert load_or_trace(path, labels, ISOTROPIC)[1] and not load_or_trace(path, labels, ISOTROPIC)[1]
    assert not path.exists() and not caplog.messages
    assert skeleton_cache.kept_at(path).is_file()


def test_overwrite_traces_anew(path, labels):
    load_or_trace(path, labels, ISOTROPIC)
    stamp = path.stat().st_ino
    assert load_or_trace(path, labels, ISOTROPIC, overwrite=True)[1]
    assert path.stat().st_ino != stamp


def original(labels, jitter=0):
    """A file as the original wrote it: points (row, column, section), as tensors."""
    return {
        k: torch.from_numpy(np.stack([p[:, 1], p[:, 2], p[:, 0]], 1) + jitter).float()
        for k, p in skeletonize(labels).as_dict().items()
    }


def test_the_originals_axis_order(path):
    labels = np.zeros((5, 7, 9), np.int32)
    labels[2, 3, 1:8] = 4
    labels[4, 0:6, 8] = 65000
    torch.save(
        {
            4: torch.tensor([[3.0, c, 2.0] for c in range(1, 8)]),
            65000: torch.tensor([[r, 8.0, 4.0] for r in range(6)]),
        },
        path,
    )
    before = path.read_bytes()
    skeletons, traced = load_or_trace(path, labels, ISOTROPIC)
    assert not traced and path.read_bytes() == before
    assert skeletons.of(4).tolist() == [[2, 3, c] for c in range(1, 8)]
    assert skeletons.of(65000).tolist() == [[4, r, 8] for r in range(6)]
    assert skeletons.inscribed.tolist() == [1, 1]


def test_an_original_file_gives_what_tracing_gives(path, labels):
    torch.save(original(labels), path)
    skeletons, traced = load_or_trace(path, labels, ISOTROPIC)
    expected = skeletonize(labels)
    assert not traced and np.array_equal(skeletons.points, expected.points)
    assert np.allclose(skeletons.inscribed, expected.inscribed)


@pytest.mark.parametrize("spoil", ["missing id", "outside", "moved", "empty", "NaN", "infinite", "far"])
def test_an_original_file_of_other_labels_is_not_used_and_not_touched(path, labels, spoil, caplog):
    content = original(labels)
    first = next(iter(content))
    if spoil == "missing id":
        del content[first]
    elif spoil == "outside":
        content[first] += 100
    elif spoil in ("NaN", "infinite", "far"):
        content[first][0] = {"NaN": float("nan"), "infinite": float("inf"), "far": 1e30}[spoil]
    elif spoil == "moved":
        content = {k: p.flip(0) * 0 + 1 for k, p in content.items()}
    else:
        content[first] = content[first][:0]
    torch.save(content, path)
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        skeletons, traced = load_or_trace(path, labels, ISOTROPIC)
    assert traced and "does not fit its labels" in caplog.text
    assert same(skeletons, skeletonize(labels))
    assert path.read_bytes() == before  # it is not ours to replace
    assert not load_or_trace(path, labels, ISOTROPIC)[1]
    assert load_or_trace(path, labels, ISOTROPIC, overwrite=True)[1] and path.read_bytes() != before


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"not at all", r"a.skeletons.trch is no skeleton file; delete it to have it made again\."),
        ([1, 2], "expected a dict of id to points; delete it"),
        ({"net": torch.zeros(3)}, r"expected ids with \(n, 3\) points each"),
        ({3: torch.zeros(4, 2)}, r"expected ids with \(n, 3\) points each"),
        ({3: [[1, 2, 3]]}, r"expected ids with \(n, 3\) points each"),
        ({3: torch.zeros(1, 3).expand(10**11, 3)}, r"is no skeleton file; delete it"),
        ({3: torch.zeros(4, 3, device="meta")}, r"is no skeleton file; delete it"),
    ],
)
def test_files_that_are_something_else(path, labels, content, sentence):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(VolumeError, match=sentence):
        load_or_trace(path, labels, ISOTROPIC)


class Malicious:
    def __reduce__(self):
        return os.mkdir, (os.environ["SKOOTS_TEST_TRAP"],)


def test_a_file_never_runs_code(path, tmp_path, monkeypatch):
    monkeypatch.setenv("SKOOTS_TEST_TRAP", str(tmp_path / "trap"))
    torch.save({1: Malicious()}, path)
    with pytest.raises(VolumeError, match="is no skeleton file"):
        read_content(path)
    path.write_bytes(pickle.dumps({1: Malicious()}))
    with pytest.raises(VolumeError, match="is no skeleton file"):
        read_content(path)
    assert not (tmp_path / "trap").exists()


def sealed(content, path):
    with replacing(path, content):
        pass


MADE_BY_HAND = {
    "starts beyond the points": lambda c: {"starts": torch.full_like(c["starts"], 10**12)},
    "negative starts": lambda c: {"starts": torch.full_like(c["starts"], -5)},
    "starts that fall": lambda c: {"starts": c["starts"].flip(0)},
    "an object without points": lambda c: {"starts": c["starts"].index_fill(0, torch.tensor([1]), 0)},
    "too few starts": lambda c: {"starts": c["starts"][1:].clone()},
    "starts as a list": lambda c: {"starts": c["starts"].tolist()},
    "NaN": lambda c: {"points": torch.full_like(c["points"], float("nan"))},
    "one NaN": lambda c: {"points": c["points"].index_fill(0, torch.tensor([3]), float("nan"))},
    "points far outside": lambda c: {"points": torch.full_like(c["points"], 1e30)},
    "points before the volume": lambda c: {"points": -c["points"] - 1},
    "points of another object": lambda c: {"points": c["points"].flip(0).clone()},
    "points of two dimensions": lambda c: {"points": c["points"][:, :2].clone()},
    "points of another type": lambda c: {"points": c["points"].bfloat16()},
    "ids that do not exist": lambda c: {"ids": c["ids"] + 1000},
    "ids twice": lambda c: {"ids": c["ids"].index_fill(0, torch.tensor([1]), int(c["ids"][0]))},
    "no radius": lambda c: {"inscribed": torch.zeros_like(c["inscribed"])},
    "radii of NaN": lambda c: {"inscribed": c["inscribed"] * float("nan")},
    "no points": lambda c: {"points": None},
    "another mark": lambda c: {"fingerprint": "00"},
    "no mark": lambda c: {"fingerprint": None},
}


@pytest.mark.parametrize("change", MADE_BY_HAND)
@pytest.mark.parametrize("with_seal", [True, False], ids=["sealed", "bare"])
def test_what_is_read_is_not_believed(path, labels, change, with_seal, caplog):
    first, _ = load_or_trace(path, labels, ISOTROPIC)
    content = torch.load(path, weights_only=True)
    changed = content | MADE_BY_HAND[change](content)
    changed = {key: value for key, value in changed.items() if value is not None}
    sealed(changed, path) if with_seal else torch.save(changed, path)
    with caplog.at_level(logging.WARNING):
        skeletons, traced = load_or_trace(path, labels, ISOTROPIC)
    assert traced and same(first, skeletons) and "skeletons are traced again" in caplog.text
    assert not load_or_trace(path, labels, ISOTROPIC)[1]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.fixture
def traced_once(monkeypatch, labels):
    """Tracing is quick the second time: what is looked at is whether it is done."""
    result = skeletonize(labels)
    monkeypatch.setattr(skeleton_cache, "trace_volume", lambda *_: result)
    return result


def damages(raw):
    """A hundred and fifty flipped bits, fifty cuts, and what a power cut leaves."""
    chance = random.Random(1)
    for _ in range(150):
        spoilt = bytearray(raw)
        spoilt[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        yield bytes(spoilt)
    for _ in range(50):
        yield raw[: chance.randrange(len(raw))]
    yield b""
    yield bytes(len(raw))


def test_no_damaged_file_gives_other_skeletons(path, labels, traced_once):
    load_or_trace(path, labels, ISOTROPIC)
    raw, outcomes = path.read_bytes(), Counter()
    for spoilt in damages(raw):
        path.write_bytes(spoilt)
        try:
            skeletons, traced = load_or_trace(path, labels, ISOTROPIC)
        except VolumeError:  # too little is left to tell that it was a skeleton file
            outcomes["named"] += 1
            continue
        assert traced and same(skeletons, traced_once) and path.read_bytes() == raw
        outcomes["made again"] += 1
    assert outcomes["made again"] > 190 and outcomes.total() == 202


def test_no_damaged_file_of_the_original_gives_other_skeletons(path, labels, traced_once):
    torch.save(original(labels), path)
    raw = path.read_bytes()
    good, traced = load_or_trace(path, labels, ISOTROPIC)
    assert not traced
    aside = path.with_name(f"{path.name}.damaged")
    for spoilt in damages(raw):
        path.write_bytes(spoilt)
        try:
            skeletons, traced = load_or_trace(path, labels, ISOTROPIC)
        except VolumeError:
            assert path.read_bytes() == spoilt
            continue
        assert same(skeletons, traced_once if traced else good)
        if traced and spoilt:
            assert aside.read_bytes() == spoilt  # it was not ours
            aside.unlink()


def test_a_file_is_on_disk_before_it_has_its_name(path, labels, monkeypatch):
    done = []
    fsync, replace_ = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace_(a, b)))
    load_or_trace(path, labels, ISOTROPIC)
    assert "fsync" in done[: done.index("replace")]


def test_skeletons_that_cannot_be_kept(path, labels, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with caplog.at_level(logging.WARNING):
        skeletons, traced = load_or_trace(path, labels, ISOTROPIC)
    assert traced and same(skeletons, skeletonize(labels))
    assert "a.skeletons.trch cannot be written: No space left on device" in caplog.text
    with pytest.raises(VolumeError, match=r"cannot be written: No space left on device\. Make room"):
        load_or_trace(path, labels, ISOTROPIC, must_keep=True)
    assert not list(path.parent.iterdir())


def test_a_file_of_another_version_is_made_anew(tmp_path):
    labels = np.zeros((6, 8, 8), np.int32)
    labels[2:4, 2:6, 3:5] = 1
    path = tmp_path / "a.skeletons.trch"
    load_or_trace(path, labels, (1, 1, 1))
    content = torch.load(path, weights_only=True)
    torch.save({**content, "format": "skoots-skeletons-0"}, path)
    _, traced = load_or_trace(path, labels, (1, 1, 1))
    assert traced
    assert not load_or_trace(path, labels, (1, 1, 1))[1]


def test_a_folder_without_write_permission_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    labels = np.ones((3, 4, 4), np.int32)
    folder.chmod(0o555)
    try:
        load_or_trace(folder / "a.skeletons.trch", labels, (1, 1, 1))
        assert not list(folder.iterdir())
        assert not load_or_trace(folder / "a.skeletons.trch", labels, (1, 1, 1))[1]
    finally:
        folder.chmod(0o755)
