"""What lies in a snapshot file is looked at before it is used: sizes, types and ranges."""

from __future__ import annotations

import math
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from skoots.errors import SnapshotError
from skoots.snapshots import read_snapshot, read_weights, verify, write_snapshot

NAN = math.nan
INTENSITY = {"shift": [1.0], "scale": [2.0], "compress": False}
WHOLE: dict[str, Any] = {
    "net": {"a.weight": torch.ones(3), "a.count": torch.tensor(4)},
    "ema_net": {"a.weight": torch.ones(3)},
    "acc": None,
    "epoch": 3,
    "step": 30,
    "metrics": {"test.F1": 0.5, "train.loss": NAN},
    "history": [{}, {"lr": 1e-3}, {"lr": 1e-4}],
    "best": {"epoch": 2, "value": 0.5, "metric": "test.F1", "loss": 1.0, "losses": 3},
    "averaging": {"pool": [{"epoch": 2, "value": 0.5}], "ema_steps": 30},
    "cfg": {"method": "bu", "model": {"backbone": {"type": "UNet", "channels": [4, 8]}}},
    "decoding": {"type": "LandingDecoder", "votes": 4.0},
    "facts": {
        "in_channels": 1,
        "spatial_dims": 3,
        "voxel_size": [2.0, 1.0, 1],
        "intensity": {"kind": "zscore", "pooled": INTENSITY, "volumes": [{"name": "a", **INTENSITY}],
                      "dtypes": ["uint8"]},
    },
    "provenance": {"torch": "2.10", "parent": {}},
    "optimizer_state_dict": {"state": {0: {"step": torch.tensor(3.0)}},
                             "param_groups": [{"lr": 1e-3, "params": [0]}]},
    "torch_scheduler_state_dict": {"last_epoch": 3},
    "scaler_state_dict": {"scale": 1024.0, "_growth_tracker": 3},
    "sampler": {"plan": [4, 2, 1], "samples": 2, "batches": 1, "rates": {"lr": 1e-3},
                "counted": torch.tensor(1), "sums": {"loss": torch.tensor(0.5)}},
    "rng": {"python": (3, (1, 2, 2**70), None), "torch": torch.zeros(8, dtype=torch.uint8)},
    "observers": {"StopAt": {"seen": 3}},
}  # fmt: skip
ODD = {
    "net": [None, [], {1: torch.ones(1)}, {"a": 1}, {"a": torch.ones(1, dtype=torch.complex64)}],
    "ema_net": [None, "abc"],
    "acc": ["abc", [1]],
    "epoch": [None, "abc", NAN, -1, True, 1.5, 2**60, []],
    "step": [-1, None],
    "metrics": [None, "x", {"a": "b"}, NAN],
    "history": [5, {}, [None], [{"a": "b"}]],
    "best": [3, NAN, {}, {"epoch": 1, "value": NAN, "metric": "a"}],
    "averaging": [[], {"pool": [3]}, {"pool": [{"epoch": "a", "value": 1.0}]}, {"swa": {}}],
    "cfg": [None, [1], "x", {1: 2}, {"a": torch.ones(1)}, {"a": [{"b": 1j}]}],
    "decoding": [None, [1], "x", {}, {"type": 3}, {"type": "A", "params": {}}, {"type": "A", "b": 1j}],
    "provenance": [None, "abc", {"a": b"x"}],
    "optimizer_state_dict": [None, {}, {"state": [], "param_groups": []}, {"state": {}, "param_groups": [3]}],
    "torch_scheduler_state_dict": [None, 3],
    "sampler": [None, {"batches": 1}, {"plan": [1]}, {"plan": ["a", 1, 1]}, {"counted": torch.ones(2)}],
    "rng": [3, {"torch": 4}, {"python": "abc"}],
    "observers": [{"a": 3}],
    "gradients": [{"a": 1}],
}
ODD_FACTS = {
    "in_channels": [0, -1, 10**9, "1", None, 1.0, True],
    "spatial_dims": [1, 4, 7, "3", None],
    "voxel_size": [[], [1.0], [1.0, 1.0], [NAN, 1.0, 1.0], [0.0, 1.0, 1.0], [-1.0, 1.0, 1.0], "abc"],
    "intensity": [
        None,
        {},
        *({**WHOLE["facts"]["intensity"], "pooled": {**INTENSITY, **change}} for change in (
            {"shift": [NAN]}, {"scale": [0.0]}, {"scale": [math.inf]}, {"scale": [1.0, 1.0]}, {"shift": []},
            {"compress": "no"}, {"shift": None},
        )),
        {**WHOLE["facts"]["intensity"], "volumes": [{**INTENSITY}]},
    ],
}  # fmt: skip


def test_a_snapshot_of_every_key_is_read(tmp_path: Path) -> None:
    read = read_snapshot(write_snapshot(WHOLE, tmp_path / "s.pt"))
    assert set(read) == {"format", *WHOLE} and read["facts"] == WHOLE["facts"]


@pytest.mark.parametrize("key", ODD)
def test_odd_values_are_refused_by_key(key: str, tmp_path: Path) -> None:
    for value in ODD[key]:
        path = write_snapshot({**WHOLE, key: value}, tmp_path / "s.pt")
        with pytest.raises(SnapshotError, match=rf"^{path} .*\b{key}[. ].*") as caught:
            read_snapshot(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400, value


@pytest.mark.parametrize("key", ODD_FACTS)
def test_odd_facts_are_refused_by_key(key: str, tmp_path: Path) -> None:
    for value in ODD_FACTS[key]:
        path = write_snapshot({**WHOLE, "facts": {**WHOLE["facts"], key: value}}, tmp_path / "s.pt")
        with pytest.raises(SnapshotError, match=r"s\.pt is no snapshot that can be used: facts"):
            read_snapshot(path)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def doubled(times: int) -> list[Any]:
    value: list[Any] = [1]
    for _ in range(times):
        value = [value, value]
    return value


def in_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (nested(150), "is nested more than 100 levels deep"),
        (doubled(60), "holds more than 5,000,000 values"),
        (in_itself(), "is nested more than 100 levels deep"),
        (10**60, "is a number of 200 bits"),
        (torch.zeros(1).expand(200_000, 200_000), "is a tensor of 160,000,000,000 bytes, more than the file"),
        ([torch.zeros(2**18)] * 100, "is a tensor of 1,048,576 bytes, more than the file"),
        (
            torch.sparse_coo_tensor([[0], [1]], [1.0], (10**9, 10**9), check_invariants=True),
            "is a tensor without plain numbers",
        ),
        (torch.empty(10**12, device="meta"), "is a tensor without plain numbers"),
    ],
    ids=["deep", "doubled", "in itself", "digits", "expanded", "shared", "sparse", "meta"],
)
def test_what_cannot_be_walked_through_is_refused(value: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "s.pt"
    torch.save({"format": 1, "net": {"w": torch.ones(1)}, "epoch": 1, "more": [0, value]}, path)
    with pytest.raises(SnapshotError, match=r"s\.pt: more\.1.* " + said):
        read_snapshot(path)


# The archive ------------------------------------------------------------------------------------------------


def rewritten(source: Path, target: Path, change: Callable[[zipfile.ZipInfo], None], method: int = 0) -> Path:
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as out:
        for record in archive.infolist():
            out.writestr(record.filename, archive.read(record), method)
        for record in out.infolist():
            change(record)
    return target


def test_records_that_unpack_to_more_than_the_file_are_refused(tmp_path: Path) -> None:
    whole = tmp_path / "w.pt"
    torch.save({"format": 1, "net": {"w": torch.zeros(2**20)}, "epoch": 1}, whole)
    read_snapshot(rewritten(whole, tmp_path / "same.pt", lambda record: None))
    bomb = rewritten(whole, tmp_path / "bomb.pt", lambda record: None, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2**16

    def larger(record: zipfile.ZipInfo) -> None:
        record.file_size = record.compress_size = 2**40

    def first(record: zipfile.ZipInfo) -> None:
        record.header_offset = 0

    def twice(record: zipfile.ZipInfo) -> None:
        record.filename = "w/data.pkl"

    def secret(record: zipfile.ZipInfo) -> None:
        record.flag_bits |= 1

    trials = {
        "truncated or was overwritten": rewritten(whole, tmp_path / "secret.pt", secret),
        "compressed, which torch never does": bomb,
        "longer than the file": rewritten(whole, tmp_path / "larger.pt", larger),
        "overlaps another one": rewritten(whole, tmp_path / "first.pt", first),
        "two records": rewritten(whole, tmp_path / "twice.pt", twice),
    }
    for said, path in trials.items():
        for read in (verify, read_snapshot, read_weights):
            with pytest.raises(SnapshotError, match=rf"{path.name} is damaged: .*{said}"):
                read(path)


def test_a_directory_of_random_bytes_is_one_sentence(tmp_path: Path) -> None:
    """Sealed or not: whoever has changed the bytes can seal them again."""
    path = tmp_path / "w.pt"
    torch.save({"format": 1, "net": {"w": torch.zeros(3)}, "epoch": 1}, path)
    content, draw = path.read_bytes(), random.Random(0)
    start = content.index(b"PK\x01\x02")
    for _ in range(400):
        changed = bytearray(content)
        for _ in range(draw.choice([1, 1, 3])):
            changed[draw.randrange(start, len(changed))] = draw.randrange(256)
        path.write_bytes(changed)
        for read in (read_snapshot, read_weights):
            try:
                read(path)
            except SnapshotError as error:
                assert "\n" not in str(error)
