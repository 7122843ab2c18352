from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from skoots.config import Config, load_config, write_config
from skoots.errors import ConfigError, Fault

EVERYTHING = """
data:
  train:
    - {path: a, samples_per_volume: 4}
    - b
  validation: c
  crop_size: [16, 32, 32]
  voxel_size: [2.5, 1, 1]
  normalize: {type: percentile}
  augment: [Flip]
  ignore_label: -1
  skeleton: {algorithm: kimimaro}
device: cuda
metadata: {experiment: mito, notes: [1, {two: null}]}
model:
  backbone: {type: UNet, channels: [4, 8], freeze_bn_stats: true}
  neck:
  heads:
    vector:
      type: VectorHead
      params: {scale: [10, 20, 20], sigma_decay: [[0.5, 20]]}
      criterion: {type: Tversky, alpha: 0.25, beta: 0.75}
    semantic:
    skeleton:
      type: SkeletonHead
      start_epoch: 3
      target_generator: {type: SkeletonMaskTarget, radius: auto}
      criterion: [{type: Tversky, weight: 2}, BCE]
runner:
  key_metric: test.loss.vector
  optimizer: {type: adamw, lr: 1e-4}
  scheduler: {type: cosine_annealing_warm_restarts, params: {T_0: 10}}
  gpus: [1]
  clip_gradient: 1
logger:
  - {type: TensorBoardLogger}
inference: {tile: [32, 64, 64], halo: [0, 8, 8], decoding: {steps: 3}}
"""


def write(folder: Path, text: str, name: str = "my.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def faults_of(*arguments: object, **options: object) -> list[Fault]:
    with pytest.raises(ConfigError) as caught:
        load_config(*arguments, **options)  # type: ignore[arg-type]
    return caught.value.faults


@pytest.fixture()
def everything(tmp_path: Path) -> Path:
    from skoots.loggers.base import LOGGERS

    name = next(name for name in LOGGERS.names() if "tensorboard" in name.lower())
    return write(tmp_path, EVERYTHING.replace("TensorBoardLogger", name))


def test_empty_config_is_all_defaults() -> None:
    config = load_config({})
    assert config == load_config(
        {"model": None, "runner": {"snapshots": None, "scheduler": None}, "logger": None}
    )
    assert config.train_settings.epochs == 100 and config.runner.snapshots.max_snapshots == 5
    assert list(config.model.heads) == ["vector", "semantic", "skeleton"]
    assert config.runner.key_metric_asc is True and config.source is None


def test_shorthands_are_written_out(everything: Path) -> None:
    config = load_config(everything)
    assert config.source == everything
    assert config.data.train == [
        {"type": "Folder", "path": "a", "samples_per_volume": 4},
        {"type": "Folder", "path": "b"},
    ]
    assert config.data.validation == [{"type": "Folder", "path": "c"}]
    assert config.data.normalize == "percentile" and config.data.augment == [{"type": "Flip"}]
    assert config.model.heads["semantic"] == {"type": "SemanticHead"}
    assert config.model.heads["skeleton"]["criterion"] == [{"type": "Tversky", "weight": 2}, {"type": "BCE"}]
    assert config.runner.key_metric_asc is False  # a loss
    assert config.runner.optimizer["lr"] == 1e-4


def test_resolved_config_loads_back_and_the_file_is_left_alone(everything: Path, tmp_path: Path) -> None:
    before = everything.read_bytes()
    config = load_config(everything)
    written = tmp_path / "run" / "pytorch_config.yaml"
    written.parent.mkdir()
    write_config(config, written)
    assert load_config(written) == config == load_config(config.resolved())
    assert yaml.safe_load(written.read_text()) == config.resolved()  # any YAML reader reads it
    with pytest.raises(ConfigError, match="never written over it"):
        write_config(config, everything)
    with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
        write_config(config, tmp_path / "nowhere" / "x.yaml")
    assert everything.read_bytes() == before


def test_null_is_a_choice_where_the_default_is_another() -> None:
    tree = {"runner": {"image_log_interval": None, "snapshots": {"save_minutes": None}}}
    for config in (load_config(tree), load_config(load_config(tree).resolved())):
        assert config.runner.image_log_interval is None and config.runner.snapshots.save_minutes is None
    assert load_config({}, ["runner.image_log_interval=null"]).runner.image_log_interval is None
    assert load_config({}).runner.image_log_interval == 25


def test_sections_do_not_change() -> None:
    config = load_config({})
    with pytest.raises(ValueError, match="frozen"):
        config.train_settings.epochs = 3  # type: ignore[misc]
    assert load_config({}).model.heads["vector"] is not config.model.heads["vector"]


def test_mappings_may_hold_what_python_uses() -> None:
    source = {
        "data": {"train": [Path("a")], "voxel_size": np.array([2.0, 1.0]), "crop_size": (np.int64(8), 16)},
        "train_settings": {"epochs": np.int32(4)},
    }
    config = load_config(source)
    assert config.data.train == [{"type": "Folder", "path": "a"}]
    assert config.data.voxel_size == [2.0, 1.0] and config.data.crop_size == [8, 16]
    assert type(config.train_settings.epochs) is int
    assert isinstance(source["data"]["train"][0], Path)  # not changed
    assert str(faults_of({"metadata": {"x": {1, 2}}})[0]).startswith("metadata.x: is a set. A config holds")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "my.yaml is empty. Write at least"),
        ("# only words\n", "my.yaml is empty"),
        ("- a\n", 'my.yaml holds ["a"] and no sections'),
        ("runner: {type: a", "my.yaml has a fault: line 1, column 9: the bracket"),
        ("device: cpu\ndevice: cpu\n", "device: is given twice (lines 1 and 2)"),
    ],
)
def test_files_that_are_no_config(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert sentence in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path, "device: cpu")
    with pytest.raises(ConfigError, match=r"mi.yaml does not exist. Did you mean my.yaml\?"):
        load_config(tmp_path / "mi.yaml")
    with pytest.raises(ConfigError, match=r"does not exist. Check the path."):
        load_config(str(tmp_path / "no" / "folder.yaml"))
    with pytest.raises(ConfigError, match=r"is a folder\. Give a YAML file."):
        load_config(tmp_path)
    (tmp_path / "image.tif").write_bytes(b"II*\x00\xff\xfe\x80")
    with pytest.raises(ConfigError, match=r"image\.tif is not UTF-8 text"):
        load_config(tmp_path / "image.tif")
    (tmp_path / "bom.yaml").write_bytes("device: cpu\r\n".encode("utf-8-sig"))
    assert load_config(tmp_path / "bom.yaml").device == "cpu"


def test_all_faults_come_together_with_their_paths() -> None:
    faults = faults_of(
        {
            "data": {
                "train": {"path": "a", "samples_per_volum": 3},
                "crop_size": [1, "a"],
                "voxel_size": [0, 1],
            },
            "modle": {},
            "device": "banana",
            "method": "bottom-up",
            "runner": {
                "epochs": 3,
                "eval_interval": 0,
                "gpus": "zero",
                "snapshots": 7,
                "optimzer": {"type": "SGD"},
            },
            "train_settings": {
                "epochs": -3,
                "batch_size": 0,
                "seed": 1.5,
                "dataloader_pin_memory": "yes",
                "display_iters": True,
            },
            "logger": {"type": "WandbLoger"},
            "model": {"heads": {"vector": {"scale": 3}, "other": 5}, "backbone": {"type": "UNt"}},
        },
        ["train_settings.dataloader_workers=-1"],
    )
    assert sorted(map(str, faults)) == sorted(
        [
            "modle: unknown key. Did you mean model?",
            'data.crop_size: is [1, "a"], must be "auto" or a list of 2 to 3 integers of at least 1.',
            "data.voxel_size: is [0, 1], must be a list of 2 to 3 numbers greater than 0 or null.",
            "data.train.samples_per_volum: unknown key of Folder. Did you mean samples_per_volume?",
            'device: is "banana", must be auto, cpu, mps, cuda or, e.g., cuda:1.',
            'method: is "bottom-up", must be "bu" or "td".',
            "runner.epochs: unknown key. It belongs under train_settings.",
            "runner.optimzer: unknown key. Did you mean optimizer?",
            "runner.eval_interval: is 0, must be an integer of at least 1.",
            'runner.gpus: is "zero", must be a list of integers of at least 0 or null.',
            "runner.snapshots: is 7, must be a section of keys and values.",
            "train_settings.epochs: is -3, must be an integer of at least 1.",
            "train_settings.batch_size: is 0, must be an integer of at least 1.",
            "train_settings.seed: is 1.5, must be an integer of at least 0.",
            'train_settings.dataloader_pin_memory: is "yes", must be true or false.',
            "train_settings.display_iters: is true, must be an integer of at least 1.",
            'train_settings.dataloader_workers: is -1, must be "auto" or an integer of at least 0.',
            "logger.type: logger 'WandbLoger' is not registered. Did you mean WandbLogger?",
            'model.heads.vector: names no part, is {"scale": 3}. Add type: Name.',
            "model.heads.other: must be a part, is 5. Write its name, or {type: Name, ...arguments}.",
            "model.backbone.type: backbone 'UNt' is not registered. Did you mean UNet or UNeXT?",
        ]
    )


# Plugins

PLUGIN = """
from skoots.models.predictors.base import PREDICTORS, Predictor

@PREDICTORS.register("{name}")
class Plugged(Predictor):
    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def __call__(self, outputs):
        return outputs
"""


@pytest.fixture()
def clean_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    from skoots.models.predictors.base import PREDICTORS

    PREDICTORS.names()
    monkeypatch.setattr(PREDICTORS, "_parts", dict(PREDICTORS._parts))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))


def using(name: str, **more: object) -> dict[str, object]:
    return {"model": {"heads": {"semantic": {"type": "SemanticHead", "predictor": {"type": name, **more}}}}}


@pytest.mark.usefixtures("clean_registry")
def test_plugins_of_the_config_are_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, PLUGIN.format(name="beside"), "my_part.py")
    path = write(tmp_path, yaml.safe_dump({**using("beside", factor=2), "plugins": ["./my_part.py"]}))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    config = load_config(path)
    assert config.plugins == [str(tmp_path / "my_part.py")]  # so that it is found from the run folder too
    write_config(config, elsewhere / "run.yaml")
    assert load_config(elsewhere / "run.yaml") == config
    assert str(faults_of(using("beside", factr=2))[0]) == (
        "model.heads.semantic.predictor.factr: unknown key of Plugged. Did you mean factor?"
    )


@pytest.mark.usefixtures("clean_registry")
def test_plugins_given_are_modules_or_files_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, PLUGIN.format(name="file_here"), "part_file.py")
    write(tmp_path, PLUGIN.format(name="module_here"), "part_module_for_test.py")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    config = load_config(using("file_here"), plugins=["part_file.py", "part_module_for_test"])
    assert config.plugins == [str(tmp_path / "part_file.py"), "part_module_for_test"]
    assert load_config(using("module_here")).plugins == []


def test_plugins_that_fail_are_faults_beside_the_others(tmp_path: Path) -> None:
    path = write(tmp_path, "plugins: [./nope.py, no_such_module_x]\ndevice: banana\n")
    faults = faults_of(path, plugins=["nor_this_one"])
    assert [fault.path for fault in faults] == ["plugins.0", "plugins.1", "plugins", "device"]
    assert str(faults[0]) == f"plugins.0: Plugin file {tmp_path / 'nope.py'} does not exist."
    assert str(faults[1]).endswith("No module named 'no_such_module_x'. Is it installed?")
    assert str(faults_of({"plugins": 5})[0]) == "plugins: is 5, must be a list of texts."


@pytest.mark.usefixtures("clean_registry")
def test_code_of_strangers_is_not_run(tmp_path: Path) -> None:
    """What a snapshot asks for is loaded only if the user gives it."""
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    ours.mkdir()
    write(theirs, "raise SystemExit('code of a stranger ran')", "part.py")
    write(ours, PLUGIN.format(name="strange"), "part.py")
    snapshot = {**using("strange"), "plugins": [str(theirs / "part.py")]}
    faults = faults_of(snapshot, trusted=False)
    assert [fault.path for fault in faults] == ["plugins.0", "model.heads.semantic.predictor.type"]
    assert f"give it yourself: --plugin {theirs / 'part.py'}" in str(faults[0])
    config = load_config(snapshot, plugins=[str(ours / "part.py")], trusted=False)
    assert config.plugins == [str(ours / "part.py")]
    assert load_config({"plugins": ["json"]}, trusted=False).plugins == ["json"]  # imported already


def test_equality_is_of_values(everything: Path) -> None:
    assert load_config(everything) == load_config(load_config(everything).resolved())
    assert load_config(everything) != load_config(everything, ["train_settings.seed=7"])
    assert load_config({}) != {} and isinstance(load_config({}), Config)
