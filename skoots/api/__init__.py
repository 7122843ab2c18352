"""The verbs: what joins rooms into a run. ``import skoots`` offers the same names."""

from skoots.api.build import LoadedModel, load_model
from skoots.api.check import CheckReport, check
from skoots.api.demo import Demo, demo
from skoots.api.evaluate import Evaluation, evaluate
from skoots.api.parts import registries
from skoots.api.segment import Segmentation, segment
from skoots.api.skeletonize import SkeletonizedVolume, SkeletonReport, skeletonize
from skoots.api.train import TrainingOutcome, train
from skoots.api.view import view

__all__ = [
    "CheckReport",
    "Demo",
    "Evaluation",
    "LoadedModel",
    "Segmentation",
    "SkeletonReport",
    "SkeletonizedVolume",
    "TrainingOutcome",
    "check",
    "demo",
    "evaluate",
    "load_model",
    "registries",
    "segment",
    "skeletonize",
    "train",
    "view",
]
