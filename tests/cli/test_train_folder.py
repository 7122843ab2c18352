"""``skoots train FOLDER``: one training after the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from skoots.cli.main import main

CONFIG = """
data:
  train: [{type: Synthetic, shape: [24, 24], samples_per_volume: 2, radius: [2.0, 3.0]}]
  crop_size: [16, 16]
model:
  backbone: {type: UNet, channels: [4, 8]}
  heads: {vector: {type: VectorHead, scale: 6.0}, semantic: , skeleton: }
runner: {key_metric: test.loss}
train_settings: {epochs: 1}
"""


def test_every_config_is_trained_and_a_fault_stops_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "configs"
    folder.mkdir()
    for name, text in {
        "a.yaml": CONFIG,
        "b.yml": CONFIG.replace("scale:", "scal:"),
        "c.yaml": CONFIG,
        "notes.txt": "no config",
    }.items():
        (folder / name).write_text(text)
    assert main(["train", "configs", "--quiet"]) == 2
    told = capsys.readouterr()
    table = [line.split() for line in told.out.splitlines()]
    assert [row[0] for row in table] == ["config", "a.yaml", "b.yml", "c.yaml"]
    assert [row[1] for row in table[1:]] == ["1", "-", "1"]
    assert "scal: unknown key" in told.out and "Did you mean scale?" in told.err
    for name in ("a", "c"):
        assert list((tmp_path / "runs" / name).glob("RUN_*/snapshot-latest.pt"))


def test_all_well_is_status_0_and_nothing_to_train_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    assert main(["train", "configs"]) == 2
    assert "configs holds no config" in capsys.readouterr().err
    (tmp_path / "configs" / "a.yaml").write_text(CONFIG)
    assert main(["train", "configs", "--resume"]) == 2
    assert "--resume goes with one config" in capsys.readouterr().err
    assert main(["train", "configs", "--quiet"]) == 0
