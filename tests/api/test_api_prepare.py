"""What a training asks of its volumes before it begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skoots.api.build import open_volumes
from skoots.api.check import check
from skoots.api.prepare import prepare, training_crops
from skoots.config import load_config
from skoots.errors import ConfigError, VolumeError
from skoots.samples import Batch

Make = Callable[..., Any]


def test_test_volumes_must_fit_the_training_volumes(
    make_config: Make, write_pair: Callable[..., Any], tmp_path: Path
) -> None:
    write_pair(tmp_path / "flat", "a", shape=(40, 40), voxel_size=(1.0, 1.0))
    write_pair(tmp_path / "thick", "b", voxel_size=(9.0, 1.0, 1.0))
    for folder, said in (
        ("flat", "a.tif is 2D and .* 3D"),
        ("thick", "b.tif has voxels of .*other proportions"),
    ):
        config = make_config(data={"test": [str(tmp_path / folder)]})
        with pytest.raises(VolumeError, match=said):
            prepare(load_config(config))
        with pytest.raises(VolumeError, match=said):
            check(config)
        assert not list((tmp_path / folder).glob("*.trch"))  # only their headers are read
    config = make_config(data={"test": [{"path": str(tmp_path / "flat"), "box": [[0, 0, 0], [9, 9]]}]})
    with pytest.raises(ConfigError, match=r"data\.test\.0: box is"):
        prepare(load_config(config))


def test_targets_do_not_depend_on_what_else_is_in_the_batch(
    make_config: Make, write_pair: Callable[..., Any], tmp_path: Path
) -> None:
    """Volumes of nearly the same proportions are taken for those that the network is built for."""
    for name, seed, size in (("a", 1, (2.0, 1.0, 1.0)), ("b", 2, (46.0, 20.0, 20.0))):
        write_pair(tmp_path / name, name, seed, voxel_size=size)
    sources = [{"path": str(tmp_path / name), "samples_per_volume": 2} for name in ("a", "b")]
    config = load_config(make_config(data={"train": sources, "validation": [sources[1]], "augment": "none"}))
    assert open_volumes(config, "train")[1][0].voxel_size == pytest.approx((46, 20, 20))
    prepared = prepare(config)
    every = [volume for volume, _ in (*prepared.train, *prepared.validation)]
    assert {volume.voxel_size for volume in every} == {(2.0, 1.0, 1.0)}
    assert any("differ in proportion by up to 15.0%" in line for line in prepared.decided)
    crops = training_crops(prepared)
    first, second = crops.sample((1, 0)), crops.sample((1, 2))
    assert "b from" in second.origin
    model = prepared.model
    alone = model.targets(Batch.collate([second]))
    mixed = model.targets(Batch.collate([first, second]))
    for head, targets in alone.items():
        for name, values in targets.items():
            if isinstance(values, torch.Tensor) and values.shape[:1] == (1,):
                assert np.array_equal(values[0].numpy(), mixed[head][name][1].numpy()), (head, name)
