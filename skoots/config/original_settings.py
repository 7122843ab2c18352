"""The settings of the original SKOOTS (0.0.5): names, types, defaults, and how yacs writes them in YAML.

Its axes are x = row, y = column, z = section.
"""

# ruff: noqa: RUF012 - pydantic copies the defaults
from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, Field

from skoots.config.faults import Faults
from skoots.config.fit import fit
from skoots.config.load import drop_empty
from skoots.config.plain import plain
from skoots.config.schema import Config, Length, NotNegative, Positive, Section
from skoots.config.words import shown
from skoots.config.yaml12 import BoundedLoader, parse
from skoots.errors import ConfigError, Fault

Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
AtLeastZero = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Range = Annotated[list[Number], Field(min_length=2, max_length=2)]
Triple = Annotated[list[Length], Field(min_length=3, max_length=3)]
Shares = Annotated[list[Share], Field(min_length=3, max_length=3)]
Counts = Annotated[list[Positive], Field(min_length=3, max_length=3)]
Folders = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Switches = Annotated[list[bool], BeforeValidator(lambda value: [value] if isinstance(value, bool) else value)]
Decay = Annotated[list[AtLeastZero], Field(min_length=2, max_length=2)]

_SCIENTIFIC = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$")  # text in YAML 1.1


class System(Section):
    """SYSTEM."""

    NUM_GPUS: NotNegative = 2
    NUM_CPUS: NotNegative = 1


class Model(Section):
    """MODEL."""

    ARCHITECTURE: str = "bism_unext"
    IN_CHANNELS: Positive = 1
    OUT_CHANNELS: Positive = 32
    DIMS: Annotated[list[Positive], Field(min_length=1)] = [32, 64, 128, 64, 32]
    DEPTHS: list[Positive] = [2, 2, 2, 2, 2]
    KERNEL_SIZE: Positive = 7
    DROP_PATH_RATE: Share = 0.0
    LAYER_SCALE_INIT_VALUE: Number = 1.0
    ACTIVATION: str = "gelu"
    BLOCK: str = "block3d"
    CONCAT_BLOCK: str = "concatconv3d"
    UPSAMPLE_BLOCK: str = "upsamplelayer3d"
    NORMALIZATION: str = "layernorm"
    COMPILE: bool = False


class Train(Section):
    """TRAIN."""

    TARGET: str = "skoots"
    DISTRIBUTED: bool = True
    PRETRAINED_MODEL_PATH: Folders = []
    LOAD_PRETRAINED_OPTIMIZER: bool = False
    TRANSFORM_DEVICE: str = "default"
    DATALOADER_OUTPUT_DEVICE: str = "default"
    DATALOADER_NUM_WORKERS: NotNegative = 0
    DATALOADER_PREFETCH_FACTOR: NotNegative = 0
    LOSS_EMBED: str = "tversky"
    LOSS_EMBED_KEYWORDS: list[str] = ["alpha", "beta", "eps"]
    LOSS_EMBED_VALUES: list[Number] = [0.25, 0.75, 1e-8]
    LOSS_EMBED_RELATIVE_WEIGHT: AtLeastZero = 1.0
    LOSS_EMBED_START_EPOCH: int = -1
    LOSS_PROBABILITY: str = "tversky"
    LOSS_PROBABILITY_KEYWORDS: list[str] = ["alpha", "beta", "eps"]
    LOSS_PROBABILITY_VALUES: list[Number] = [0.5, 0.5, 1e-8]
    LOSS_PROBABILITY_RELATIVE_WEIGHT: AtLeastZero = 1.0
    LOSS_PROBABILITY_START_EPOCH: int = -1
    LOSS_SKELETON: str = "tversky"
    LOSS_SKELETON_KEYWORDS: list[str] = ["alpha", "beta", "eps"]
    LOSS_SKELETON_VALUES: list[Number] = [0.5, 1.5, 1e-8]
    LOSS_SKELETON_RELATIVE_WEIGHT: AtLeastZero = 1.0
    LOSS_SKELETON_START_EPOCH: int = 10
    TRAIN_DATA_DIR: Folders = []
    TRAIN_SAMPLE_PER_IMAGE: list[Positive] = []
    TRAIN_BATCH_SIZE: Positive = 1
    TRAIN_STORE_DATA_ON_GPU: Switches = []
    VALIDATION_DATA_DIR: Folders = []
    VALIDATION_SAMPLE_PER_IMAGE: list[Positive] = []
    VALIDATION_BATCH_SIZE: NotNegative = 1
    VALIDATION_STORE_DATA_ON_GPU: Switches = []
    BACKGROUND_DATA_DIR: Folders = []
    BACKGROUND_SAMPLE_PER_IMAGE: list[Positive] = []
    BACKGROUND_STORE_DATA_ON_GPU: Switches = []
    STORE_DATA_ON_GPU: Switches = []
    INITIAL_SIGMA: Triple = [20.0, 20.0, 20.0]
    SIGMA_DECAY: list[Decay] = [[0.66, 200], [0.66, 800], [0.66, 1500], [0.5, 20000], [0.5, 20000]]
    NUM_EPOCHS: Positive = 10000
    LEARNING_RATE: Length = 5e-4
    WEIGHT_DECAY: AtLeastZero = 1e-6
    OPTIMIZER: str = "adamw"
    OPTIMIZER_KEYWORD_ARGUMENTS: list[str] = []
    OPTIMIZER_KEYWORD_VALUES: list[Any] = []
    OPTIMIZER_EPS: AtLeastZero = 1e-8
    SCHEDULER: str = "cosine_annealing_warm_restarts"
    SCHEDULER_T0: Positive = 10001
    MIXED_PRECISION: bool = True
    N_WARMUP: NotNegative = 1500
    SAVE_PATH: str = "models"
    SAVE_INTERVAL: Positive = 100
    VALIDATE_EPOCH_SKIP: Positive = 10
    SKELETON_MASK_RADIUS: Length = 9
    SKELETON_MASK_FLANK_RADIUS: AtLeastZero = 3
    CUDNN_BENCHMARK: bool = True
    AUTOGRAD_PROFILE: bool = False
    AUTOGRAD_EMIT_NVTX: bool = False
    AUTOGRAD_DETECT_ANOMALY: bool = False


class Augmentation(Section):
    """AUGMENTATION."""

    CROP_WIDTH: Positive = 300
    CROP_HEIGHT: Positive = 300
    CROP_DEPTH: Positive = 20
    FLIP_RATE: Share = 0.5
    BRIGHTNESS_RATE: Share = 0.4
    BRIGHTNESS_RANGE: Range = [-0.1, 0.1]
    NOISE_GAMMA: AtLeastZero = 0.1
    NOISE_RATE: Share = 0.2
    CONTRAST_RATE: Share = 0.33
    CONTRAST_RANGE: Range = [0.75, 2.0]
    AFFINE_RATE: Share = 0.66
    AFFINE_SCALE: Range = [0.85, 1.1]
    AFFINE_YAW: Range = [-180, 180]
    AFFINE_SHEAR: Range = [-7, 7]
    ELASTIC_RATE: Share = 0.33
    ELASTIC_GRID_SHAPE: Counts = [6, 6, 2]
    ELASTIC_GRID_MAGNITUDE: Shares = [0.05, 0.05, 0.01]
    SMOOTH_SKELETON_KERNEL_SIZE: Counts = [3, 3, 1]
    BAKE_SKELETON_ANISOTROPY: Triple = [1.0, 1.0, 3.0]
    N_SKELETON_MASK_DILATE: NotNegative = 1


class Skoots(Section):
    """SKOOTS."""

    VECTOR_SCALING: Triple = [60, 60, 12]
    ANISOTROPY: Triple = [1.0, 1.0, 3.0]
    NOTES: str = ""


class Experimental(Section):
    """EXPERIMENTAL."""

    IS_SPARSE: bool = False
    SPARSE_BACKGROUND_PENALTY_MULTIPLIER: Number = 10
    DIST_THR: Number = 10.0
    BACKGROUND_N_ERODE: Number = 0.0
    BACKGROUND_SLICE_PERCENTAGE: Number = 1.0


class OriginalSettings(Section):
    """A whole config of the original; what a file does not name has its default."""

    SYSTEM: System = System()
    MODEL: Model = Model()
    TRAIN: Train = Train()
    AUGMENTATION: Augmentation = Augmentation()
    SKOOTS: Skoots = Skoots()
    EXPERIMENTAL: Experimental = Experimental()


class _Loader(BoundedLoader):
    """YAML 1.1, in which the original read its files, with the two tags that Python's yaml adds to them."""


def _date(loader: BoundedLoader, node: yaml.ScalarNode) -> str:
    return str(node.value)  # no setting is a date


def _tuple(loader: BoundedLoader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _config_node(loader: BoundedLoader, node: yaml.MappingNode) -> Any:
    return loader.construct_mapping(node, deep=True).get("dictitems", {})


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _date)
_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)
_Loader.add_constructor("tag:yaml.org,2002:python/object/new:yacs.config.CfgNode", _config_node)


def parse_settings(text: str, source: str = "") -> OriginalSettings:
    """The settings that a YAML file of the original holds.

    Raises:
        ConfigError: with every fault found.
    """
    tree, faults = parse(text, source, _Loader)
    return read_settings(tree, source, faults)


def read_settings(tree: Any, source: str = "", faults: list[Fault] | None = None) -> OriginalSettings:
    """The settings in a mapping, such as the config in a model file of the original.

    Args:
        tree: sections by name.
        source: where it comes from, for messages.
        faults: found already.

    Raises:
        ConfigError: with every fault found.
    """
    if not isinstance(tree, Mapping):
        problem = f"holds {shown(tree)} and no sections" if tree is not None else "is empty"
        raise ConfigError(
            f"The config {source} {problem}. The original's has SYSTEM, MODEL, TRAIN, AUGMENTATION, SKOOTS."
        )
    if tree and not set(tree) & set(OriginalSettings.model_fields) and set(tree) <= set(Config.model_fields):
        raise ConfigError(
            f"The config {source} is one of this program already: skoots train takes it as it is."
        )
    found = Faults(source)
    found.extend(faults or ())
    decoded = plain(_decoded(plain(tree, "", found)), "", found)
    drop_empty(decoded, OriginalSettings)
    settings = fit(decoded, OriginalSettings, found)
    found.end()
    return settings


def each_setting(settings: OriginalSettings) -> Iterator[tuple[str, Any, Any]]:
    """Name (``TRAIN.NUM_EPOCHS``), value and default of every setting."""
    for section in OriginalSettings.model_fields:
        part: BaseModel = getattr(settings, section)
        for name, field in type(part).model_fields.items():
            yield f"{section}.{name}", getattr(part, name), field.default


def _decoded(value: Any, inside: bool = False) -> Any:
    """Texts that are Python literals as what they stand for, as yacs takes them: ``(60, 60, 12)``."""
    if isinstance(value, Mapping):
        return {str(key): _decoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_decoded(item, inside=True) for item in value]
    if not isinstance(value, str) or (inside and not _SCIENTIFIC.match(value)):
        return value
    try:
        literal = ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return value
    return value if isinstance(literal, str) else _decoded(literal, inside=True)
