"""The typed sections of a config: names, types, ranges and the defaults of what has no constructor.

The names are those of DeepLabCut's ``pytorch_config.yaml``. A *node* names a part and its arguments:
``{type: Name, ...arguments}`` or ``{type: Name, params: {...}}``; its arguments are checked in
``validate.py`` against the constructor that it names, where their defaults live too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, create_model
from pydantic_core import PydanticCustomError

from skoots.config.words import Noun

DEFAULT_HEADS = {
    "vector": {"type": "VectorHead"},
    "semantic": {"type": "SemanticHead"},
    "skeleton": {"type": "SkeletonHead"},
}
DEFAULT_DECODER = "SkeletonDecoder"
PARTS_OF_A_HEAD = ("target_generator", "predictor", "criterion")


def complaint(problem: str, remedy: str = "") -> PydanticCustomError:
    """A fault raised inside a pydantic validator; ``load.py`` turns it into a ``Fault``."""
    return PydanticCustomError("skoots", "{problem}", {"problem": problem, "remedy": remedy})


def as_node(value: Any) -> dict[str, Any]:
    """A node in the spelling ``{type: Name, ...}``; a bare name is a node without arguments."""
    if isinstance(value, str):
        return {"type": value}
    if not isinstance(value, Mapping):
        raise complaint("must be a part", "Write its name, or {type: Name, ...arguments}.")
    if not isinstance(value.get("type"), str):
        raise complaint("names no part", "Add type: Name.")
    if not isinstance(value.get("params"), Mapping | None):
        raise complaint("has params that are no mapping", "Write params: {argument: value}.")
    return {key: item for key, item in value.items() if not (key == "params" and item is None)}


def _as_source(value: Any) -> Any:
    if isinstance(value, str):
        return {"type": "Folder", "path": value}
    if isinstance(value, Mapping) and value.get("type") is None:
        return as_node({"type": "Folder", **{key: item for key, item in value.items() if key != "type"}})
    return as_node(value)


def _as_decoder(value: Any) -> Any:
    if isinstance(value, Mapping) and value.get("type") is None:
        value = {**value, "type": DEFAULT_DECODER}
    return as_node(value)


def _as_head(value: Any) -> Any:
    return {
        key: item for key, item in as_node(value).items() if not (key in PARTS_OF_A_HEAD and item is None)
    }


def _as_heads(value: Any) -> Any:
    """Heads by name; one of the default names with nothing after it is the default head of that name."""
    if not isinstance(value, Mapping):
        return value
    return {name: DEFAULT_HEADS.get(name, head) if head is None else head for name, head in value.items()}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | Mapping) else value


def _name_alone(value: Any) -> Any:
    """A node without arguments as its name."""
    value = value["type"] if isinstance(value, Mapping) and set(value) == {"type"} else value
    return value.lower() if isinstance(value, str) else value


def _decided(value: Any) -> Any:
    """DeepLabCut's page writes the placeholder ``true/false`` where nothing was decided."""
    return True if value == "true/false" else value


def _how_many(value: Any) -> Any:
    """SuperGradients' ``average_best_models: true`` averages ten."""
    return 10 * value if isinstance(value, bool) else value


def _as_weights(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


def _as_settings(value: Any) -> Any:
    return {} if value is True else None if value is False else value


def _below(limit: int) -> Callable[[int], int]:
    """Keeps what torch and NumPy can take, in a message of its own: the reference need not name it."""

    def judged(value: int) -> int:
        if value >= limit:
            raise complaint(f"must be less than {limit}")
        return value

    return judged


Node = Annotated[dict[str, Any], BeforeValidator(as_node), Noun("a part", "parts")]
Source = Annotated[dict[str, Any], BeforeValidator(_as_source), Noun("a data set", "data sets")]
Normalization = Annotated[
    Literal["zscore", "percentile", "asinh", "dtype", "none"], BeforeValidator(_name_alone)
]
Sources = Annotated[list[Source], BeforeValidator(_as_list)]
DecoderNode = Annotated[dict[str, Any], BeforeValidator(_as_decoder), Noun("a decoder", "decoders")]
HeadNode = Annotated[dict[str, Any], BeforeValidator(_as_head), Noun("a head", "heads")]
Device = Annotated[
    str,
    Field(pattern=r"^(auto|cpu|mps|xpu|cuda(:\d+)?)$"),
    Noun("auto, cpu, mps, cuda or, e.g., cuda:1", "devices"),
]
Positive = Annotated[int, Field(ge=1), AfterValidator(_below(2**31))]
NotNegative = Annotated[int, Field(ge=0), AfterValidator(_below(2**31))]
Seed = Annotated[int, Field(ge=0), AfterValidator(_below(2**62))]
Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Shape = Annotated[list[Positive], Field(min_length=2, max_length=3)]
Margin = Annotated[list[NotNegative], Field(min_length=2, max_length=3)]
VoxelSize = Annotated[list[Length], Field(min_length=2, max_length=3)]


class Section(BaseModel):
    """A block of the config; unknown keys are faults, and a section never changes once loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


class SkeletonSettings(Section):
    """How skeletons that are missing are computed."""

    algorithm: Literal["thinning", "kimimaro"] = Field(
        default="thinning", description="`kimimaro` needs the extra of that name"
    )


class DataSection(Section):
    """What the network learns from and is tested on."""

    train: Sources = Field(
        default=[],
        description="folders to train on: `DIR`, `{path: DIR, samples_per_volume: 32}` "
        "or another data set `{type: Name, ...}`; one or a list",
    )
    validation: Sources = Field(default=[], description="the same, to choose the best snapshot by")
    test: Sources = Field(
        default=[], description="the same, held out: scored once, at the end; without it, `validation` is"
    )
    background: Sources = Field(
        default=[], description="images without objects and without labels, drawn from along with `train`"
    )
    sampling: dict[str, Any] = Field(
        default={},
        description="shares of crops by what they are drawn around, the rest anywhere: arguments of "
        "`skoots.data.sampling.Sampling`",
    )
    object_rate: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="short for `sampling: {objects: ...}`"
    )
    samples_per_epoch: Positive | None = Field(
        default=None,
        description="crops of an epoch, shared among the volumes in proportion to their "
        "`samples_per_volume`; null takes all of these",
    )
    crop_size: Literal["auto"] | Shape = Field(
        default="auto", description="training window, voxels per axis [z, y, x]"
    )
    voxel_size: VoxelSize | None = Field(
        default=None, description="edge lengths of a voxel [z, y, x]; without it the volumes say themselves"
    )
    normalize: Normalization = Field(default="zscore", description="how intensities are brought to one scale")
    normalize_by: Literal["volume", "training"] = Field(
        default="volume",
        description="whose statistics `normalize` takes: each volume's own, or those of all training volumes "
        "together, also when segmenting",
    )
    augment: Literal["default", "original", "none"] | list[Node] = Field(
        default="default",
        description="how crops are disturbed; `original` as the original SKOOTS does it; or a list of "
        "augmentations `{type: Name, ...}`",
    )
    augment_on: Literal["cpu", "device"] = Field(
        default="cpu",
        description="where crops are resampled, disturbed and given their targets: in the loading processes, "
        "or on `device`",
    )
    background_augment: Literal["default", "none"] | list[Node] = Field(
        default="default", description="the same for crops of `background`; by default flips and grey values"
    )
    ignore_label: int | None = Field(
        default=None, description="label of voxels whose truth is unknown; they do not count"
    )
    skeleton: SkeletonSettings = Field(
        default=SkeletonSettings(), description="how missing skeletons are computed"
    )


class ModelSection(Section):
    """The network: a backbone, perhaps a neck, and heads by name."""

    backbone: Node = Field(
        default={"type": "UNet"},
        description="from images to features; `freeze_bn_stats` and "
        "`freeze_bn_weights` are understood for every backbone",
    )
    backbone_output_channels: Positive | None = Field(
        default=None, description="channels of the finest feature, if they are to be checked"
    )
    neck: Node | None = Field(
        default=None,
        description="from features to the resolution of the image; by default `UNetDecoder`, if the backbone "
        "gives several or coarse ones",
    )
    heads: Annotated[dict[str, HeadNode], BeforeValidator(_as_heads), Field(min_length=1)] = Field(
        default=DEFAULT_HEADS,
        description="from features to outputs; a head may own a `target_generator`, a `predictor` "
        "and a `criterion` (one, a list, or a mapping; those of a list or mapping may carry a `weight`)",
    )


class SnapshotSettings(Section):
    """Which snapshots are kept."""

    max_snapshots: Positive = Field(default=5, description="regular snapshots kept; the best does not count")
    save_epochs: Positive = Field(default=25, description="epochs between regular snapshots")
    save_epoch_list: list[Positive] = Field(
        default=[], description="epochs that get a regular snapshot besides, which is never removed"
    )
    save_steps: Positive | None = Field(
        default=None, description="steps after which the latest snapshot is saved, also within an epoch"
    )
    save_minutes: Length | None = Field(
        default=30.0, description="minutes of an epoch that can be lost at most; null saves after epochs only"
    )
    save_optimizer_state: bool = Field(
        default=True,
        description="whether snapshots other than the latest hold the optimizer's state, so that training "
        "can go on from them exactly",
    )
    keep_best: Positive = Field(default=1, description="snapshots kept that were the best when they came")
    average_best_models: Annotated[NotNegative, BeforeValidator(_how_many)] = Field(
        default=0, description="best epochs that `snapshot-average.pt` averages; `true` means 10"
    )


class AverageSettings(Section):
    """Moving average of the weights (EMA)."""

    decay: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.999, description="share of the average that a step leaves"
    )
    warmup: bool = Field(
        default=True,
        description="whether that share is smaller in the first steps, so that they are forgotten",
    )
    every: Positive = Field(default=1, description="optimizer steps between updates of the average")


class StochasticAverageSettings(Section):
    """Mean of the weights after the last epochs (SWA)."""

    swa_start: NotNegative = Field(default=100, description="epoch after which weights are first taken in")
    swa_lr: Length = Field(default=0.05, description="learning rate from then on (`SWALR`)")
    anneal_epochs: NotNegative = Field(default=10, description="epochs in which it is reached")
    anneal_strategy: Literal["cos", "linear"] = Field(default="cos", description="how it is reached")
    evaluate: bool = Field(
        default=False, description="whether the mean is validated too, as `swa.loss`, `swa.F1` and so on"
    )


class EarlyStoppingSettings(Section):
    """The end of a training that no longer gets better."""

    patience: Positive = Field(default=10, description="validations without a better value")
    min_delta: Annotated[float, Field(ge=0)] = Field(
        default=0.0, description="by how much a value must be better to count"
    )
    monitor: str | None = Field(default=None, description="the metric; without it `key_metric`")


class ProfileSettings(Section):
    """Where the time of a training goes; files lie in `profile/` of the run folder."""

    autograd_profile: bool = Field(
        default=False, description="a table of the operators of the steps in `trace_steps`"
    )
    emit_nvtx: bool = Field(default=False, description="mark every operator for NVIDIA's profilers")
    detect_anomaly: bool = Field(
        default=False, description="stop where a gradient becomes NaN and name the operator; slow"
    )
    trace_steps: Annotated[list[Positive], Field(min_length=2, max_length=2)] = Field(
        default=[10, 12], description="first and last step that is profiled"
    )
    trace: bool = Field(default=False, description="a trace of these steps by `torch.profiler`")


class RunnerSection(Section):
    """How the network is trained."""

    type: str = Field(default="TrainingRunner", description="the training loop")
    key_metric: str = Field(
        default="test.F1",
        description="what decides which snapshot is best: `test.loss`, `test.loss.HEAD` "
        "or a metric, e.g. `test.F1`",
    )
    key_metric_asc: bool | None = Field(
        default=None, description="whether larger is better; follows `key_metric`"
    )
    eval_interval: Positive = Field(
        default=10, description="epochs between passes through the validation data"
    )
    image_log_interval: Positive | None = Field(
        default=25,
        description="epochs between pictures of what the network makes of a crop and of a validation window, "
        "drawn after the last one too; null draws none",
    )
    optimizer: Node = Field(
        default={"type": "AdamW", "params": {"lr": 1e-3}},
        description="any of `torch.optim`; beside its arguments `parameter_groups`, e.g. "
        "`{backbone: {lr: 1e-5}}`, and `decay_norms_and_biases`",
    )
    scheduler: Node | None = Field(
        default=None,
        description="any of `torch.optim.lr_scheduler`, or `LRListScheduler`; nested under `schedulers`; "
        "beside its arguments `interval` (`epoch` or `step`) and, for `ReduceLROnPlateau`, `monitor`",
    )
    load_scheduler_state_dict: Annotated[bool, BeforeValidator(_decided)] = Field(
        default=True,
        description="whether resuming takes up the scheduler's state; false replays the schedule to the "
        "epoch reached, as is done for one that was edited",
    )
    snapshots: SnapshotSettings = Field(default=SnapshotSettings(), description="which snapshots are kept")
    gpus: list[NotNegative] | None = Field(
        default=None, description="GPUs to train on, by number; one process for each"
    )
    processes: Positive = Field(
        default=1, description="processes that train together on the CPU; each takes its part of every batch"
    )
    max_restarts: NotNegative = Field(
        default=0,
        description="how often several processes begin again from the latest snapshot after one died",
    )
    fsdp: bool = Field(
        default=False,
        description="whether the processes share out weights and optimizer state too, for networks that do "
        "not fit one GPU",
    )
    sync_batchnorm: bool = Field(
        default=False, description="whether batch norms see the batch of all GPUs instead of their own part"
    )
    clip_gradient: Length | None = Field(
        default=None, description="largest norm of the gradient; longer ones are shortened"
    )
    batch_accumulate: Positive = Field(
        default=1, description="batches whose gradients are averaged for one step of the optimizer"
    )
    warmup_steps: NotNegative = Field(
        default=0, description="steps on the first batch, over and over, before the first epoch"
    )
    ema: Annotated[AverageSettings | None, BeforeValidator(_as_settings)] = Field(
        default=None,
        description="moving average of the weights, validated and used in their place; `true`, "
        "or `{decay: 0.999}`",
    )
    swa: Annotated[StochasticAverageSettings | None, BeforeValidator(_as_settings)] = Field(
        default=None,
        description="mean of the weights after the last epochs, saved as `snapshot-swa.pt`; `true`, "
        "or `{swa_start: 100, swa_lr: 0.05}`",
    )
    early_stopping: Annotated[EarlyStoppingSettings | None, BeforeValidator(_as_settings)] = Field(
        default=None, description="when training ends before its last epoch; `true`, or `{patience: 10}`"
    )
    precision: Literal["auto", "float32", "tf32", "bfloat16", "float16"] = Field(
        default="auto",
        description="number format of the network; losses are always in float32; `auto` is bfloat16 on GPUs "
        "that compute in it, else float32",
    )
    compile: bool | Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = (
        Field(default=False, description="whether `torch.compile` makes the network faster, or its mode")
    )
    channels_last: Literal["auto"] | bool = Field(
        default="auto", description="memory layout of the network; `auto` takes channels last in 3D"
    )
    cudnn_benchmark: bool = Field(
        default=True,
        description="whether cuDNN tries out algorithms for its convolutions; crops are all of one shape",
    )
    prefetch: bool = Field(
        default=True, description="whether the next batch is copied to the GPU while one is used"
    )
    profile: ProfileSettings = Field(default=ProfileSettings(), description="where the time goes")
    max_nonfinite_steps: NotNegative = Field(
        default=10, description="steps in a row with a loss that is not finite before training stops"
    )


class TrainSettings(Section):
    """Batches, epochs and seed."""

    batch_size: Positive = Field(default=2, description="crops in a step, over all processes")
    dataloader_workers: Literal["auto"] | NotNegative = Field(
        default="auto",
        description="processes that load crops; 0 loads in the training process; `auto` is 0 on a CPU, and "
        "beside a GPU as many as measured to be needed",
    )
    dataloader_pin_memory: bool = Field(
        default=False, description="page-locked memory; true on an NVIDIA GPU"
    )
    display_iters: Positive = Field(
        default=50,
        description="steps between lines of the log, or where a progress bar is drawn, between the numbers "
        "beside it",
    )
    epochs: Positive = Field(default=100, description="the last epoch; resuming at 10 of 200 runs 190")
    seed: Seed = Field(default=42, description="of every random draw")
    deterministic: bool = Field(
        default=False, description="whether torch is held to algorithms that give the same bits every time"
    )


class DetectorSection(Section):
    """The first stage of a top-down model (`method: td`)."""

    data: dict[str, Any] = Field(default={}, description="transforms of the detector's images, free-form")
    model: Node | None = Field(default=None, description="the detector")
    runner: RunnerSection = Field(default=RunnerSection(), description="as `runner`")
    train_settings: TrainSettings = Field(default=TrainSettings(), description="as `train_settings`")
    resume_training_from: str | None = Field(
        default=None, description="snapshot of the detector to go on from"
    )


# "from" is no name for an attribute in the body of a class.
WeightsSection: type[Section] = create_model(  # type: ignore[call-overload]
    "WeightsSection",
    __base__=Section,
    __doc__="Weights that a new training begins with.",
    **{
        "from": (
            str | None,
            Field(
                default=None,
                description="a snapshot, a file of SuperGradients, DeepLabCut or the original SKOOTS, a "
                "plain state dict, or an https address",
            ),
        ),
        "strict": (
            bool | Literal["no_key_matching"],
            Field(
                default=True,
                description="whether every tensor must be found; `no_key_matching` pairs other names "
                "by order and shape, where that is unambiguous",
            ),
        ),
        "parts": (
            list[str],
            Field(default=[], description="only these, e.g. `[backbone, neck, heads.vector]`"),
        ),
        "sha256": (
            str | None,
            Field(default=None, description="checksum that a download must have, or its beginning"),
        ),
    },
)


class InferenceSection(Section):
    """How whole volumes are segmented."""

    tile: Literal["auto"] | Shape = Field(
        default="auto", description="window that is predicted at once, voxels [z, y, x]"
    )
    halo: Literal["auto"] | Margin = Field(
        default="auto", description="margin around a tile, voxels [z, y, x]"
    )
    decoding: DecoderNode = Field(
        default={"type": DEFAULT_DECODER},
        description="what makes instances of maps; without a `type` these are settings of the default",
    )
    tune: Annotated[float, Field(ge=0, le=86_400)] = Field(
        default=60,
        description="seconds at the end of a training in which a better decoder is looked for on the "
        "validation volumes; 0 leaves that one",
    )


class Config(Section):
    """A whole config; made by ``load_config``."""

    data: DataSection = Field(default=DataSection(), description="what to learn from")
    device: Device = Field(default="auto", description="`auto`, `cpu`, `mps`, `cuda` or `cuda:1`")
    metadata: dict[str, Any] = Field(
        default={},
        description="free-form; `experiment` names the folder of the runs, and what is under `publish` "
        "(licence, authors) is handed on by `skoots publish`",
    )
    method: Literal["bu", "td"] = Field(default="bu", description="bottom-up, or top-down with a `detector`")
    model: ModelSection = Field(default=ModelSection(), description="the network")
    net_type: str | None = Field(default=None, description="a name for the kind of network")
    runner: RunnerSection = Field(default=RunnerSection(), description="the training loop")
    train_settings: TrainSettings = Field(default=TrainSettings(), description="batches, epochs, seed")
    logger: Annotated[list[Node], BeforeValidator(_as_list)] = Field(
        default=[], description="one logger or a list; `learning_stats.csv` is always written"
    )
    resume_training_from: str | None = Field(default=None, description="snapshot to go on from")
    weights: Annotated[WeightsSection, BeforeValidator(_as_weights)] = Field(  # type: ignore[valid-type]
        default=WeightsSection(), description="what a new training begins with"
    )
    detector: DetectorSection | None = Field(default=None, description="the first stage of a top-down model")
    inference: InferenceSection = Field(default=InferenceSection(), description="segmenting whole volumes")
    plugins: list[str] = Field(
        default=[], description="modules or files (relative to the config) that register parts"
    )

    _source: Path | None = PrivateAttr(default=None)

    @property
    def source(self) -> Path | None:
        """The file that the config was read from; None if it came as a mapping."""
        return self._source

    def resolved(self) -> dict[str, Any]:
        """The whole config with its defaults as plain values, which load back to an equal config."""
        return self.model_dump()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.resolved() == other.resolved()

    __hash__ = None  # type: ignore[assignment]
