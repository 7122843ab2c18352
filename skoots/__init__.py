"""SKOOTS: SKeletOn ObjecT Segmentation of touching, curved and branching objects in 2D and 3D microscopy.

The front door is lazy: ``import skoots`` costs next to nothing; a name brings its module, and torch, when
it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skoots._version import __version__
    from skoots.api import (
        check,
        compare,
        demo,
        evaluate,
        evaluate_snapshot,
        import_config,
        import_model,
        inspect,
        load_model,
        load_weights,
        plan,
        preview,
        publish,
        registries,
        resume,
        segment,
        skeletonize,
        train,
        train_all,
        tune,
        view,
    )
    from skoots.data.augment.base import AUGMENTATIONS
    from skoots.data.sources import DATASETS
    from skoots.errors import ConfigError, PluginError, SkootsError, SnapshotError, VolumeError
    from skoots.instances import DECODERS
    from skoots.loggers.base import LOGGERS
    from skoots.models.backbones.base import BACKBONES
    from skoots.models.criteria.base import CRITERIA
    from skoots.models.detectors.base import DETECTORS
    from skoots.models.heads.base import HEADS
    from skoots.models.necks.base import NECKS
    from skoots.models.predictors.base import PREDICTORS
    from skoots.models.targets.base import TARGET_GENERATORS
    from skoots.training.runner import RUNNERS

__all__ = [
    "AUGMENTATIONS",
    "BACKBONES",
    "CRITERIA",
    "DATASETS",
    "DECODERS",
    "DETECTORS",
    "HEADS",
    "LOGGERS",
    "NECKS",
    "PREDICTORS",
    "RUNNERS",
    "TARGET_GENERATORS",
    "ConfigError",
    "PluginError",
    "SkootsError",
    "SnapshotError",
    "VolumeError",
    "__version__",
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

_VERBS = (
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
)
_ERRORS = ("ConfigError", "PluginError", "SkootsError", "SnapshotError", "VolumeError")
_HOMES = {
    "__version__": "skoots._version",
    **dict.fromkeys(_VERBS, "skoots.api"),
    **dict.fromkeys(_ERRORS, "skoots.errors"),
    "AUGMENTATIONS": "skoots.data.augment.base",
    "BACKBONES": "skoots.models.backbones.base",
    "CRITERIA": "skoots.models.criteria.base",
    "DATASETS": "skoots.data.sources",
    "DECODERS": "skoots.instances.decoders.base",
    "DETECTORS": "skoots.models.detectors.base",
    "HEADS": "skoots.models.heads.base",
    "LOGGERS": "skoots.loggers.base",
    "NECKS": "skoots.models.necks.base",
    "PREDICTORS": "skoots.models.predictors.base",
    "RUNNERS": "skoots.training.runner",
    "TARGET_GENERATORS": "skoots.models.targets.base",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
