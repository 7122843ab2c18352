"""Looking at volumes, with a stand-in for napari."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skoots.api import view
from skoots.errors import SkootsError
from skoots.volumes import write_volume


class Viewer:
    """Remembers its layers."""

    def __init__(self, title: str) -> None:
        self.layers: list[tuple[str, np.ndarray, dict[str, Any]]] = []
        made.append(self)

    def add_image(self, array: np.ndarray, **options: Any) -> None:
        self.layers.append(("image", array, options))

    def add_labels(self, array: np.ndarray, **options: Any) -> None:
        self.layers.append(("labels", array, options))


made: list[Viewer] = []


def test_layers_lie_in_physical_proportion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    write_volume(tmp_path / "a.tif", image, voxel_size=(3.0, 1.0, 1.0), unit="nm")
    write_volume(tmp_path / "b.tif", (image > 50).astype(np.uint16), voxel_size=(3.0, 1.0, 1.0), unit="nm")
    runs: list[bool] = []
    stand_in = types.SimpleNamespace(Viewer=Viewer, run=lambda: runs.append(True))
    monkeypatch.setitem(sys.modules, "napari", stand_in)
    view(tmp_path / "a.tif", [tmp_path / "b.tif"])
    (first, array, options), (second, labels, below) = made[-1].layers
    assert (first, second, runs) == ("image", "labels", [True])
    np.testing.assert_array_equal(array, image)
    np.testing.assert_array_equal(labels, image > 50)
    assert options["scale"] == below["scale"] == (3.0, 1.0, 1.0)
    assert options["channel_axis"] is None and below["name"] == "b.tif"


def test_without_napari_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "napari", None)
    with pytest.raises(SkootsError, match=r"pip install 'skoots\[napari\]'"):
        view(tmp_path / "a.tif")
