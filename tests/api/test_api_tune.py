"""``tune``: a decoder chosen on validation volumes, stored in the snapshot, and used from then on."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skoots.api import (
    TrainingOutcome,
    Tuning,
    evaluate_snapshot,
    inspect,
    load_model,
    publish,
    resume,
    train,
    tune,
)
from skoots.api.build import decoder_of, open_volumes
from skoots.api.inspect import compare
from skoots.api.segment import make_plan, predict_maps
from skoots.api.tune import choose
from skoots.cli.main import main
from skoots.config import write_config
from skoots.data.labelled_volume import LabelledVolume
from skoots.errors import ConfigError, SkootsError, SnapshotError, VolumeError
from skoots.inference.tuning import Known
from skoots.instances import DECODERS, Decoder, Maps, SkeletonDecoder
from skoots.instances.decoders.landing import LandingDecoder
from skoots.metrics import contingency, score
from skoots.snapshots import locked, read_snapshot, verify, write_snapshot
from skoots.synthetic import make_volume
from skoots.volumes import open_volume, read_labels, write_volume
from skoots.volumes.array import ArrayVolume

Make = Callable[..., Any]
FLAT = {"type": "Synthetic", "shape": [40, 40], "radius": [2.0, 3.0]}
WEAK = {"skeleton_threshold": 0.99}  # a decoder that others are sure to beat


@pytest.fixture(scope="module")
def run(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> TrainingOutcome:
    """A training in 2D that ended with a choice; data of three kinds."""
    config = make_config(
        2,
        data={
            "train": [{**FLAT, "seed": 1, "samples_per_volume": 16}],
            "validation": [{**FLAT, "seed": 5}],
            "test": [{**FLAT, "seed": 8}],
        },
        runner={"key_metric": "test.loss", "eval_interval": 3},
        train_settings={"epochs": 6},
        inference={"decoding": WEAK, "tune": 1000},
        metadata={"experiment": "tuned"},
    )
    return train(config, runs=tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture
def snapshot(run: TrainingOutcome, tmp_path: Path) -> Path:
    """A file of its own, for which nothing was chosen yet."""
    return Path(shutil.copy(run.latest_snapshot, tmp_path / "model.pt"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    folder = tmp_path / "cells"
    folder.mkdir()
    image, labels = make_volume(FLAT["shape"], 5, radius=(2.0, 3.0))  # type: ignore[arg-type]
    write_volume(folder / "cell.tif", (image * 255).astype(np.uint8), (1.0, 1.0))
    write_volume(folder / "cell.labels.tif", labels.astype(np.uint16), (1.0, 1.0))
    return folder / "cell.tif"


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b or (a != a and b != b)


def decoded(path: Path, volume: LabelledVolume, decoder: Decoder) -> np.ndarray:
    loaded = load_model(path, "cpu")
    plan = make_plan(loaded, volume.image, volume.voxel_size, measured=volume.intensity)
    maps = predict_maps(plan, volume.image)
    return decoder.decode(Maps.of(maps, decoder.reads, volume.voxel_size, loaded.model.vector_scale))


# At the end of a training -----------------------------------------------------------------------------------


def test_a_training_ends_with_a_choice_and_says_what_it_gained(run: TrainingOutcome) -> None:
    assert run.tuning is not None and run.best_snapshot is not None
    assert run.tuning.snapshot == run.tuning.output == run.best_snapshot
    assert run.tuning.volumes == ("synthetic tubes 5",) and run.tuning.windows == 1  # not those of the test
    assert run.tuning.best_score >= run.tuning.own_score + 0.01 and run.tuning.complete
    assert read_snapshot(run.best_snapshot)["decoding"] == run.tuning.decoding
    assert "decoding" not in read_snapshot(run.latest_snapshot)
    said = f"decoder of {run.best_snapshot.name}: {run.tuning.sentence()}"
    assert said in (run.run_folder / "train.log").read_text()
    assert "of the config" in said and f"PQ {run.tuning.best_score:.3f}" in said
    assert str(SkeletonDecoder(**WEAK)) in said and "(1 validation" not in said


def test_what_is_reported_comes_from_volumes_that_chose_nothing(run: TrainingOutcome) -> None:
    loaded = load_model(run.run_folder, "cpu")
    ((volume, _),) = open_volumes(loaded.config, "test")
    expected = score(
        contingency(read_labels(volume.labels), decoded(run.run_folder, volume, loaded.decoder()))
    )
    assert run.held_out and run.test_volume == "synthetic tubes 8"
    assert run.test_scores == pytest.approx(expected, nan_ok=True)


def test_the_score_of_the_choice_is_that_of_its_objects(run: TrainingOutcome) -> None:
    assert run.tuning is not None
    loaded = load_model(run.run_folder, "cpu")
    ((volume, _),) = open_volumes(loaded.config, "validation")
    truth = read_labels(volume.labels)
    for decoder, quality in (
        (loaded.decoder(), run.tuning.best_score),
        (SkeletonDecoder(**WEAK), run.tuning.own_score),
    ):
        found = decoded(run.run_folder, volume, decoder)
        assert score(contingency(truth, found))["PQ"] == pytest.approx(quality)
    assert run.tuning.objects == len(np.unique(truth)) - 1


def test_0_seconds_and_no_validation_choose_nothing(make_config: Make, tmp_path: Path) -> None:
    data = {"validation": [{**FLAT, "seed": 5}]}
    off = train(make_config(2, data=data, inference={"tune": 0}), runs=tmp_path, progress=False)
    alone = train(
        make_config(2, data={"test": data["validation"]}, inference={"tune": 60}),
        runs=tmp_path,
        progress=False,
    )
    for outcome in (off, alone):
        assert outcome.tuning is None and outcome.test_scores
        snapshot = outcome.best_snapshot or outcome.latest_snapshot
        assert "decoding" not in read_snapshot(snapshot)


@pytest.mark.parametrize(
    ("raised", "stopped"),
    [(KeyboardInterrupt(), signal.SIGINT), (VolumeError("There are no objects."), None)],
)
def test_what_ends_the_search_leaves_the_training_whole(
    raised: BaseException,
    stopped: int | None,
    make_config: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*words: Any) -> Tuning:
        raise raised

    monkeypatch.setattr(importlib.import_module("skoots.api.train"), "choose", stop)
    config = make_config(2, data={"validation": [{**FLAT, "seed": 5}]}, inference={"tune": 60})
    outcome = train(config, runs=tmp_path, progress=False)
    assert (outcome.stopped_by, outcome.epochs, outcome.tuning) == (stopped, 2, None)
    assert bool(outcome.test_scores) is (stopped is None)
    for path in outcome.run_folder.glob("snapshot-*.pt"):
        verify(path)
    assert ("decoder: that of the config stays." in (outcome.run_folder / "train.log").read_text()) is (
        stopped is None
    )


def test_a_run_that_goes_on_writes_snapshots_without_the_choice(run: TrainingOutcome, tmp_path: Path) -> None:
    folder = tmp_path / "tuned" / run.run_folder.name
    shutil.copytree(run.run_folder, folder)
    tune(folder / "snapshot-latest.pt", device="cpu")
    assert "decoding" in read_snapshot(folder / "snapshot-latest.pt")
    outcome = resume(folder, ["train_settings.epochs=7", "inference.tune=0"], progress=False)
    assert outcome.epochs == 7 and "decoding" not in read_snapshot(outcome.latest_snapshot)


# Stored -----------------------------------------------------------------------------------------------------


def test_the_snapshot_stays_as_it_is_but_for_the_choice(snapshot: Path) -> None:
    before = read_snapshot(snapshot)
    found = tune(snapshot, device="cpu")
    after = read_snapshot(snapshot)
    assert found.output == snapshot and after.pop("decoding") == found.decoding
    assert equal(after, before)
    verify(snapshot)
    assert load_model(snapshot, "cpu").decoder() != decoder_of(load_model(snapshot, "cpu").config)
    again = tune(snapshot, device="cpu")  # what was chosen before does not count
    assert replace(again, seconds=found.seconds) == found
    assert tune(snapshot, device="cpu", seconds=0).decoding is None  # the config's alone was tried
    assert equal(read_snapshot(snapshot), before)


def test_another_file_takes_it(snapshot: Path, tmp_path: Path) -> None:
    old, output = snapshot.read_bytes(), tmp_path / "tuned.pt"
    found = tune(snapshot, output=output, device="cpu")
    assert found.output == output and snapshot.read_bytes() == old
    assert read_snapshot(output)["decoding"] == found.decoding
    with pytest.raises(SnapshotError, match=r"tuned\.pt exists; choose another output or say --overwrite"):
        tune(snapshot, output=output, device="cpu")
    tune(snapshot, output=output, overwrite=True, seconds=0, device="cpu")
    assert equal(read_snapshot(output), read_snapshot(snapshot))


def test_what_ends_the_writing_leaves_the_old_file(snapshot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = snapshot.read_bytes()

    def stop(path: Path) -> None:
        verify(path)
        if path != snapshot:
            raise KeyboardInterrupt  # written, and not yet renamed

    monkeypatch.setattr("skoots.snapshots.files.verify", stop)
    with pytest.raises(KeyboardInterrupt):
        tune(snapshot, device="cpu")
    assert snapshot.read_bytes() == old and [path.name for path in snapshot.parent.iterdir()] == ["model.pt"]


def test_a_run_that_is_trained_in_is_left_alone(run: TrainingOutcome, tmp_path: Path) -> None:
    folder = tmp_path / run.run_folder.name
    shutil.copytree(run.run_folder, folder)
    with locked(folder), pytest.raises(SkootsError, match="Another process is training in"):
        tune(folder, device="cpu")


# Used -------------------------------------------------------------------------------------------------------


def test_segment_uses_it_and_what_is_asked_for_wins(
    snapshot: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "--snapshot", str(snapshot), "--data", str(image.parent), "--device", "cpu"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "reaches PQ" in told[0] and "1 validation volume with" in told[0]
    assert told[2].split() == ["Stored", "in", str(snapshot)]
    assert told[-1] == f"Next: skoots segment VOLUME --snapshot {snapshot}"
    node = read_snapshot(snapshot)["decoding"]
    chosen = load_model(snapshot, "cpu").decoder()

    def segmented(*words: str) -> np.ndarray:
        out = tmp_path / "found.tif"
        command = ["segment", str(image), "-s", str(snapshot), "-o", str(out), "--overwrite", "-q", *words]
        assert main([*command, "--device", "cpu"]) == 0
        return open_volume(out).read_all()

    loaded = load_model(snapshot, "cpu")
    plan = make_plan(loaded, open_volume(image), (1.0, 1.0))
    maps = predict_maps(plan, open_volume(image))

    def expected(decoder: Decoder) -> np.ndarray:
        return decoder.decode(Maps.of(maps, decoder.reads, (1.0, 1.0), loaded.model.vector_scale))

    assert plan.decoder == chosen == DECODERS.build(node)
    assert np.array_equal(segmented(), expected(chosen)) and segmented().any()
    assert np.array_equal(segmented("--set", "min_size=40"), expected(replace(chosen, min_size=40)))
    other = "WatershedDecoder" if node["type"] != "WatershedDecoder" else "LandingDecoder"
    untouched = DECODERS.get(other)()
    assert np.array_equal(segmented("--set", f"type={other}"), expected(untouched))


def test_settings_that_only_the_configs_decoder_has_take_that_one(snapshot: Path) -> None:
    loaded = load_model(snapshot, "cpu")
    tuned = replace(loaded, decoding={"type": "LandingDecoder", "votes": 3.0, "min_size": 7})
    own = decoder_of(loaded.config)
    assert isinstance(own, SkeletonDecoder)
    assert tuned.decoder({"skeleton_threshold": 0.7}) == replace(own, skeleton_threshold=0.7)
    both = {"skeleton_threshold": 0.7, "semantic_threshold": 0.4}
    assert tuned.decoder(both) == replace(own, **both)
    assert tuned.decoder({"semantic_threshold": 0.4}) == LandingDecoder(0.4, votes=3.0, min_size=7)
    for wrong in ({"skeleton_threshold": 0.7, "votes": 2.0}, {"skeleton_treshold": 0.7}):
        with pytest.raises(ConfigError, match="unknown key of LandingDecoder"):
            tuned.decoder(wrong)


def test_evaluate_says_which_decoder_it_takes_for_what(
    run: TrainingOutcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate_snapshot(run.run_folder, device="cpu")
    assert found.tuned and found.decoder == str(load_model(run.run_folder, "cpu").decoder())
    assert found.stored and {name: found.metrics[name] for name in found.stored if name in found.metrics} == (
        pytest.approx({n: v for n, v in found.stored.items() if n in found.metrics}, nan_ok=True, rel=1e-5)
    )  # windows are decoded as in training
    assert found.scores == pytest.approx(run.test_scores, nan_ok=True)
    assert main(["evaluate", "--snapshot", str(run.run_folder), "--device", "cpu"]) == 0
    assert f"(synthetic tubes 8; decoded by {found.decoder}, which tuning chose):" in capsys.readouterr().out
    write_config(load_model(run.run_folder, "cpu").config, tmp_path / "own.yaml")
    asked = evaluate_snapshot(run.run_folder, config=tmp_path / "own.yaml", device="cpu")
    assert not asked.tuned and asked.decoder == str(SkeletonDecoder(**WEAK))
    assert asked.scores["PQ"] < found.scores["PQ"]


def test_inspect_and_publish(
    run: TrainingOutcome, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.tuning is not None and run.best_snapshot is not None
    assert inspect(run.best_snapshot).decoding == run.tuning.decoding
    assert inspect(run.latest_snapshot).decoding == {}
    assert any(line.startswith("decoding") for line in compare(run.best_snapshot, run.latest_snapshot))
    assert main(["inspect", str(run.best_snapshot)]) == 0
    assert f"{run.tuning.decoding['type']}, tuned: " in capsys.readouterr().out  # type: ignore[index]
    made = publish(run.best_snapshot, tmp_path / "public.pt").output
    assert read_snapshot(made)["decoding"] == run.tuning.decoding
    assert load_model(made, "cpu").decoder() == load_model(run.best_snapshot, "cpu").decoder()
    state = read_snapshot(run.best_snapshot)
    named = {**run.tuning.decoding, "type": "WatershedDecoder", "depth_map": "/home/me/depth.npy"}  # type: ignore[dict-item]
    path = write_snapshot({**state, "decoding": named}, tmp_path / "named.pt")
    with pytest.raises(SnapshotError, match=r"decoding\.depth_map of its config is .* could name a file"):
        publish(path, tmp_path / "never.pt")


def test_a_decoder_of_a_plugin_is_asked_for(snapshot: Path, image: Path, tmp_path: Path) -> None:
    state = {**read_snapshot(snapshot), "decoding": {"type": "NobodysDecoder", "slices": 3}}
    write_snapshot(state, snapshot)
    words = ["segment", str(image), "-s", str(snapshot), "-o", str(tmp_path / "o.tif"), "-q"]
    assert main(words) == 2
    with pytest.raises(
        SnapshotError, match=r"was tuned to NobodysDecoder, which is not registered\. Give the"
    ):
        load_model(snapshot, "cpu").decoder()
    assert main([*words, "--set", "type=WatershedDecoder"]) == 0
    write_snapshot({**state, "decoding": {"type": "WatershedDecoder", "votes": 3}}, snapshot)
    with pytest.raises(ConfigError, match=r"decoding\.votes: unknown key of WatershedDecoder"):
        load_model(snapshot, "cpu").decoder()


# What is looked at ------------------------------------------------------------------------------------------


def test_large_volumes_are_looked_at_in_windows_whose_maps_are_those_of_the_whole(
    snapshot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("skoots.api.tune")
    seen: list[Known] = []

    def remember(known: list[Known], *words: Any) -> Any:
        seen[:] = known
        return choose_decoder(known, *words)

    choose_decoder = module.choose_decoder
    monkeypatch.setattr(module, "choose_decoder", remember)
    monkeypatch.setattr(module, "VOXELS_AT_ONCE", 500)
    monkeypatch.setattr(module, "VOXELS_IN_ALL", 1300)
    loaded = load_model(snapshot, "cpu")
    ((volume, _),) = open_volumes(loaded.config, "validation")
    found = choose(loaded, [volume, volume], 0)
    assert found.windows == len(seen) > 2 and sum(each.truth.size for each in seen) <= 1300
    assert all(each.truth.any() for each in seen)
    assert f"{len(seen)} windows of 2 validation volumes" in found.sentence()
    plan = make_plan(loaded, volume.image, volume.voxel_size, measured=volume.intensity)
    types, truth = seen[0].maps.types, read_labels(volume.labels)
    whole = Maps.of(predict_maps(plan, volume.image), types, volume.voxel_size, loaded.model.vector_scale)
    for each in seen:
        views = np.lib.stride_tricks.sliding_window_view(truth, each.truth.shape)
        (place,) = np.argwhere((views == each.truth).all((-2, -1)))
        window = tuple(slice(a, a + n) for a, n in zip(place, each.truth.shape))
        for name, array in each.maps.arrays.items():
            difference = array.astype(int) - whole.arrays[name][(slice(None), *window)]
            assert np.abs(difference).max() <= 1  # sums in another order may be rounded otherwise


def test_without_data_or_objects_it_is_said(
    snapshot: Path, image: Path, make_config: Make, tmp_path: Path
) -> None:
    state = read_snapshot(snapshot)
    alone = {**state["cfg"], "data": {**state["cfg"]["data"], "validation": []}}
    write_snapshot({**state, "cfg": alone}, tmp_path / "alone.pt")
    with pytest.raises(ConfigError, match=r"data\.validation: names no data\. Give a folder: --data DIR"):
        tune(tmp_path / "alone.pt", device="cpu")  # data.test, which is there, must not choose
    tune(tmp_path / "alone.pt", data=image.parent, device="cpu", seconds=0)
    loaded = load_model(snapshot, "cpu")
    ((volume, _),) = open_volumes(loaded.config, "validation")
    empty = replace(volume, labels=ArrayVolume("none", np.zeros(volume.shape, np.uint8)))
    with pytest.raises(
        VolumeError, match="No decoder can be chosen: there are no objects in synthetic tubes"
    ):
        choose(loaded, [empty], 0)
    only = {**state["cfg"], "inference": {"decoding": {"type": "WatershedDecoder", "depth_map": "depth"}}}
    write_snapshot({**state, "cfg": only}, tmp_path / "deep.pt")
    with pytest.raises(SnapshotError, match="WatershedDecoder also reads depth"):
        tune(tmp_path / "deep.pt", device="cpu")


def test_json(snapshot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "-s", str(snapshot), "--device", "cpu", "--seconds", "0", "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["decoding"] is None and told["trials"] == 1 and not told["complete"]
