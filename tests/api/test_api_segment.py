"""``segment``: where outputs go, what is checked before the work, and what is written."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from float_maps import decode, in_order

from skoots.api import TrainingOutcome, load_model, segment, train
from skoots.api.segment import default_output, make_plan, predict_maps
from skoots.errors import ConfigError, SkootsError, SnapshotError, VolumeError
from skoots.volumes import open_volume, write_volume

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("volume", "output"),
    [
        ("a/cell.tif", "a/cell.segmentation.tif"),
        ("a/cell.tiff", "a/cell.segmentation.tif"),
        ("cell.ome.tif", "cell.segmentation.tif"),
        ("cell.ome.tiff", "cell.segmentation.tif"),
        ("cell.npy", "cell.segmentation.tif"),
        ("a.b/cell.1.tif", "a.b/cell.1.segmentation.tif"),
        ("a/cell.zarr", "a/cell.segmentation.zarr"),
        ("a/cell.ome.zarr", "a/cell.segmentation.zarr"),
        ("a/cell.zarr/raw/0", "a/cell.segmentation.zarr"),
        ("a/cell.h5:/raw", "a/cell.segmentation.tif"),
        ("a/cell.hdf5:/group/raw", "a/cell.segmentation.tif"),
        ("a/cell.1.h5", "a/cell.1.segmentation.tif"),
    ],
)
def test_outputs_lie_beside_the_volume_by_default(volume: str, output: str) -> None:
    assert default_output(Path(volume)) == Path(output)


@pytest.mark.parametrize("extension", ["tif", "zarr"])
def test_labels_are_written_with_the_voxel_size(
    extension: str, trained: TrainingOutcome, write_pair: Make, tmp_path: Path
) -> None:
    image, _ = write_pair(tmp_path, "cell", 7, extension=extension)
    result = segment(tmp_path / f"cell.{extension}", trained.run_folder, progress=False)
    assert result.output == tmp_path / f"cell.segmentation.{extension}"
    assert result.shape == image.shape and result.maps == {} and result.seconds > 0
    written = open_volume(result.output)
    assert (written.dtype, written.shape, written.voxel_size) == (np.int32, image.shape, (2.0, 1.0, 1.0))
    labels = written.read_all()
    assert np.unique(labels).tolist() == list(range(result.objects + 1)) and result.objects > 0


def test_labels_are_the_decoding_of_the_models_maps(
    trained: TrainingOutcome, write_pair: Make, tmp_path: Path
) -> None:
    write_pair(tmp_path, "cell", 7)
    result = segment(tmp_path / "cell.tif", trained.run_folder, progress=False, decoding={"min_size": 20})
    loaded, image = load_model(trained.run_folder, "cpu"), open_volume(tmp_path / "cell.tif")
    plan = make_plan(loaded, image, (2.0, 1.0, 1.0), decoding={"min_size": 20})
    maps = predict_maps(plan, image)
    expected = decode(maps, loaded.model.vector_scale, (2.0, 1.0, 1.0), plan.decoder)
    labels = open_volume(result.output).read_all()
    assert np.bincount(labels.ravel())[1:].min() >= 20
    assert np.array_equal(labels, expected)
    everything = segment(tmp_path / "cell.tif", trained.run_folder, tmp_path / "all.tif", progress=False)
    assert everything.objects >= result.objects > 0


def test_tiles_change_nothing(trained: TrainingOutcome, write_pair: Make, tmp_path: Path) -> None:
    write_pair(tmp_path, "cell", 7)
    whole, tiles = (
        open_volume(
            segment(
                tmp_path / "cell.tif", trained.run_folder, tmp_path / f"{n}.npy", tile=tile, progress=False
            ).output
        ).read_all()
        for n, tile in enumerate([None, (5, 8, 11)])
    )
    assert (
        in_order(whole) == in_order(tiles)
    ).mean() > 0.99  # single precision: a voxel on a threshold may flip


def test_maps_are_written_beside(trained: TrainingOutcome, write_pair: Make, tmp_path: Path) -> None:
    write_pair(tmp_path, "cell", 7)
    result = segment(
        tmp_path / "cell.tif", trained.run_folder, tmp_path / "out.zarr", maps=True, progress=False
    )
    names = ("vector", "semantic", "skeleton")
    assert result.maps == {name: tmp_path / f"out.{name}.zarr" for name in names}
    image = open_volume(tmp_path / "cell.tif")
    expected = predict_maps(make_plan(load_model(trained.run_folder, "cpu"), image, (2.0, 1.0, 1.0)), image)
    for name in names:
        written = open_volume(result.maps[name])
        assert (written.dtype, written.voxel_size) == (np.float32, (2.0, 1.0, 1.0))
        assert np.allclose(written.read_all().reshape(expected[name].shape), expected[name], atol=1e-5)


def test_hdf5_in_and_out(trained: TrainingOutcome, write_pair: Make, tmp_path: Path) -> None:
    image, _ = write_pair(tmp_path, "cell", 7)
    write_volume(f"{tmp_path}/store.h5:/raw", image, (2.0, 1.0, 1.0))
    for target in (f"{tmp_path}/store.h5:/labels", f"{tmp_path}/new.h5:/a/b"):
        result = segment(f"{tmp_path}/store.h5:/raw", trained.run_folder, target, maps=True, progress=False)
        assert open_volume(target).read_all().max() == result.objects
        for name, channels in (("vector", 3), ("semantic", 1), ("skeleton", 1)):
            assert str(result.maps[name]) == target.replace(".h5:", f".{name}.h5:")
            assert open_volume(result.maps[name]).channels == channels
    assert np.array_equal(open_volume(f"{tmp_path}/store.h5:/raw").read_all(), image)


def test_what_exists_is_kept(trained: TrainingOutcome, write_pair: Make, tmp_path: Path) -> None:
    write_pair(tmp_path, "cell", 7)
    precious = tmp_path / "out.semantic.tif"
    precious.write_bytes(b"precious")
    arguments: Any = (tmp_path / "cell.tif", trained.run_folder, tmp_path / "out.tif")
    with pytest.raises(VolumeError, match=r"out\.semantic\.tif"):
        segment(*arguments, maps=True, progress=False)
    assert precious.read_bytes() == b"precious" and not (tmp_path / "out.tif").exists()
    segment(*arguments, maps=True, overwrite=True, progress=False)
    with pytest.raises(VolumeError, match=r"out\.tif"):
        segment(*arguments, progress=False)


def test_outputs_are_checked_before_the_model_is_looked_for(write_pair: Make, tmp_path: Path) -> None:
    write_pair(tmp_path, "cell", 7)
    with pytest.raises(VolumeError, match=r"cell\.tif is not a folder"):
        segment(tmp_path / "cell.tif", "no-such-run", tmp_path / "cell.tif" / "out.tif", progress=False)
    with pytest.raises(VolumeError, match=r"out\.png names no format"):
        segment(tmp_path / "cell.tif", "no-such-run", tmp_path / "out.png", progress=False)
    with pytest.raises(SnapshotError, match="no-such-run"):
        segment(tmp_path / "cell.tif", "no-such-run", progress=False)


def test_a_failure_halfway_leaves_nothing(
    trained: TrainingOutcome, write_pair: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path, "cell", 7)
    before = sorted(tmp_path.iterdir())

    def fail(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    module = importlib.import_module("skoots.api.segment")  # the verb of the same name hides it
    monkeypatch.setattr(module, "segment_volume", fail)
    for extension in ("tif", "zarr"):
        with pytest.raises(KeyboardInterrupt):
            segment(
                tmp_path / "cell.tif",
                trained.run_folder,
                tmp_path / f"out.{extension}",
                maps=True,
                progress=False,
            )
    assert sorted(tmp_path.iterdir()) == before


def test_volumes_that_do_not_fit_the_model_are_refused(
    trained: TrainingOutcome, tmp_path: Path, write_pair: Make
) -> None:
    rng = np.random.default_rng(0)
    write_volume(tmp_path / "flat.tif", rng.random((30, 30), np.float32))
    with pytest.raises(VolumeError, match=r"flat\.tif is 2D and the model in .* is 3D"):
        segment(tmp_path / "flat.tif", trained.run_folder, progress=False)
    write_volume(tmp_path / "colours.tif", rng.random((2, 8, 16, 16), np.float32), channels=2)
    with pytest.raises(VolumeError, match=r"colours\.tif has 2 channels and the model in .* takes 1"):
        segment(tmp_path / "colours.tif", trained.run_folder, progress=False)
    write_pair(tmp_path, "cell", 7)
    with pytest.raises(SkootsError, match="2 numbers for the 3 axes"):
        segment(tmp_path / "cell.tif", trained.run_folder, tile=(8, 8), progress=False)
    with pytest.raises(ConfigError, match=r"inference\.decoding"):
        segment(tmp_path / "cell.tif", trained.run_folder, decoding={"min_sise": 8}, progress=False)
    assert not list(tmp_path.glob("*segmentation*"))


def test_voxel_sizes_that_are_missing_or_unlike_are_said(
    trained: TrainingOutcome, write_pair: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def said(**named: Any) -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "skoots"):
            segment(tmp_path / "cell.npy", trained.run_folder, overwrite=True, progress=False, **named)
        return " ".join(record.getMessage() for record in caplog.records)

    write_pair(tmp_path, "cell", 7, extension="npy", voxel_size=None)
    assert "states no voxel size; taken to be that of the training data, (2.0, 1.0, 1.0)" in said()
    assert open_volume(tmp_path / "cell.segmentation.tif").voxel_size == (2.0, 1.0, 1.0)  # what was used
    assert "in proportion unlike those of the training data" in said(voxel_size=(1.0, 1.0, 1.0))
    assert said(voxel_size=(0.08, 0.04, 0.04)) == ""  # any unit will do
    assert open_volume(tmp_path / "cell.segmentation.tif").voxel_size == pytest.approx((0.08, 0.04, 0.04))


def test_the_voxel_size_reaches_the_decoding(
    trained: TrainingOutcome, write_pair: Make, tmp_path: Path
) -> None:
    write_pair(tmp_path, "cell", 7)
    plans = [
        make_plan(load_model(trained.run_folder), open_volume(tmp_path / "cell.tif"), size)
        for size in [(2.0, 1.0, 1.0), (5.0, 1.0, 1.0)]
    ]
    assert [plan.voxel_size for plan in plans] == [(2.0, 1.0, 1.0), (5.0, 1.0, 1.0)]


def test_a_2d_model_from_training_to_labels(make_config: Make, write_pair: Make, tmp_path: Path) -> None:
    run = train(make_config(2), runs=tmp_path / "runs", progress=False)
    write_pair(tmp_path, "cell", 7, shape=(33, 41), voxel_size=(0.5, 0.5))
    result = segment(tmp_path / "cell.tif", run.run_folder, maps=True, progress=False)
    assert open_volume(result.output).shape == result.shape == (33, 41)
    assert open_volume(result.output).voxel_size == (0.5, 0.5)
    assert open_volume(result.maps["vector"]).channels == 2


def test_tile_and_halo_of_the_config_are_taken(make_config: Make, write_pair: Make, tmp_path: Path) -> None:
    config = make_config(inference={"tile": [4, 8, 8], "halo": [1, 2, 3]})
    run = train(config, runs=tmp_path / "runs", progress=False)
    write_pair(tmp_path, "cell", 7)
    loaded, image = load_model(run.run_folder, "cpu"), open_volume(tmp_path / "cell.tif")
    plan = make_plan(loaded, image, (2.0, 1.0, 1.0))
    assert (plan.core, plan.halo) == ((4, 8, 8), (1, 2, 3))
    assert make_plan(loaded, image, (2.0, 1.0, 1.0), tile=(3, 3, 3)).core == (3, 3, 3)
