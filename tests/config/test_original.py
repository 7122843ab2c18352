"""A config of the original SKOOTS means the same as one of ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from skoots.config import load_config
from skoots.config.annotated import Line, plain, render
from skoots.config.original import WITHOUT_COUNTERPART, Translation, translate
from skoots.config.original_settings import OriginalSettings, each_setting, parse_settings, read_settings
from skoots.config.yaml12 import parse
from skoots.errors import ConfigError
from skoots.models.heads.vector import VectorHead
from skoots.training.schedules import rehearse

PAGE = Path(__file__).parents[2] / "docs" / "original_skoots.md"
SETTINGS = list(each_setting(OriginalSettings()))
OTHER_NAMES = {
    "MODEL.ARCHITECTURE": "bism_unet",
    "MODEL.ACTIVATION": "SiLU",
    "MODEL.KERNEL_SIZE": 5,
    "MODEL.NORMALIZATION": "batchnorm",
    "TRAIN.OPTIMIZER": "adamax",
}
FOLDERS = {
    f"{kind}_{name}": value
    for kind in ("TRAIN", "VALIDATION", "BACKGROUND")
    for name, value in (("DATA_DIR", [kind.lower()]), ("SAMPLE_PER_IMAGE", [3]))
}


def imported(text: str = "SYSTEM: {}", gpus: int = 0) -> Translation:
    return translate(parse_settings(text), gpus=gpus)


def at(tree: dict[str, Any], path: str) -> Any:
    value: Any = tree
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


# What a setting becomes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "path", "value"),
    [
        (
            "MODEL: {ARCHITECTURE: bism_unet, DIMS: [8, 16, 32, 16, 8], NORMALIZATION: batchnorm}",
            "model.backbone",
            {"type": "UNet", "channels": [8, 16, 32], "norm": "batch"},
        ),
        (
            "MODEL: {DIMS: [8, 16, 8], DEPTHS: [1, 3, 2], KERNEL_SIZE: 5, ACTIVATION: ReLU, OUT_CHANNELS: 4}",
            "model.backbone",
            {
                **{"type": "UNeXT", "dims": [8, 16, 8], "depths": [1, 3, 2], "kernel": 5, "out_channels": 4},
                **{"activation": "relu", "drop_path": 0, "layer_scale": 1},
            },
        ),
        ("MODEL: {COMPILE: true}", "runner.compile", True),
        ("SKOOTS: {VECTOR_SCALING: [1, 2, 3]}", "model.heads.vector.scale", [3, 1, 2]),
        ("SKOOTS: {ANISOTROPY: [1.5, 1, 4]}", "data.voxel_size", [4, 1.5, 1]),
        ("SKOOTS: {NOTES: 'first try: mice'}", "metadata.notes", "first try: mice"),
        ("AUGMENTATION: {BAKE_SKELETON_ANISOTROPY: [1, 1, 5]}", "data.voxel_size", [5, 1, 1]),
        ("AUGMENTATION: {CROP_WIDTH: 64, CROP_HEIGHT: 32}", "data.crop_size", [20, 64, 32]),
        ("TRAIN: {INITIAL_SIGMA: [7, 8, 9]}", "model.heads.vector.sigma", [9, 7, 8]),
        ("TRAIN: {LOSS_EMBED_RELATIVE_WEIGHT: 0.5}", "model.heads.vector.weight", 0.5),
        (
            "TRAIN: {LOSS_SKELETON: soft_cldice, LOSS_SKELETON_KEYWORDS: [iter_, alpha, smooth], "
            "LOSS_SKELETON_VALUES: [4, 0.5, 1.0]}",
            "model.heads.skeleton.criterion",
            {"type": "SoftDiceClDice", "iter": 4, "alpha": 0.5, "smooth": 1},
        ),
        ("TRAIN: {SKELETON_MASK_RADIUS: 5}", "model.heads.skeleton.target_generator.radius", 5),
        (
            "TRAIN: {OPTIMIZER: sgd}",
            "runner.optimizer",
            {"type": "SGD", "params": {"lr": 5e-4, "weight_decay": 1e-6}},
        ),
        (
            "TRAIN: {OPTIMIZER_KEYWORD_ARGUMENTS: [betas], OPTIMIZER_KEYWORD_VALUES: [[0.8, 0.9]]}",
            "runner.optimizer.params.betas",
            [0.8, 0.9],
        ),
        ("TRAIN: {SCHEDULER_T0: 50}", "runner.scheduler.params", {"T_0": 50}),
        ("TRAIN: {N_WARMUP: 3}", "runner.warmup_steps", 3),
        ("TRAIN: {MIXED_PRECISION: false}", "runner.precision", "float32"),
        (
            "TRAIN: {NUM_EPOCHS: 250, SAVE_INTERVAL: 100}",
            "runner.snapshots",
            {"save_epochs": 100, "max_snapshots": 3},
        ),
        (
            "TRAIN: {AUTOGRAD_DETECT_ANOMALY: true}",
            "runner.profile",
            {"autograd_profile": False, "emit_nvtx": False, "detect_anomaly": True},
        ),
        (
            "TRAIN: {TRAIN_DATA_DIR: [a, b], TRAIN_SAMPLE_PER_IMAGE: [32, 8]}",
            "data.train",
            [{"path": "a", "samples_per_volume": 32}, {"path": "b", "samples_per_volume": 8}],
        ),
        (
            "TRAIN: {BACKGROUND_DATA_DIR: [c], BACKGROUND_SAMPLE_PER_IMAGE: [2]}",
            "data.background",
            [{"path": "c", "samples_per_volume": 2}],
        ),
        (
            "TRAIN: {VALIDATION_DATA_DIR: d, VALIDATION_SAMPLE_PER_IMAGE: [2]}",
            "data.validation",
            [{"path": "d"}],
        ),
        ("AUGMENTATION: {CROP_DEPTH: 8, N_SKELETON_MASK_DILATE: 2}", "data.augment", "original"),
    ],
)
def test_what_a_setting_becomes(old: str, path: str, value: Any) -> None:
    assert at(imported(old).config, path) == value


def test_augmentations_are_a_list_where_one_was_changed() -> None:
    old = "AUGMENTATION: {AFFINE_YAW: [-10, 20], ELASTIC_GRID_SHAPE: [4, 5, 6], NOISE_GAMMA: 0.3}"
    made = imported(old)
    assert made.config["data"]["augment"] == [
        {"type": "Flip", "rate": 0.5},
        {"type": "Affine", "rate": 0.66, "scale": [0.85, 1.1], "degrees": 20, "shear": 7},
        {"type": "Elastic", "rate": 0.33, "grid": [6, 4, 5], "magnitude": [0.01, 0.05, 0.05]},
        {"type": "Invert", "rate": 0.5},
        {"type": "BrightnessContrast", "rate": 0.4, "contrast": [1, 1], "brightness": [-0.4, 0.4]},
        {"type": "BrightnessContrast", "rate": 0.33, "contrast": [0.75, 2], "brightness": [0, 0]},
        {"type": "Noise", "rate": 0.2, "deviation": 1.2},
    ]
    assert "is [-10, 20]; angles go as far to either side here, so 20" in str(made.remarks)


def test_the_list_and_the_preset_agree() -> None:
    presets = pytest.importorskip("skoots.data.augment.presets")  # not there yet
    from skoots.data.augment import AUGMENTATIONS

    nodes = imported("AUGMENTATION: {FLIP_RATE: 0.25}").config["data"]["augment"]
    built, preset = [AUGMENTATIONS.build(node) for node in nodes], presets.original_augmentations()
    assert [type(part) for part in built] == [type(part) for part in preset]
    for part, other in zip(built[1:], preset[1:]):
        for name, value in vars(part).items():
            expected = getattr(other, name)
            assert np.array_equal(value, expected), name


def test_sigma_shrinks_in_the_same_epochs() -> None:
    decay = [[0.5, 2], [0.25, 5], [0.9, 0], [0.1, 1000]]
    vector = imported(f"TRAIN: {{SIGMA_DECAY: {decay}, INITIAL_SIGMA: [8, 8, 4]}}").config["model"]["heads"][
        "vector"
    ]
    head = VectorHead(2, 3, scale=1.0, sigma=vector["sigma"], sigma_decay=vector["sigma_decay"])
    for epoch in range(9):
        factor = 1.0
        for multiplier, end in decay:
            if end < epoch:
                factor *= multiplier
        assert head.sigma_at(epoch + 1) == pytest.approx((4 * factor, 8 * factor, 8 * factor))


@pytest.mark.parametrize("start", [-1, 0, 1, 10, -5])
def test_losses_begin_in_the_same_epochs(start: int) -> None:
    heads = imported(f"TRAIN: {{LOSS_PROBABILITY_START_EPOCH: {start}}}").config["model"]["heads"]
    there = [epoch > start for epoch in range(15)]
    assert [epoch >= heads["semantic"]["start_epoch"] for epoch in range(1, 16)] == there
    assert [heads[head]["start_epoch"] for head in ("vector", "skeleton")] == [1, 12]


def test_learning_rates_are_the_same() -> None:
    runner = imported("TRAIN: {SCHEDULER_T0: 3, LEARNING_RATE: 0.01}").config["runner"]
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(model.parameters(), **runner["optimizer"]["params"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=3)
    there = []
    for _ in range(7):
        there.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    stand_in = torch.optim.AdamW(model.parameters(), lr=0.01)
    assert [rate for (rate,) in rehearse(runner["scheduler"], stand_in, 7)] == pytest.approx(there)


# Nothing is lost --------------------------------------------------------------------------------------------


def another(setting: str, value: Any) -> Any:
    """Another value that is allowed, and that the original would take."""
    if setting in OTHER_NAMES:
        return OTHER_NAMES[setting]
    name = setting.split(".")[1]
    if name.startswith("LOSS_") and name.endswith("_KEYWORDS"):
        return ["alpha", "eps", "beta"]
    if name.endswith("_DATA_DIR"):
        return ["elsewhere"]
    if name.endswith("STORE_DATA_ON_GPU"):
        return [True]
    if name.endswith("_SAMPLE_PER_IMAGE"):
        return [4]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value}_other"
    if isinstance(value, list):
        return [*value[:-1], another(setting, value[-1])] if value else ["a"]
    return value / 2 if isinstance(value, float) and value > 0 else value + 1


ONE_CHOICE = ("TRAIN.SCHEDULER", "TRAIN.LOSS_EMBED", "TRAIN.LOSS_PROBABILITY", "TRAIN.LOSS_SKELETON")
TWO_AT_ONCE = ("TRAIN.OPTIMIZER_KEYWORD_ARGUMENTS", "TRAIN.OPTIMIZER_KEYWORD_VALUES")


@pytest.mark.parametrize("gpus", [0, 8])
@pytest.mark.parametrize(
    ("setting", "default"),
    [(name, value) for name, _, value in SETTINGS if name not in (*ONE_CHOICE, *TWO_AT_ONCE)],
)
def test_every_setting_shows_in_the_new_config(setting: str, default: Any, gpus: int) -> None:
    """Changed from its default it changes a value, else it is named with its value among the remarks."""
    section, name = setting.split(".")
    old = {"TRAIN": dict(FOLDERS)}
    before = translate(read_settings(old), gpus=gpus)
    old.setdefault(section, {})[name] = another(setting, default)
    after = translate(read_settings(old), gpus=gpus)
    assert after.text() != before.text()
    assert (setting in WITHOUT_COUNTERPART) == any(note.setting == setting for note in after.changed_without)


def test_every_setting_is_in_the_documentation() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"[A-Z][A-Z0-9_]+", page))
    assert {name for name, _, _ in SETTINGS if name.split(".")[1] not in named} == set()


def test_settings_without_a_counterpart_are_settings() -> None:
    assert set(WITHOUT_COUNTERPART) <= {name for name, _, _ in SETTINGS}


def test_defaults_are_told_from_changes() -> None:
    made = imported("TRAIN: {SAVE_PATH: elsewhere, TRANSFORM_DEVICE: default}")
    assert [note.setting for note in made.changed_without] == ["TRAIN.SAVE_PATH"]
    assert 'TRAIN.SAVE_PATH: is "elsewhere"; an option of the command' in made.text()
    assert "TRAIN.TRANSFORM_DEVICE" in [note.setting for note in made.default_without]


# The machine at hand ----------------------------------------------------------------------------------------


def test_what_needs_gpus_is_on_where_they_are() -> None:
    folders = "TRAIN_DATA_DIR: [a, b], TRAIN_SAMPLE_PER_IMAGE: [1, 1]"
    old = f"TRAIN: {{{folders}, TRAIN_STORE_DATA_ON_GPU: [true, false]}}"
    with_two, with_one, without = (imported(old, gpus) for gpus in (2, 1, 0))
    assert with_two.config["runner"]["gpus"] == [0, 1]
    assert with_two.config["runner"]["precision"] == with_one.config["runner"]["precision"] == "float16"
    assert [source.get("store") for source in with_two.config["data"]["train"]] == ["gpu", None]
    assert without.config["runner"]["precision"] == "float32"
    assert not any("store" in source for source in without.config["data"]["train"])
    assert {"TRAIN.MIXED_PRECISION", "TRAIN.TRAIN_STORE_DATA_ON_GPU"} <= {
        note.setting for note in without.remarks
    }
    for few in (with_one, without):
        assert "gpus" not in few.config["runner"] and "\n  # gpus: [0, 1]  # " in few.text()


def test_one_switch_holds_for_all_folders() -> None:
    old = {"TRAIN": {**FOLDERS, "TRAIN_DATA_DIR": ["a", "b"], "TRAIN_SAMPLE_PER_IMAGE": [1, 1]}}
    old["TRAIN"]["STORE_DATA_ON_GPU"] = True
    made = translate(read_settings(old), gpus=1)
    data = made.config["data"]
    assert {source["store"] for kind in ("train", "background") for source in data[kind]} == {"gpu"}
    assert data["augment_on"] == "device"
    assert not any("store" in source for source in data["validation"])
    assert "TRAIN.VALIDATION_STORE_DATA_ON_GPU" in [note.setting for note in made.remarks]
    load_config(made.config)


# How yacs writes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["[1, 2, 6]", "(1, 2, 6)", "'(1, 2, 6)'", "!!python/tuple [1, 2, 6]", "\n  - 1.0\n  - 2e+0\n  - 6"],
)
def test_lists_in_all_spellings(text: str) -> None:
    assert imported(f"SKOOTS:\n VECTOR_SCALING: {text}").config["model"]["heads"]["vector"]["scale"] == [
        6,
        1,
        2,
    ]


def test_scalars_are_those_of_yaml_1_1_and_of_python() -> None:
    values = "LOSS_EMBED_VALUES: [.25, 0.75, 1e-6], SAVE_PATH: 'a(b'"
    made = imported(f"TRAIN: {{LEARNING_RATE: 1e-3, MIXED_PRECISION: no, {values}}}")
    assert made.config["runner"]["optimizer"]["params"]["lr"] == 1e-3
    assert made.config["model"]["heads"]["vector"]["criterion"]["eps"] == 1e-6
    assert made.config["runner"]["precision"] == "float32" and "MIXED_PRECISION" not in str(made.remarks)
    assert '"a(b"' in made.text()


def test_a_dumped_node_of_yacs() -> None:
    old = """!!python/object/new:yacs.config.CfgNode
dictitems:
  TRAIN: !!python/object/new:yacs.config.CfgNode
    dictitems: {NUM_EPOCHS: 7}
    state: {__immutable__: true}
state: {__immutable__: false}
"""
    assert imported(old).config["train_settings"]["epochs"] == 7


def test_code_is_not_run(tmp_path: Path) -> None:
    old = f"TRAIN: !!python/object/apply:os.mkdir [{tmp_path / 'made'}]"
    with pytest.raises(ConfigError, match="a config knows no tag"):
        imported(old)
    assert not (tmp_path / "made").exists()


# Faults -----------------------------------------------------------------------------------------------------


def test_all_faults_come_at_once_with_near_misses() -> None:
    old = "TRAIN: {LERNING_RATE: 1, CROP_WIDTH: 3, NUM_EPOCHS: 0}\nTRIAN: {}\n"
    old += "SKOOTS: {VECTOR_SCALING: [1, 2]}\n"
    with pytest.raises(ConfigError) as caught:
        imported(old)
    assert {str(fault) for fault in caught.value.faults} == {
        "TRAIN.LERNING_RATE: unknown key. Did you mean LEARNING_RATE?",
        "TRAIN.CROP_WIDTH: unknown key. It belongs under AUGMENTATION.",
        "TRAIN.NUM_EPOCHS: is 0, must be an integer of at least 1.",
        "TRIAN: unknown key. Did you mean TRAIN?",
        "SKOOTS.VECTOR_SCALING: is [1, 2], must be a list of 3 numbers greater than 0.",
    }


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ("TRAIN: {OPTIMIZER: adamv}", 'TRAIN.OPTIMIZER: is "adamv". Did you mean adam or adamw'),
        ("TRAIN: {LOSS_EMBED: tverski}", 'TRAIN.LOSS_EMBED: is "tverski". Did you mean tversky?'),
        (
            "TRAIN: {LOSS_EMBED_VALUES: [1, 2]}",
            "LOSS_EMBED_VALUES: has 2 entries and TRAIN.LOSS_EMBED_KEYWORDS has 3",
        ),
        ("TRAIN: {LOSS_EMBED_KEYWORDS: [alfa, beta, eps]}", "LOSS_EMBED_KEYWORDS.alfa.*Did you mean alpha"),
        ("TRAIN: {LOSS_SKELETON: soft_cldice}", "LOSS_SKELETON_KEYWORDS.beta"),
        (
            "TRAIN: {OPTIMIZER_KEYWORD_ARGUMENTS: [beta], OPTIMIZER_KEYWORD_VALUES: [1]}",
            "OPTIMIZER_KEYWORD_ARGUMENTS.beta.*Did you mean betas",
        ),
        (
            "TRAIN: {OPTIMIZER_KEYWORD_ARGUMENTS: [lr], OPTIMIZER_KEYWORD_VALUES: [1]}",
            "OPTIMIZER_KEYWORD_ARGUMENTS.lr: has a setting of its own",
        ),
        ("TRAIN: {SCHEDULER: cosine}", "TRAIN.SCHEDULER: is .cosine."),
        ("MODEL: {ACTIVATION: mish}", 'MODEL.ACTIVATION: is "mish"'),
        ("MODEL: {KERNEL_SIZE: 4}", "MODEL.KERNEL_SIZE: is 4. Write an odd number"),
        ("MODEL: {DEPTHS: [1]}", "MODEL.DEPTHS: has 1 entries and MODEL.DIMS has 5"),
        ("MODEL: {DIMS: [8, 8], DEPTHS: [1, 1]}", "MODEL.DIMS: is .8, 8., an even number of stages"),
        ("MODEL: {ARCHITECTURE: unext}", "Did you mean bism_unext"),
        (
            "TRAIN: {TRAIN_DATA_DIR: [a, b], TRAIN_SAMPLE_PER_IMAGE: [1]}",
            "TRAIN_SAMPLE_PER_IMAGE: has 1 entries",
        ),
        ("TRAIN: {NUM_EPOCHS: 3, NUM_EPOCHS: 4}", "TRAIN.NUM_EPOCHS: is given twice"),
        ("data: {train: a}", "is one of this program already"),
        ("", "is empty"),
        ("[1]", r"holds \[1\] and no sections"),
        ("TRAIN: [", "the bracket or quote that opens here is never closed"),
    ],
)
def test_faults_are_named(old: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        imported(old)


# The new file -----------------------------------------------------------------------------------------------

EVERYTHING = """
SYSTEM: {NUM_GPUS: 1}
MODEL: {ARCHITECTURE: bism_unet, DIMS: [4, 8, 4]}
TRAIN:
  TRAIN_DATA_DIR: [a, "b: c"]
  TRAIN_SAMPLE_PER_IMAGE: [2, 3]
  VALIDATION_DATA_DIR: [d]
  BACKGROUND_DATA_DIR: [e]
  BACKGROUND_SAMPLE_PER_IMAGE: [1]
  PRETRAINED_MODEL_PATH: [old.trch]
  AUTOGRAD_PROFILE: true
AUGMENTATION: {FLIP_RATE: 0.1}
SKOOTS: {NOTES: "two\\nlines # and more"}
"""


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize("old", ["SYSTEM: {}", EVERYTHING])
def test_the_text_is_the_config_in_both_versions_of_yaml(old: str, gpus: int) -> None:
    made = imported(old, gpus)
    text = made.text(["a", "", "b\nc"])
    assert text.startswith("# a\n#\n# b c\nmetadata:")
    assert parse(text) == (made.config, [])
    assert yaml.safe_load(text) == made.config


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize("old", ["SYSTEM: {}", EVERYTHING])
def test_the_config_loads(old: str, gpus: int) -> None:
    made = imported(old, gpus).config
    config = load_config(made)
    assert config.runner.optimizer["params"]["lr"] == 5e-4
    assert config.data.normalize == "zscore"


def test_lines_switched_off_are_comments() -> None:
    tree = {"a": {"b": Line(1, "x", active=False)}, "c": Line([{"d": 2}], "y" * 120, active=False), "e": {}}
    assert plain(tree) == {}
    assert render(tree) == f"a:\n  # b: 1  # x\n# {'y' * 120}\n# c:\n#   - {{d: 2}}\n"
