"""What a published snapshot holds, and what it gives away: nothing of the machine, files and users."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skoots.api import (
    TrainingOutcome,
    evaluate_snapshot,
    inspect,
    load_model,
    load_weights,
    publish,
    segment,
    train,
)
from skoots.errors import SnapshotError
from skoots.snapshots import read_snapshot, write_snapshot
from skoots.volumes import open_volume

Make = Callable[..., Any]
PLUGIN = """
from skoots.models.heads.base import HEADS
from skoots.models.heads.semantic import SemanticHead


@HEADS.register
class Doubled(SemanticHead):
    pass
"""


def with_everything_secret(make_config: Make, write_pair: Make, tmp_path: Path) -> tuple[Any, str]:
    """A config in which every text that a user can give says SECRET, and a plugin."""
    folder = tmp_path / "SECRETfolder"
    for seed, name in enumerate(("SECRETa", "SECRETb", "SECRETc", "SECRETd"), start=1):
        write_pair(folder / name, name, seed)
        if name == "SECRETd":
            (folder / name / f"{name}.labels.tif").unlink()
    plugin = folder / "SECRETplugin.py"
    plugin.write_text(PLUGIN)
    sources = [{"path": str(folder / f"SECRET{letter}"), "samples_per_volume": 2} for letter in "abcd"]
    config = make_config(
        data={
            **dict(zip(("train", "validation", "test", "background"), ([source] for source in sources))),
            "normalize_by": "training",
            "augment": [{"type": "Flip"}],
        },
        model={"heads": {"vector": {"type": "VectorHead"}, "semantic": {"type": "Doubled"},
                         "skeleton": {"type": "SkeletonHead"}}},
        runner={"snapshots": {"average_best_models": 1}, "swa": {"swa_start": 1, "swa_lr": 1e-3}},
        metadata={"experiment": "SECRETname", "patient": "SECRETx",
                  "publish": {"licence": "CC-BY-4.0", "authors": ["A. Author"]}},
        inference={"decoding": {"skeleton_threshold": 0.3}},
    )  # fmt: skip
    return {**config, "net_type": "SECRETnet", "plugins": [str(plugin)]}, str(plugin)


def everything_readable(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return b"".join(name.encode() + archive.read(name) for name in archive.namelist())


def test_nothing_of_files_folders_volumes_or_the_machine_is_in_it(
    make_config: Make, write_pair: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a name that weights do not hold by chance, as they do ``vm``
    monkeypatch.setattr("platform.node", lambda: "test-machine")
    monkeypatch.setattr("socket.gethostname", lambda: "test-machine")
    config, plugin = with_everything_secret(make_config, write_pair, tmp_path)
    outcome = train(config, runs=tmp_path / "SECRETruns", progress=False)
    for name in ("latest", "average", "swa"):
        source = outcome.run_folder / f"snapshot-{name}.pt"
        assert b"SECRET" in everything_readable(source)
        made = publish(source, tmp_path / f"{name}.pt").output
        told = everything_readable(made) + made.read_bytes()
        for secret in ("SECRET", str(tmp_path), str(Path.home()), os.path.basename(__file__)):
            assert secret.encode() not in told, secret
        assert b"test-machine" not in told
        state = read_snapshot(made)
        assert state["cfg"]["metadata"] == {"publish": {"licence": "CC-BY-4.0", "authors": ["A. Author"]}}
        assert set(state["provenance"]) == {"skoots", "torch", "numpy", "python"}

    made = tmp_path / "latest.pt"
    own = load_model(outcome.latest_snapshot, "cpu", [plugin])
    shared = load_model(made, "cpu", [plugin])
    assert shared.intensity is not None and own.intensity is not None
    assert shared.intensity.pooled == own.intensity.pooled
    image = tmp_path / "SECRETfolder" / "SECRETa" / "SECRETa.tif"
    for source in (outcome.latest_snapshot, made):
        segment(image, source, tmp_path / f"{source.stem}.tif", plugins=[plugin], progress=False)
    first, second = (
        open_volume(tmp_path / f"{name}.tif").read_all() for name in ("snapshot-latest", "latest")
    )
    assert (first == second).all()
    told = evaluate_snapshot(made, data=image.parent, plugins=[plugin], device="cpu")
    assert (
        told.metrics
        == evaluate_snapshot(
            outcome.latest_snapshot, data=image.parent, plugins=[plugin], device="cpu"
        ).metrics
    )
    assert inspect(made).epoch == 2
    assert load_weights(shared.model, made).share == 1


def test_a_text_that_could_name_a_file_is_not_published(trained: TrainingOutcome, tmp_path: Path) -> None:
    state = {key: value for key, value in read_snapshot(trained.latest_snapshot).items() if key != "format"}
    backbone = state["cfg"]["model"]["backbone"]

    def published(**arguments: Any) -> dict[str, Any]:
        model = {**state["cfg"]["model"], "backbone": {**backbone, **arguments}}
        path = write_snapshot({**state, "cfg": {**state["cfg"], "model": model}}, tmp_path / "s.pt")
        made = publish(path, tmp_path / "made.pt", overwrite=True)
        return read_snapshot(made.output)["cfg"]["model"]["backbone"]

    for text in ("/home/me/prior.npy", "prior.npy", "..", "a b", "C:prior", "x/y", "\u00fcber"):
        with pytest.raises(
            SnapshotError, match=r"model\.backbone\.prior of its config is .* could name a file"
        ):
            published(prior=text)
        with pytest.raises(SnapshotError, match=r"model\.backbone\.prior\.0\.a of its"):
            published(prior=[{"a": text}])
    assert published(prior="resnet50.a1_in1k", pretrained_file="/home/me/w.pt", pretrained=True) == {
        **backbone,
        "prior": "resnet50.a1_in1k",
    }


def test_what_is_published_is_lean_and_has_the_checksum_that_is_said(
    trained: TrainingOutcome, tmp_path: Path
) -> None:
    made = publish(trained.latest_snapshot, tmp_path / "mito.pt")
    assert hashlib.sha256(made.output.read_bytes()).hexdigest() == made.sha256
    state = read_snapshot(made.output)
    assert set(state) == {
        "format", "epoch", "step", "acc", "metrics", "facts", "averaging", "net", "cfg", "provenance"
    }  # fmt: skip
    optimizer = inspect(trained.latest_snapshot).contents["optimizer_state_dict"]
    assert made.size < trained.latest_snapshot.stat().st_size - optimizer
    assert load_model(made.output, "cpu").epoch == 8
    with pytest.raises(SnapshotError, match=r"mito\.pt exists; choose another output or say --overwrite"):
        publish(trained.latest_snapshot, made.output)
    with pytest.raises(SnapshotError, match=r"the folder .*nowhere does not exist"):
        publish(trained.latest_snapshot, tmp_path / "nowhere" / "mito.pt")
