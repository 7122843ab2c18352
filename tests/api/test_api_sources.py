"""Trainings from mixed sources: background, sparse labels, epochs of a given length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skoots.api import check, evaluate, evaluate_snapshot, train
from skoots.api.prepare import prepare, training_crops
from skoots.config import load_config
from skoots.data.dataset import CoveringDataset, CropDataset
from skoots.data.loaders import covering_loader, train_loader
from skoots.snapshots import read_snapshot
from skoots.volumes import open_volume, write_volume

Make = Callable[..., Any]
UNKNOWN = 65535


@pytest.fixture
def sparse(write_pair: Callable[..., Any], tmp_path: Path) -> Path:
    """A folder with one volume of which some sections and a corner are labelled."""
    folder = tmp_path / "sparse"
    _, labels = write_pair(folder, "a", shape=(16, 32, 32))
    labels = labels.copy()
    labels[:3], labels[12:], labels[:, :6, :6] = UNKNOWN, UNKNOWN, UNKNOWN
    write_volume(folder / "a.labels.tif", labels, (2.0, 1.0, 1.0), overwrite=True)
    return folder


def config_for(make_config: Make, sparse: Path, **data: Any) -> Any:
    source = {"type": "Folder", "path": str(sparse), "samples_per_volume": 4}
    return make_config(data={"train": [source], "validation": [source], "ignore_label": UNKNOWN, **data})


def test_what_is_unknown_changes_no_loss_and_no_score(
    make_config: Make, sparse: Path, tmp_path: Path
) -> None:
    outcome = train(config_for(make_config, sparse), runs=tmp_path / "runs", progress=False)
    stored = read_snapshot(outcome.latest_snapshot)["metrics"]
    assert np.isfinite(stored["train.loss"]) and np.isfinite(stored["test.loss"])
    again = evaluate_snapshot(outcome.latest_snapshot)
    assert again.metrics["test.loss"] == pytest.approx(stored["test.loss"], rel=1e-4)

    # the same with objects instead of what is unknown in the prediction's place: nothing is different
    truth = open_volume(sparse / "a.labels.tif").read_all()
    prediction = np.where(truth == UNKNOWN, 0, truth)
    scrawled = np.where(truth == UNKNOWN, 7000 + np.indices(truth.shape)[2] // 5, truth)
    scores = []
    for name, volume in (("clean", prediction), ("scrawled", scrawled)):
        write_volume(tmp_path / f"{name}.tif", volume.astype(np.uint16))
        scores.append(
            evaluate(sparse / "a.labels.tif", tmp_path / f"{name}.tif", ignore_label=UNKNOWN).scores
        )
    assert scores[0] == scores[1] and scores[0]["F1"] == 1
    assert evaluate(sparse / "a.labels.tif", tmp_path / "scrawled.tif").scores["F1"] < 1


def test_no_gradient_comes_from_what_is_unknown(make_config: Make, sparse: Path) -> None:
    prepared = prepare(load_config(config_for(make_config, sparse, augment="none")))
    volumes = [volume for volume, _ in prepared.train]
    batch = next(iter(covering_loader(CoveringDataset(volumes, (16, 32, 32)))))
    assert batch.valid.any() and not batch.valid.all()
    model = prepared.model.eval()
    outputs = {
        head: {name: torch.rand_like(value).requires_grad_() for name, value in maps.items()}
        for head, maps in model(batch.images).items()
    }
    model.loss(outputs, model.targets(batch), batch, 1)[0].backward()
    for maps in outputs.values():
        for value in maps.values():
            assert value.grad is not None
            known = batch.valid.unsqueeze(1).expand_as(value)
            assert value.grad[known].any() and not value.grad[~known].any()


def test_windows_without_known_voxels_do_not_weigh(make_config: Make, sparse: Path, tmp_path: Path) -> None:
    """The validation loss is that of the labelled sections alone, however the windows fall."""
    outcome = train(config_for(make_config, sparse), runs=tmp_path / "runs", progress=False)
    losses = []
    for padding in (0, 9):
        folder = tmp_path / f"padded{padding}"
        folder.mkdir()
        for name in ("a.tif", "a.labels.tif"):
            array = open_volume(sparse / name).read_all()
            fill = {"mode": "reflect"} if name == "a.tif" else {"constant_values": UNKNOWN}
            array = np.pad(array, ((0, padding), (0, 0), (0, 0)), **fill)  # type: ignore[call-overload]
            write_volume(folder / name, array, (2.0, 1.0, 1.0))
        result = evaluate_snapshot(outcome.latest_snapshot, data=folder)
        losses.append(result.metrics["test.loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.15)  # the image's statistics move a little


def test_background_is_trained_on_along_with_the_rest(make_config: Make, tmp_path: Path) -> None:
    background = {"type": "Synthetic", "shape": [12, 24, 24], "samples_per_volume": 6, "seed": 3}
    config = make_config(data={"background": [background], "background_augment": ["Flip"]})
    lines = "\n".join(check(config).lines)
    assert "1 volumes and 1 of background to train on" in lines and "one epoch: 10 samples" in lines
    assert "background: synthetic background 3, 12 x 24 x 24 voxels, no objects, 6 samples an epoch" in lines
    prepared = prepare(load_config(config))
    batches = list(train_loader(training_crops(prepared), 2, seed=1))
    empty = [int(origin.startswith("synthetic background")) for b in batches for origin in b.origins]
    assert sum(empty) == 6
    outcome = train(config, runs=tmp_path / "runs", progress=False)
    assert outcome.epochs == 2 and np.isfinite(outcome.metrics["train.loss"])


def test_an_epoch_is_a_number_of_samples_and_goes_on_in_its_middle(
    make_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [
        {"type": "Synthetic", "shape": [12, 24, 24], "radius": [2.0, 3.0], "samples_per_volume": n, "seed": n}
        for n in (1, 3)
    ]
    config = make_config(
        data={"train": sources, "samples_per_epoch": 8, "sampling": {"boundaries": 0.3}},
        runner={"snapshots": {"save_steps": 1}},
    )
    prepared = prepare(load_config(config))
    names = [
        o.split(" from")[0] for b in train_loader(training_crops(prepared), 2, seed=1) for o in b.origins
    ]
    assert sorted(names) == ["synthetic tubes 1"] * 2 + ["synthetic tubes 3"] * 6
    whole = train(config, runs=tmp_path / "whole", progress=False)
    assert read_snapshot(whole.latest_snapshot)["step"] == 8

    read, calls = CropDataset.__getitem__, []

    def stop_once(self: CropDataset, key: tuple[int, int]) -> Any:
        calls.append(key)
        if len(calls) == 14:  # in the third step of the second epoch
            raise KeyboardInterrupt
        return read(self, key)

    monkeypatch.setattr(CropDataset, "__getitem__", stop_once)
    cut = train(config, runs=tmp_path / "cut", progress=False)
    assert cut.interrupted
    assert read_snapshot(cut.latest_snapshot)["sampler"]["batches"] > 0
    resumed = train(config, runs=tmp_path / "cut", progress=False, resume=True)
    assert not resumed.interrupted
    net, again = (read_snapshot(o.latest_snapshot)["net"] for o in (whole, resumed))
    assert all(torch.equal(net[key], again[key]) for key in net)
