"""`skoots import`: the network of a model file of the original gives here what it gave there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
from original_model import Weights, plain_network, random_weights, save, write_model

import skoots
from skoots.cli.main import main
from skoots.errors import SkootsError
from skoots.geometry import Box
from skoots.volumes import open_volume

LEGACY = Path(__file__).parents[3] / "shared" / "data" / "legacy"
SHAPE = (13, 10, 9)  # row, column, section; no multiples of the stride


@pytest.fixture
def weights() -> Weights:
    torch.manual_seed(0)
    return random_weights()


@pytest.fixture
def old(tmp_path: Path, weights: Weights) -> Path:
    return write_model(tmp_path / "mito.trch", weights)


def in_our_order(values: torch.Tensor) -> torch.Tensor:
    """(B, C, row, column, section) as (B, C, z, y, x)."""
    return values.permute(0, 1, 4, 2, 3)


def assert_same(snapshot: Path, images: torch.Tensor, expected: dict[str, torch.Tensor]) -> None:
    model = skoots.load_model(snapshot, "cpu")
    with torch.no_grad():
        outputs = model(in_our_order(images))
    assert set(outputs) == {"vector", "semantic", "skeleton"}
    for name, there in expected.items():
        here = in_our_order(there)
        here = here[:, [2, 0, 1]] if name == "vector" else here
        assert torch.allclose(outputs[name][name], here, atol=1e-4), name


@pytest.mark.parametrize(
    ("network", "settings", "activation"),
    [
        ({}, {}, F.gelu),
        ({"dims": [4], "depths": [1], "kernel": 5, "in_channels": 2}, {"ACTIVATION": "silu"}, F.silu),
        ({"dims": [2, 3, 4, 3, 2], "depths": [1, 2, 1, 2, 3]}, {"ACTIVATION": "RELU"}, F.relu),
        ({"factors": False}, {"LAYER_SCALE_INIT_VALUE": 0.0, "ACTIVATION": "selu"}, F.selu),
        ({}, {"DROP_PATH_RATE": 0.2, "COMPILE": True, "BLOCK": "block3d"}, F.gelu),
    ],
)
def test_outputs_are_those_of_the_original(
    network: dict[str, Any], settings: dict[str, Any], activation: Any, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    weights = random_weights(**network)
    prefix = "module._orig_mod." if settings.get("COMPILE") else ""
    named = {f"{prefix}{name}": value for name, value in weights.items()}
    old = write_model(tmp_path / "old.trch", named, {"MODEL": settings})
    made = skoots.import_model(old, tmp_path / "new.pt")
    assert made.parameters >= sum(map(torch.Tensor.numel, weights.values()))
    for shape in (SHAPE, (16, 16, 24)):
        images = torch.randn(2, network.get("in_channels", 1), *shape)
        assert_same(made.output, images, plain_network(weights, images, activation))


def test_what_comes_along(tmp_path: Path, weights: Weights) -> None:
    sections = {
        "MODEL": {"DIMS": [3, 5, 3]},
        "SKOOTS": {"VECTOR_SCALING": [20, 30, 6], "ANISOTROPY": (1.0, 1.0, 4.0), "NOTES": "liver"},
        "TRAIN": {"OPTIMIZER": "of another version", "SOMETHING_NEW": 3, "TARGET": "skoots"},
    }
    old = write_model(tmp_path / "mito.trch", weights, sections, dataset_std=torch.tensor([30.0]))
    made = skoots.import_model(old, tmp_path / "new.pt")
    model = skoots.load_model(made.output, "cpu")
    assert isinstance(model, torch.nn.Module) and not model.training and not model.model.training
    assert made.scale == model.model.vector_scale == (6, 20, 30) and model.epoch == made.epoch == 2
    assert model.facts.plain() == {"in_channels": 1, "spatial_dims": 3, "voxel_size": [4, 1, 1]}
    assert model.config.metadata == {"experiment": "mito", "notes": "liver"}
    assert model.intensity is not None and model.config.data.normalize_by == "training"
    assert model.intensity.pooled.shift.tolist() == [90] and model.intensity.pooled.scale.tolist() == [30]


def test_segment_applies_mean_and_deviation(old: Path, weights: Weights, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", np.moveaxis(grey, 2, 0))
    snapshot = tmp_path / "new.pt"
    assert main(["import", str(old), "-o", str(snapshot)]) == 0
    words = ["segment", str(tmp_path / "image.tif"), "--snapshot", str(snapshot), "--maps"]
    assert main([*words, "-o", str(tmp_path / "out.tif"), "--device", "cpu"]) == 0
    images = torch.from_numpy((grey.astype(np.float32) - 90) / 30)[None, None]
    for name, there in plain_network(weights, images).items():
        here = in_our_order(there)[0].numpy()
        here = here[[2, 0, 1]] if name == "vector" else here
        written = open_volume(tmp_path / f"out.{name}.tif")
        found = written.read(Box.of_shape(written.shape)).reshape(here.shape)
        assert np.allclose(found, here, atol=1e-4), name


def test_without_mean_and_deviation_images_go_by_their_own(
    tmp_path: Path, weights: Weights, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write_model(tmp_path / "mito.trch", weights, dataset_mean=None)
    assert main(["import", str(old), "-o", str(tmp_path / "new.pt")]) == 0
    assert "Intensity  not in the file; images are normalised by their own" in capsys.readouterr().out
    model = skoots.load_model(tmp_path / "new.pt", "cpu")
    assert model.intensity is None and model.config.data.normalize_by == "volume"


def test_the_command_says_what_it_made(
    old: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(old.parent)
    assert main(["import", "mito.trch", "-o", "new.pt"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Snapshot   new.pt",
        "Network    UNeXT, 3,839 parameters, after epoch 2",
        "Scale      12, 60, 60 voxels (z, y, x)",
        "Intensity  mean 90, deviation 30",
        "",
        "Next: skoots segment VOLUME --snapshot new.pt",
    ]
    assert main(["inspect", "new.pt"]) == 0
    before = Path("new.pt").read_bytes()
    assert main(["import", "mito.trch", "-o", "new.pt"]) == 2
    assert "new.pt exists; choose another output or say --overwrite." in capsys.readouterr().err
    assert Path("new.pt").read_bytes() == before
    assert main(["import", "mito.trch", "-o", "new.pt", "--overwrite"]) == 0
    assert main(["import", "mito.trch", "-o", "mito.trch", "--overwrite"]) == 2
    assert "is the file that is to be imported" in capsys.readouterr().err
    assert main(["import", "new.pt", "-o", "newer.pt"]) == 2
    assert "holds no weights under the key model_state_dict" in capsys.readouterr().err
    Path("old.yaml").write_text("MODEL: {}")
    assert main(["import", "old.yaml", "-o", "newer.pt"]) == 2
    assert "skoots import-config makes a config of it" in capsys.readouterr().err
    assert not Path("newer.pt").exists()


# What is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"MODEL": {"ARCHITECTURE": "bism_unet"}}, 'MODEL.ARCHITECTURE: is "bism_unet", and a network can'),
        ({"MODEL": {"NORMALIZATION": "batchnorm"}}, 'MODEL.NORMALIZATION: is "batchnorm"'),
        ({"MODEL": {"ACTIVATION": "mish"}}, 'MODEL.ACTIVATION: is "mish", .* gelu or relu or silu or selu'),
        ({"MODEL": {"BLOCK": "block2d"}}, 'MODEL.BLOCK: is "block2d"'),
        ({"MODEL": {"STRIDES": 3}}, "MODEL.STRIDES: unknown key"),
        ({"TRAIN": {"TARGET": "affinity"}}, 'TRAIN.TARGET: is "affinity"'),
        ({"SKOOTS": {"VECTOR_SCALING": [1, 2]}}, r"SKOOTS.VECTOR_SCALING: is \[1, 2\]"),
    ],
)
def test_other_networks_are_refused(
    sections: dict[str, Any], message: str, weights: Weights, tmp_path: Path
) -> None:
    old = write_model(tmp_path / "mito.trch", weights, sections)
    with pytest.raises(SkootsError, match=f"mito.trch has a fault: {message}"):
        skoots.import_model(old, tmp_path / "new.pt")
    assert not (tmp_path / "new.pt").exists()


def without(weights: Weights, name: str) -> Weights:
    return {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: {"a": torch.ones(1)},
            "not those of a UNeXT of the original SKOOTS: they lack backbone.init",
        ),
        (lambda w: without(w, "backbone.out_conv.bias"), "1 missing: backbone.project.bias"),
        (lambda w: {**w, "more": torch.ones(1)}, "1 unexpected: more"),
        (
            lambda w: {**w, "backbone.init_stage.0.weight": torch.ones(3)},
            "init_stage.0.weight has the shape .3,",
        ),
        (lambda w: {**w, "out_embed.bias": torch.ones(2)}, "of another shape: heads.vector.conv.bias"),
        (
            lambda w: {**w, "backbone.out_conv.weight": torch.ones(0, 3, 1, 1, 1)},
            "out_conv.weight has the shape .0, 3",
        ),
        (
            lambda w: {**w, "backbone.out_conv.weight": torch.ones(1, 1, 1, 1, 1).expand(10**6, 3, 1, 1, 1)},
            "more than the file holds, and was refused",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    change: Any, message: str, weights: Weights, tmp_path: Path
) -> None:
    old = write_model(tmp_path / "mito.trch", change(weights))
    with pytest.raises(SkootsError, match=f"mito.trch.*{message}"):
        skoots.import_model(old, tmp_path / "new.pt")
    assert not (tmp_path / "new.pt").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"cfg": None}, "holds no config under the key cfg"),
        ({"model_state_dict": None}, "holds no weights under the key model_state_dict"),
        ({"dataset_mean": "grey"}, "dataset_mean must be a number, and is 'grey'"),
        ({"dataset_std": float("nan")}, "dataset_std must be a number, and is nan"),
        ({"dataset_std": 0}, r"dataset_std is \[0.0\], and images cannot be divided by that"),
        ({"dataset_mean": [1.0, 2.0]}, "dataset_mean has 2 numbers for 1 channels"),
    ],
)
def test_files_of_another_kind_are_refused(
    more: dict[str, Any], message: str, weights: Weights, tmp_path: Path
) -> None:
    old = write_model(tmp_path / "mito.trch", weights, **more)
    with pytest.raises(SkootsError, match=message):
        skoots.import_model(old, tmp_path / "new.pt")


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("place", ["cfg", "model_state_dict", "dataset_mean"])
def test_code_in_a_file_is_not_run(
    place: str, weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bomb = Bomb(f"touch {tmp_path / 'ran'}")
    content = {"cfg": {"MODEL": bomb}, "model_state_dict": {**weights, "bomb": bomb}, "dataset_mean": bomb}
    if place == "cfg":
        old = write_model(tmp_path / "mito.trch", weights, content["cfg"])
    else:
        old = write_model(tmp_path / "mito.trch", weights, **{place: content[place]})
    assert main(["import", str(old), "-o", str(tmp_path / "new.pt")]) == 2
    said = capsys.readouterr().err
    assert "holds more than tensors and plain Python values and was refused" in said and "Trace" not in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mito.trch"]


def test_damaged_files_are_told_in_one_sentence(
    old: Path, weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = old.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(weights["backbone.init_stage.0.weight"].numpy().tobytes()[:16])] ^= 1
    for content in (b"", whole[:1000], whole[: len(whole) // 2], whole[:-10], bytes(flipped)):
        old.write_bytes(content)
        assert main(["import", str(old), "-o", str(tmp_path / "new.pt")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "mito.trch" in line, line
    old.write_text("text")
    assert main(["import", str(old), "-o", str(tmp_path / "new.pt")]) == 2
    assert "mito.trch is no model file of the original SKOOTS" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "no.trch"), "-o", str(tmp_path / "new.pt")]) == 2
    save(object, old)
    assert main(["import", str(old), "-o", str(tmp_path / "new.pt")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mito.trch"]


@pytest.mark.parametrize("name", ["unext_small", "unext_deeper"])
def test_files_that_the_original_wrote(name: str, tmp_path: Path) -> None:
    if not LEGACY.is_dir():
        pytest.skip("not everybody has them")
    made = skoots.import_model(LEGACY / f"{name}.trch", tmp_path / "new.pt")
    arrays = np.load(LEGACY / f"{name}.npz")
    images, outputs = (torch.from_numpy(arrays[f"{key}_bcxyz"]) for key in ("input", "output"))
    expected = {"vector": outputs[:, :3], "skeleton": outputs[:, 3:4], "semantic": outputs[:, 4:]}
    assert_same(made.output, images, expected)
    assert made.scale == (6, 20, 20)
