"""`skoots import-config` on real files: what it writes and refuses, and that the new config trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from skoots.api import import_config
from skoots.cli.main import main
from skoots.config.yaml12 import parse
from skoots.errors import SkootsError
from skoots.synthetic import make_volume
from skoots.volumes import write_volume

OLD = "TRAIN:\n  NUM_EPOCHS: 20\n  SAVE_PATH: my models\n"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "old mito.yaml"
    path.write_text(OLD)
    return path


def test_the_command_writes_and_says_what_next(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import-config", str(old)]) == 0
    captured = capsys.readouterr()
    assert captured.out == "Config  pytorch_config.yaml\n\nNext: skoots check pytorch_config.yaml\n"
    text = Path("pytorch_config.yaml").read_text()
    assert text.startswith("# old mito.yaml, a config of the original SKOOTS")
    assert "#   skoots train pytorch_config.yaml --runs 'my models'\n" in text
    config, faults = parse(text)
    assert faults == [] and config["train_settings"]["epochs"] == 20
    assert config["metadata"]["experiment"] == "old mito"
    said = captured.err.splitlines()
    changed = said.index("Set in the old config and without a counterpart:")
    assert said[changed + 1].startswith('  TRAIN.SAVE_PATH: is "my models"; an option of the command')
    assert any(line.startswith("  TRAIN.TRANSFORM_DEVICE: ") for line in said[changed + 2 :])
    for line in said:
        if line.startswith("  "):
            assert f"# {line.split(': ')[0].strip()}: " in text


def test_nothing_is_overwritten_unasked(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("new.yaml").write_text("mine")
    assert main(["import-config", str(old), "-o", "new.yaml"]) == 2
    assert capsys.readouterr().err == "skoots: new.yaml exists; choose another output or say --overwrite.\n"
    assert Path("new.yaml").read_text() == "mine"
    assert main(["import-config", str(old), "-o", "new.yaml", "--overwrite"]) == 0
    assert main(["import-config", str(old), "-o", str(old), "--overwrite"]) == 2
    assert old.read_text() == OLD
    assert sorted(path.name for path in old.parent.iterdir()) == ["new.yaml", "old mito.yaml"]


def test_faults_leave_no_file(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old.write_text("TRAIN: {NUM_EPOCH: 3}")
    assert main(["import-config", str(old)]) == 2
    error = capsys.readouterr().err
    assert error.endswith("TRAIN.NUM_EPOCH: unknown key. Did you mean NUM_EPOCHS?\n") and old.name in error
    assert main(["import-config", "nowhere.yml"]) == 2
    assert "nowhere.yml does not exist" in capsys.readouterr().err
    assert list(old.parent.iterdir()) == [old]
    old.write_text(OLD)
    assert main(["import-config", str(old), "-o", "no/new.yaml"]) == 2
    told = "no/new.yaml cannot be written: No such file or directory. Choose another path.\n"
    assert capsys.readouterr().err.endswith(told)


def test_the_config_of_a_model_file(tmp_path: Path) -> None:
    config = {"TRAIN": {"NUM_EPOCHS": 7}, "SKOOTS": {"VECTOR_SCALING": (1, 2, 3)}}
    path = tmp_path / "model.trch"
    torch.save({"cfg": config, "model_state_dict": {"w": torch.ones(1)}}, path)
    made = import_config(path, tmp_path / "new.yaml")
    assert made.config["train_settings"]["epochs"] == 7
    assert made.config["model"]["heads"]["vector"]["scale"] == [3, 1, 2]
    torch.save({"model_state_dict": {"w": torch.ones(1)}}, path)
    with pytest.raises(SkootsError, match="holds no config"):
        import_config(path, tmp_path / "newer.yaml")


def write_folder(folder: Path, seed: int) -> None:
    """A tiny volume; its labels too, unless it is background."""
    folder.mkdir()
    image, labels = make_volume((12, 24, 24), seed, radius=(2.0, 3.0))
    write_volume(folder / "a.tif", (image * 255).astype(np.uint8))
    if folder.name != "background":
        write_volume(folder / "a.labels.tif", labels.astype(np.uint16))


@pytest.mark.slow
def test_the_new_config_trains(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)
    for name, seed in (("train", 1), ("validation", 2), ("background", 3)):
        write_folder(old.parent / name, seed)
    old.write_text(
        "MODEL: {DIMS: [4, 8, 4]}\n"
        "TRAIN:\n"
        "  TRAIN_DATA_DIR: [train]\n"
        "  TRAIN_SAMPLE_PER_IMAGE: [2]\n"
        "  VALIDATION_DATA_DIR: [validation]\n"
        "  BACKGROUND_DATA_DIR: [background]\n"
        "  BACKGROUND_SAMPLE_PER_IMAGE: [2]\n"
        "AUGMENTATION: {CROP_WIDTH: 16, CROP_HEIGHT: 16, CROP_DEPTH: 8}\n"
    )
    assert main(["import-config", str(old), "-o", "new.yaml"]) == 0

    few = ["train_settings.epochs=1", "runner.snapshots.save_epochs=1"]
    assert main(["train", "new.yaml", *few, "runner.warmup_steps=1", "device=cpu", "--quiet"]) == 0
    (run,) = Path("runs", "old mito").iterdir()
    assert (run / "snapshot-latest.pt").is_file() and any(run.glob("events.out.tfevents.*"))
    assert parse((run / "pytorch_config.yaml").read_text())[0]["data"]["crop_size"] == [8, 16, 16]
