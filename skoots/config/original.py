"""A config of the original SKOOTS in the words of ours: what each old setting becomes, and which have no
counterpart.

Where the original's default differs from ours it is written out, so that the new config means what the old
one meant. Axes turn from x = row, y = column, z = section to [z, y, x]; epochs count from 1 instead of 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from skoots.config.annotated import Line, Tree, paragraph, plain, render
from skoots.config.arguments import argument_faults, argument_names, signature_of
from skoots.config.original_settings import Augmentation, OriginalSettings, each_setting
from skoots.config.words import shown
from skoots.errors import ConfigError, Fault
from skoots.registry import did_you_mean

OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD", "adamax": "Adamax"}
SCHEDULERS = {"cosine_annealing_warm_restarts": "CosineAnnealingWarmRestarts"}
CRITERIA = {"tversky": "Tversky", "soft_cldice": "SoftDiceClDice"}
NETWORKS = {"bism_unext": "UNeXT", "bism_unet": "UNet"}
ACTIVATIONS = {name: name for name in ("gelu", "relu", "silu", "selu")}
NORMS = {"layernorm": "layer", "batchnorm": "batch"}
GREY_RANGE = 4  # standard deviations in the range 0 to 1, as the preset `original` takes them
SWA = {"swa_start": 100, "swa_lr": 0.05}  # fixed in the original's training function

OTHER_NETWORK = "a detail of the old network, which is not the one written here"
SAME_BLOCKS = "the original has but one that is known here, and UNeXT is made of it"
ONE_DEVICE = "no matter of a result; data.augment_on says where crops are made"
ONE_MASK = (
    "the mask is every voxel within `radius` of the skeleton in physical distance, with gaps between objects"
)
SPARSE = "for voxels whose truth is unknown there is data.ignore_label; loss and metrics leave them out"
WITHOUT_COUNTERPART = {
    "SYSTEM.NUM_CPUS": "processes that load crops are train_settings.dataloader_workers",
    "MODEL.IN_CHANNELS": "read from the images",
    "MODEL.BLOCK": SAME_BLOCKS,
    "MODEL.CONCAT_BLOCK": SAME_BLOCKS,
    "MODEL.UPSAMPLE_BLOCK": SAME_BLOCKS,
    "TRAIN.TARGET": "the heads under model.heads say what is learnt",
    "TRAIN.LOAD_PRETRAINED_OPTIMIZER": "resume_training_from takes the optimizer's state too",
    "TRAIN.TRANSFORM_DEVICE": ONE_DEVICE,
    "TRAIN.DATALOADER_OUTPUT_DEVICE": ONE_DEVICE,
    "TRAIN.DATALOADER_PREFETCH_FACTOR": "torch's own choice is kept",
    "TRAIN.VALIDATION_SAMPLE_PER_IMAGE": "validation volumes are covered as a whole, not sampled",
    "TRAIN.VALIDATION_BATCH_SIZE": "validation volumes are covered as a whole, not sampled",
    "TRAIN.SAVE_PATH": "an option of the command: skoots train CONFIG --runs DIR",
    "TRAIN.SKELETON_MASK_FLANK_RADIUS": ONE_MASK,
    "AUGMENTATION.N_SKELETON_MASK_DILATE": f"{ONE_MASK}; raise `radius` instead",
    "AUGMENTATION.SMOOTH_SKELETON_KERNEL_SIZE": "vectors lead to the exact point; nothing is averaged",
    "EXPERIMENTAL.IS_SPARSE": SPARSE,
    "EXPERIMENTAL.SPARSE_BACKGROUND_PENALTY_MULTIPLIER": SPARSE,
    "EXPERIMENTAL.DIST_THR": SPARSE,
    "EXPERIMENTAL.BACKGROUND_N_ERODE": SPARSE,
    "EXPERIMENTAL.BACKGROUND_SLICE_PERCENTAGE": SPARSE,
}
UNET_LACKS = {  # what UNeXT has and the network for bism_unet has not
    "MODEL.OUT_CHANNELS": "the heads read as many features as model.backbone.channels begins with",
    "MODEL.DEPTHS": OTHER_NETWORK,
    "MODEL.KERNEL_SIZE": "UNet chooses kernels by the voxel size; `kernels` of the backbone sets them",
    "MODEL.DROP_PATH_RATE": OTHER_NETWORK,
    "MODEL.LAYER_SCALE_INIT_VALUE": OTHER_NETWORK,
    "MODEL.ACTIVATION": f"{OTHER_NETWORK}; UNet uses relu",
}
KNOWN_NETWORK = {  # what the network of a model file must be, so that it can be built here
    "MODEL.ARCHITECTURE": ("bism_unext",),
    "MODEL.ACTIVATION": tuple(ACTIVATIONS),
    "MODEL.BLOCK": ("block3d",),
    "MODEL.CONCAT_BLOCK": ("concatconv3d",),
    "MODEL.UPSAMPLE_BLOCK": ("upsamplelayer3d",),
    "MODEL.NORMALIZATION": ("layernorm",),
    "TRAIN.TARGET": ("skoots",),
}
NOT_DISTURBING = (  # settings of AUGMENTATION that are about something else
    "CROP_WIDTH",
    "CROP_HEIGHT",
    "CROP_DEPTH",
    "SMOOTH_SKELETON_KERNEL_SIZE",
    "BAKE_SKELETON_ANISOTROPY",
    "N_SKELETON_MASK_DILATE",
)


@dataclass(frozen=True)
class Note:
    """What is to be said about an old setting.

    Args:
        setting: e.g. ``TRAIN.SAVE_PATH``.
        text: a sentence without a full stop.
    """

    setting: str
    text: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.text}."


@dataclass(frozen=True)
class Translation:
    """An old config in the words of ours.

    Args:
        tree: the new config with its comments.
        remarks: settings whose counterpart means something else.
        changed_without: settings without a counterpart that the old config sets otherwise than by default.
        default_without: the others without a counterpart.
    """

    tree: Tree
    remarks: list[Note] = field(default_factory=list)
    changed_without: list[Note] = field(default_factory=list)
    default_without: list[Note] = field(default_factory=list)

    @property
    def config(self) -> dict[str, Any]:
        """The new config as a mapping."""
        return plain(self.tree)

    @property
    def notes(self) -> list[tuple[str, list[Note]]]:
        """What is to be said, under headings; empty ones are left out."""
        headed = [
            ("Translated, but not the same:", self.remarks),
            ("Set in the old config and without a counterpart:", self.changed_without),
            ("At the original's default and without a counterpart:", self.default_without),
        ]
        return [(heading, notes) for heading, notes in headed if notes]

    def text(self, opening: Sequence[str] = ()) -> str:
        """The new config as commented YAML.

        Args:
            opening: lines to begin with.
        """
        head = "".join(" ".join(["#", *line.splitlines()]) + "\n" for line in opening)
        foot = "".join(
            f"\n# {heading}\n" + "".join(f"{paragraph(str(note), indent='  ')}\n" for note in notes)
            for heading, notes in self.notes
        )
        return head + render(self.tree) + foot


def translate(old: OriginalSettings, name: str = "imported", gpus: int = 0) -> Translation:
    """Our config for one of the original.

    Args:
        old: its settings.
        name: names the experiment, and so the folder of the runs.
        gpus: CUDA devices at hand; what needs more is written as a comment.

    Raises:
        ConfigError: with every setting that the original could not have trained with either.
    """
    translator = _Translator(old, gpus)
    tree = translator.tree(re.sub(r'[/\\:*?"<>|]', "_", name).strip(". ") or "imported")
    if translator.faults:
        raise ConfigError(translator.faults)
    reasons = WITHOUT_COUNTERPART if translator.is_unext else WITHOUT_COUNTERPART | UNET_LACKS
    without: dict[bool, list[Note]] = {True: [], False: []}
    for setting, value, default in each_setting(old):
        if setting in reasons:
            said = Note(setting, f"is {shown(value)}; {reasons[setting]}")
            without[value != default].append(said)
    return Translation(tree, translator.remarks, without[True], without[False])


def check_network(old: OriginalSettings, source: str) -> None:
    """Whether a trained network of the original can be built here.

    Raises:
        ConfigError: with every setting of another network.
    """
    faults = [
        Fault(setting, f"is {shown(value)}, and a network can be imported with {' or '.join(known)} only", "")
        for setting, value, _ in each_setting(old)
        if (known := KNOWN_NETWORK.get(setting)) is not None and value.lower() not in known
    ]
    if faults:
        raise ConfigError(faults, source)


def to_zyx(triple: Sequence[float]) -> list[float]:
    """The original's (row, column, section) as ours, [z, y, x]."""
    row, column, section = triple
    return tidy([section, row, column])


def tidy(value: Any) -> Any:
    """Whole numbers as integers, also within lists."""
    if isinstance(value, list):
        return [tidy(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Translator:
    """Goes through the settings section by section, and notes faults and remarks on the way."""

    def __init__(self, old: OriginalSettings, gpus: int) -> None:
        self.old, self.gpus = old, gpus
        self.faults: list[Fault] = []
        self.remarks: list[Note] = []

    def tree(self, name: str) -> Tree:
        train = self.old.TRAIN
        return {
            "metadata": self.metadata(name),
            "data": self.data(),
            "model": {"backbone": self.backbone(), "heads": self.heads()},
            "runner": self.runner(),
            "train_settings": {
                "batch_size": Line(train.TRAIN_BATCH_SIZE, "TRAIN.TRAIN_BATCH_SIZE"),
                "dataloader_workers": Line(train.DATALOADER_NUM_WORKERS, "TRAIN.DATALOADER_NUM_WORKERS"),
                "epochs": Line(train.NUM_EPOCHS, "TRAIN.NUM_EPOCHS"),
                "seed": Line(42, "the original drew without a seed"),
            },
            "logger": Line([{"type": "TensorBoardLogger"}], "the original always wrote TensorBoard curves"),
            **self.pretrained(),
        }

    def metadata(self, name: str) -> Tree:
        notes = self.old.SKOOTS.NOTES
        return {
            "experiment": Line(name, "names the folder of the runs"),
            **({"notes": Line(notes, "SKOOTS.NOTES")} if notes else {}),
        }

    # Data

    def data(self) -> Tree:
        augmentation = self.old.AUGMENTATION
        crop = [augmentation.CROP_WIDTH, augmentation.CROP_HEIGHT, augmentation.CROP_DEPTH]
        tree: dict[str, Any] = {}
        resident = False
        for kind in ("train", "validation", "background"):
            sources = self.sources(kind.upper())
            resident = resident or any("store" in source for source in sources)
            if sources:
                counts = "" if kind == "validation" else f", TRAIN.{kind.upper()}_SAMPLE_PER_IMAGE"
                tree[kind] = Line(sources, f"TRAIN.{kind.upper()}_DATA_DIR{counts}")
            elif kind == "train":
                tree[kind] = Line([], "TRAIN.TRAIN_DATA_DIR is empty: name your folders here")
        tree["crop_size"] = Line(
            to_zyx(crop), "z, y, x: AUGMENTATION.CROP_DEPTH, CROP_WIDTH (rows), CROP_HEIGHT (columns)"
        )
        tree["voxel_size"] = self.voxel_size()
        tree["normalize"] = Line("zscore", "mean and deviation of each volume; there, of the training set")
        tree["augment"] = self.augment()
        if resident:
            tree["augment_on"] = Line("device", "where volumes stay, crops are made")
        return tree

    def sources(self, kind: str) -> list[dict[str, Any]]:
        """One node a folder."""
        train = self.old.TRAIN
        folders = getattr(train, f"{kind}_DATA_DIR")
        counts = getattr(train, f"{kind}_SAMPLE_PER_IMAGE")
        on_gpu = getattr(train, f"{kind}_STORE_DATA_ON_GPU") or train.STORE_DATA_ON_GPU or [False]
        on_gpu = on_gpu * len(folders) if len(on_gpu) == 1 else on_gpu
        nodes = [{"path": folder} for folder in folders]
        if kind != "VALIDATION":
            self.alike(f"TRAIN.{kind}_SAMPLE_PER_IMAGE", counts, f"TRAIN.{kind}_DATA_DIR", folders)
            for node, count in zip(nodes, counts):
                node["samples_per_volume"] = count
        if folders:
            self.alike(f"TRAIN.{kind}_STORE_DATA_ON_GPU", on_gpu, f"TRAIN.{kind}_DATA_DIR", folders)
        if kind == "VALIDATION":
            if folders and any(on_gpu):
                text = "volumes to validate on stay in main memory; only what crops are drawn from can move"
                self.remarks.append(Note(f"TRAIN.{kind}_STORE_DATA_ON_GPU", text))
        elif self.gpus:
            for node, wanted in zip(nodes, on_gpu):
                node.update({"store": "gpu"} if wanted else {})
        elif folders and any(on_gpu):
            text = "volumes stay in main memory, for no GPU is at hand; `store: gpu` of a folder moves them"
            self.remarks.append(Note(f"TRAIN.{kind}_STORE_DATA_ON_GPU", text))
        return nodes

    def voxel_size(self) -> Line:
        """Of the two factors per axis, that of the training where it was changed."""
        baked, stated = self.old.AUGMENTATION.BAKE_SKELETON_ANISOTROPY, self.old.SKOOTS.ANISOTROPY
        changed = baked != Augmentation.model_fields["BAKE_SKELETON_ANISOTROPY"].default
        names = ["SKOOTS.ANISOTROPY", "AUGMENTATION.BAKE_SKELETON_ANISOTROPY"]
        taken, other = reversed(names) if changed else names
        if baked != stated:
            text = f"differs from {taken}, which was taken: voxels have one size, in all that is computed"
            self.remarks.append(Note(other, f"is {shown(tidy(stated if changed else baked))} and {text}"))
        return Line(
            to_zyx(baked if changed else stated),
            f"{taken}: proportions only; without this line the files say",
        )

    def augment(self) -> Line:
        old = self.old.AUGMENTATION
        disturbing = [name for name in Augmentation.model_fields if name not in NOT_DISTURBING]
        if all(getattr(old, name) == Augmentation.model_fields[name].default for name in disturbing):
            return Line("original", "AUGMENTATION: every rate and range at the original's default")
        text = "is measured in grey values from 0 to 1; a standard deviation is taken for a quarter of them"
        self.remarks += [
            Note(f"AUGMENTATION.{name}", f"{text}, so numbers are {GREY_RANGE} times as large")
            for name in ("BRIGHTNESS_RANGE", "NOISE_GAMMA")
        ]
        plane = {
            "scale": old.AFFINE_SCALE,
            "degrees": self.either_side("AUGMENTATION.AFFINE_YAW", old.AFFINE_YAW),
            "shear": self.either_side("AUGMENTATION.AFFINE_SHEAR", old.AFFINE_SHEAR),
        }
        grid = {"grid": to_zyx(old.ELASTIC_GRID_SHAPE), "magnitude": to_zyx(old.ELASTIC_GRID_MAGNITUDE)}
        brightness = {"contrast": [1, 1], "brightness": [GREY_RANGE * b for b in old.BRIGHTNESS_RANGE]}
        contrast = {"contrast": old.CONTRAST_RANGE, "brightness": [0, 0]}
        nodes: list[dict[str, Any]] = [
            {"type": "Flip", "rate": old.FLIP_RATE},
            {"type": "Affine", "rate": old.AFFINE_RATE, **plane},
            {"type": "Elastic", "rate": old.ELASTIC_RATE, **grid},
            {"type": "Invert", "rate": 0.5},
            {"type": "BrightnessContrast", "rate": old.BRIGHTNESS_RATE, **brightness},
            {"type": "BrightnessContrast", "rate": old.CONTRAST_RATE, **contrast},
            {"type": "Noise", "rate": old.NOISE_RATE, "deviation": GREY_RANGE * old.NOISE_GAMMA},
        ]
        tidied = [{key: tidy(value) for key, value in node.items()} for node in nodes]
        return Line(tidied, "AUGMENTATION: FLIP, AFFINE, ELASTIC, inversion, BRIGHTNESS, CONTRAST, NOISE")

    def either_side(self, setting: str, limits: Sequence[float]) -> float:
        """An angle that goes as far to one side as to the other."""
        largest = max(abs(limit) for limit in limits)
        if sum(limits):
            text = f"is {shown(tidy(list(limits)))}; angles go as far to either side here, so {largest:g}"
            self.remarks.append(Note(setting, text))
        return largest

    # Model

    @property
    def is_unext(self) -> bool:
        return NETWORKS.get(self.old.MODEL.ARCHITECTURE.lower()) == "UNeXT"

    def backbone(self) -> Tree:
        model = self.old.MODEL
        network = self.choice("MODEL.ARCHITECTURE", model.ARCHITECTURE, NETWORKS)
        norm = self.choice("MODEL.NORMALIZATION", model.NORMALIZATION, NORMS)
        if self.is_unext:
            return self.unext()
        half = model.DIMS[: len(model.DIMS) // 2 + 1]
        text = f"is {shown(model.ARCHITECTURE)}; the nearest network here is {network}"
        self.remarks.append(Note("MODEL.ARCHITECTURE", f"{text}, which old weights do not fit"))
        if [*half[:-1], *reversed(half)] != model.DIMS:
            text = f"is {shown(model.DIMS)}; the way up has the channels of the way down, mirrored"
            self.remarks.append(Note("MODEL.DIMS", text))
        return {
            "type": Line(network, f"MODEL.ARCHITECTURE {model.ARCHITECTURE}: the nearest network here"),
            "channels": Line(half, "MODEL.DIMS, the way down"),
            "norm": Line(norm, "MODEL.NORMALIZATION"),
        }

    def unext(self) -> Tree:
        model = self.old.MODEL
        self.alike("MODEL.DEPTHS", model.DEPTHS, "MODEL.DIMS", model.DIMS)
        if len(model.DIMS) % 2 == 0:
            problem = f"is {shown(model.DIMS)}, an even number of stages"
            self.faults.append(Fault("MODEL.DIMS", problem, "Name the way down, the deepest, the way up."))
        if model.KERNEL_SIZE % 2 == 0:
            self.faults.append(Fault("MODEL.KERNEL_SIZE", f"is {model.KERNEL_SIZE}", "Write an odd number."))
        if model.NORMALIZATION.lower() == "batchnorm":
            text = f"is {shown(model.NORMALIZATION)}; UNeXT normalises over channels, as layernorm does"
            self.remarks.append(Note("MODEL.NORMALIZATION", text))
        # At 0 the original has no factors, and so nothing is scaled.
        scale = tidy(model.LAYER_SCALE_INIT_VALUE) if model.LAYER_SCALE_INIT_VALUE > 0 else 1
        return {
            "type": Line("UNeXT", "MODEL.ARCHITECTURE bism_unext"),
            "dims": Line(model.DIMS, "MODEL.DIMS"),
            "depths": Line(model.DEPTHS, "MODEL.DEPTHS"),
            "kernel": Line(model.KERNEL_SIZE, "MODEL.KERNEL_SIZE"),
            "out_channels": Line(model.OUT_CHANNELS, "MODEL.OUT_CHANNELS"),
            "activation": Line(
                self.choice("MODEL.ACTIVATION", model.ACTIVATION, ACTIVATIONS), "MODEL.ACTIVATION"
            ),
            "drop_path": Line(tidy(model.DROP_PATH_RATE), "MODEL.DROP_PATH_RATE"),
            "layer_scale": Line(scale, "MODEL.LAYER_SCALE_INIT_VALUE"),
        }

    def heads(self) -> Tree:
        train = self.old.TRAIN
        decay = [[tidy(multiplier), math.floor(epoch) + 1] for multiplier, epoch in train.SIGMA_DECAY]
        return {
            "vector": {
                "type": Line("VectorHead"),
                "scale": Line(to_zyx(self.old.SKOOTS.VECTOR_SCALING), "SKOOTS.VECTOR_SCALING"),
                "sigma": Line(to_zyx(train.INITIAL_SIGMA), "TRAIN.INITIAL_SIGMA"),
                "sigma_decay": Line(decay, "TRAIN.SIGMA_DECAY; epochs count from 1 here, so one more"),
                **self.loss("EMBED"),
            },
            "semantic": {"type": Line("SemanticHead"), **self.loss("PROBABILITY")},
            "skeleton": {
                "type": Line("SkeletonHead"),
                "target_generator": Line(
                    {"type": "SkeletonMaskTarget", "radius": tidy(train.SKELETON_MASK_RADIUS)},
                    "TRAIN.SKELETON_MASK_RADIUS; `auto` follows each object",
                ),
                **self.loss("SKELETON"),
            },
        }

    def loss(self, name: str) -> Tree:
        from skoots.models.criteria.base import CRITERIA as PARTS

        train, setting = self.old.TRAIN, f"TRAIN.LOSS_{name}"
        part = self.choice(setting, getattr(train, f"LOSS_{name}"), CRITERIA)
        given = self.arguments(
            f"{setting}_KEYWORDS",
            part and PARTS.get(part),
            self.keywords(f"{setting}_KEYWORDS", f"{setting}_VALUES"),
        )
        start = max(1, getattr(train, f"LOSS_{name}_START_EPOCH") + 2)
        return {
            "criterion": Line({"type": part, **given}, f"{setting}, _KEYWORDS, _VALUES"),
            "weight": Line(
                tidy(getattr(train, f"LOSS_{name}_RELATIVE_WEIGHT")), f"{setting}_RELATIVE_WEIGHT"
            ),
            "start_epoch": Line(start, f"{setting}_START_EPOCH: there epoch > start, counted from 0"),
        }

    # Training

    def runner(self) -> Tree:
        train = self.old.TRAIN
        for setting, interval in (
            ("TRAIN.VALIDATE_EPOCH_SKIP", train.VALIDATE_EPOCH_SKIP),
            ("TRAIN.SAVE_INTERVAL", train.SAVE_INTERVAL),
        ):
            text = (
                f"is {interval}; that is after epochs {interval}, {2 * interval}, ... here and was after 1, "
            )
            self.remarks.append(Note(setting, f"{text}{1 + interval}, ... there"))
        kept = max(1, math.ceil(train.NUM_EPOCHS / train.SAVE_INTERVAL))
        return {
            "eval_interval": Line(train.VALIDATE_EPOCH_SKIP, "TRAIN.VALIDATE_EPOCH_SKIP"),
            "optimizer": self.optimizer(),
            "scheduler": {
                "type": Line(self.choice("TRAIN.SCHEDULER", train.SCHEDULER, SCHEDULERS), "TRAIN.SCHEDULER"),
                "params": Line({"T_0": train.SCHEDULER_T0}, "TRAIN.SCHEDULER_T0"),
            },
            "warmup_steps": Line(train.N_WARMUP, "TRAIN.N_WARMUP: steps on one batch before the first epoch"),
            "precision": self.precision(),
            "compile": Line(self.old.MODEL.COMPILE, "MODEL.COMPILE"),
            "cudnn_benchmark": Line(train.CUDNN_BENCHMARK, "TRAIN.CUDNN_BENCHMARK"),
            **self.devices(),
            **self.profile(),
            "swa": Line(
                SWA, "the original averaged weights so, but neither used nor saved them", active=False
            ),
            "snapshots": {
                "save_epochs": Line(train.SAVE_INTERVAL, "TRAIN.SAVE_INTERVAL"),
                "max_snapshots": Line(kept, "the original kept all"),
            },
        }

    def optimizer(self) -> Tree:
        from skoots.training.optimizers import optimizer_class

        train = self.old.TRAIN
        name = self.choice("TRAIN.OPTIMIZER", train.OPTIMIZER, OPTIMIZERS)
        own = {"lr": train.LEARNING_RATE, "weight_decay": tidy(train.WEIGHT_DECAY)}
        more = self.keywords("TRAIN.OPTIMIZER_KEYWORD_ARGUMENTS", "TRAIN.OPTIMIZER_KEYWORD_VALUES")
        if name != "SGD":
            more = {"eps": train.OPTIMIZER_EPS, **more}
        else:
            self.remarks.append(
                Note("TRAIN.OPTIMIZER_EPS", f"is {train.OPTIMIZER_EPS:g}; sgd has no such argument")
            )
        for twice in own.keys() & more.keys():
            problem = "has a setting of its own"
            self.faults.append(Fault(f"TRAIN.OPTIMIZER_KEYWORD_ARGUMENTS.{twice}", problem, "Leave it out."))
        params = {**own, **more}
        self.arguments("TRAIN.OPTIMIZER_KEYWORD_ARGUMENTS", name and optimizer_class(name), params)
        comments = {
            "lr": "TRAIN.LEARNING_RATE",
            "weight_decay": "TRAIN.WEIGHT_DECAY",
            "eps": "TRAIN.OPTIMIZER_EPS",
        }
        given = dict.fromkeys(train.OPTIMIZER_KEYWORD_ARGUMENTS, "TRAIN.OPTIMIZER_KEYWORD_ARGUMENTS, _VALUES")
        return {
            "type": Line(name, "TRAIN.OPTIMIZER"),
            "params": {key: Line(value, {**comments, **given}[key]) for key, value in params.items()},
        }

    def precision(self) -> Line:
        wanted, setting = self.old.TRAIN.MIXED_PRECISION, "TRAIN.MIXED_PRECISION"
        if wanted and not self.gpus:
            text = "is true; written as float32, for no CUDA device is at hand. On one, write float16"
            self.remarks.append(Note(setting, text))
            return Line("float32", f"{setting} is true: float16, where CUDA is at hand")
        return Line("float16" if wanted else "float32", setting)

    def devices(self) -> Tree:
        """The line of GPUs, switched off where the machine has fewer."""
        wanted, distributed = self.old.SYSTEM.NUM_GPUS, self.old.TRAIN.DISTRIBUTED
        count = wanted if distributed else min(wanted, 1)
        if count > 1:
            each = self.old.TRAIN.TRAIN_BATCH_SIZE
            text = f"is {each} on each of {count} GPUs, {each * count} crops in a step"
            same = f"on one device, runner.batch_accumulate: {count} comes to the same"
            self.remarks.append(Note("TRAIN.TRAIN_BATCH_SIZE", f"{text}; {same}"))
        if not count:
            self.remarks.append(Note("SYSTEM.NUM_GPUS", "is 0; device: auto takes what the machine has"))
            return {}
        enough = count <= self.gpus
        comment = "SYSTEM.NUM_GPUS, TRAIN.DISTRIBUTED" + ("" if enough else f"; at hand: {self.gpus}")
        return {"gpus": Line(list(range(count)), comment, active=enough)}

    def profile(self) -> Tree:
        train = self.old.TRAIN
        switches = {
            "autograd_profile": train.AUTOGRAD_PROFILE,
            "emit_nvtx": train.AUTOGRAD_EMIT_NVTX,
            "detect_anomaly": train.AUTOGRAD_DETECT_ANOMALY,
        }
        return {"profile": Line(switches, "TRAIN.AUTOGRAD_*")} if any(switches.values()) else {}

    def pretrained(self) -> Tree:
        paths, setting = self.old.TRAIN.PRETRAINED_MODEL_PATH, "TRAIN.PRETRAINED_MODEL_PATH"
        if not paths:
            return {}
        if self.is_unext:
            text = (
                f"is {shown(paths)}; skoots import FILE -o snapshot.pt makes a snapshot of it to begin with"
            )
        else:
            text = f"is {shown(paths)}; weights of the old network do not fit the one written here"
        self.remarks.append(Note(setting, text))
        return {"weights": Line({"from": paths[0]}, f"{setting}: import it first", active=False)}

    # Faults

    def choice(self, setting: str, value: str, known: Mapping[str, str]) -> str:
        """What a name becomes; empty, and a fault, if the original did not know it."""
        if value.lower() not in known:
            self.faults.append(Fault(setting, f"is {shown(value)}", did_you_mean(value, list(known))))
        return known.get(value.lower(), "")

    def alike(self, setting: str, values: Sequence[Any], other: str, others: Sequence[Any]) -> bool:
        """Whether two lists are as long as each other; a fault if not."""
        if len(values) != len(others):
            problem = f"has {len(values)} entries and {other} has {len(others)}"
            self.faults.append(Fault(setting, problem, "Give one for each."))
        return len(values) == len(others)

    def keywords(self, names: str, values: str) -> dict[str, Any]:
        """Arguments out of a list of names and a list of values."""
        lists = [getattr(self.old.TRAIN, setting.removeprefix("TRAIN.")) for setting in (names, values)]
        return dict(zip(lists[0], tidy(lists[1]))) if self.alike(values, lists[1], names, lists[0]) else {}

    def arguments(self, setting: str, part: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments under the part's own names for them; those that it does not take are faults."""
        if not part:
            return dict(given)
        signature = signature_of(part, without=("params",))
        names = argument_names(signature, given)
        own = {names[name]: value for name, value in given.items()}
        self.faults += argument_faults(signature, own, lambda name: f"{setting}.{name}")
        return own
