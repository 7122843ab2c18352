"""Every config that is shipped loads, trains, and opens with its purpose and the command that runs it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from skoots.api import train
from skoots.config import Config, load_config
from skoots.snapshots import read_snapshot

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(path for folder in ("model_configs", "examples") for path in (ROOT / folder).rglob("*.y*ml"))
SHAPES = {2: [32, 32], 3: [16, 32, 32]}
CROPS = {2: [16, 16], 3: [8, 16, 16]}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def dimensions(config: Config) -> int:
    """Of the data that a config is for."""
    if config.data.crop_size != "auto":
        return len(config.data.crop_size)
    return len(config.data.train[0].get("shape", SHAPES[3]))


def two_steps(path: Path) -> list[str]:
    """Overrides that make of a config a training of two steps on tiny synthetic data."""
    config = load_config(path)
    dims = dimensions(config)
    source = {"type": "Synthetic", "shape": SHAPES[dims], "radius": [2.0, 3.0], "seed": 1}
    samples = 2 * config.train_settings.batch_size

    return [
        f"data.train={[{**source, 'samples_per_volume': samples}]}",
        f"data.validation={[{**source, 'seed': 2}]}",
        "data.test=[]",
        f"data.crop_size={CROPS[dims]}",
        "train_settings.epochs=1",
        "train_settings.dataloader_workers=0",
        "inference.tune=0",
        "device=cpu",
    ]


def test_there_are_configs_for_what_is_promised() -> None:
    promised = {"unet3d", "unet2d", "mitochondria_em", "neurites_em", "nuclei", "cells_membrane"}
    assert promised <= {path.stem for path in CONFIGS if path.parent.name == "model_configs"}


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_a_config_trains(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)
    before = path.read_bytes()
    outcome = train(path, two_steps(path), runs=tmp_path, progress=False)
    state = read_snapshot(outcome.latest_snapshot)
    assert (state["epoch"], state["step"], state["nonfinite_steps"]) == (1, 2, 0)
    assert outcome.run_folder.parent.name == path.stem  # what `--snapshot runs/NAME` will find
    assert load_config(path).runner.key_metric in outcome.metrics
    assert outcome.test_scores and outcome.figure is not None
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_a_config_opens_with_its_purpose_and_its_command(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"# [A-Z].{20,}", lines[0]), "the first line says what the config is for"
    comment = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    commands = [line.lstrip("# ") for line in comment if re.match(r"#\s+skoots train ", line)]
    assert commands, "a comment at the top gives the command"
    words = shlex.split(commands[0])
    assert words[:3] == ["skoots", "train", name_of(path)]
    load_config(path, words[3:])  # its overrides are keys of this config
