"""The verbs: what joins rooms into a run. ``import skoots`` offers the same names."""

from skoots.api.build import LoadedModel, load_model
from skoots.api.check import CheckReport, check
from skoots.api.demo import Demo, demo
from skoots.api.evaluate import Evaluation, evaluate
from skoots.api.evaluate_snapshot import SnapshotEvaluation, evaluate_snapshot
from skoots.api.import_config import ImportedConfig, import_config
from skoots.api.import_model import ImportedModel, import_model
from skoots.api.inspect import SnapshotReport, compare, inspect
from skoots.api.parts import registries
from skoots.api.plan import Plan, plan
from skoots.api.preview import Preview, preview
from skoots.api.publish import Publication, publish
from skoots.api.segment import Segmentation, segment
from skoots.api.skeletonize import SkeletonizedVolume, SkeletonReport, skeletonize
from skoots.api.train import TrainingOutcome, resume, train
from skoots.api.train_all import Attempt, train_all
from skoots.api.tune import Tuning, tune
from skoots.api.view import view
from skoots.api.weights import load_weights

__all__ = [
    "Attempt",
    "CheckReport",
    "Demo",
    "Evaluation",
    "ImportedConfig",
    "ImportedModel",
    "LoadedModel",
    "Plan",
    "Preview",
    "Publication",
    "Segmentation",
    "SkeletonReport",
    "SkeletonizedVolume",
    "SnapshotEvaluation",
    "SnapshotReport",
    "TrainingOutcome",
    "Tuning",
    "check",
    "compare",
    "demo",
    "evaluate",
    "evaluate_snapshot",
    "import_config",
    "import_model",
    "inspect",
    "load_model",
    "load_weights",
    "plan",
    "preview",
    "publish",
    "registries",
    "resume",
    "segment",
    "skeletonize",
    "train",
    "train_all",
    "tune",
    "view",
]
