"""All registries, for ``skoots list``."""

from __future__ import annotations

from typing import Any

from skoots.registry import Registry


def registries() -> dict[str, Registry[Any]]:
    """Every registry by the plural of what it collects."""
    from skoots.data.augment import AUGMENTATIONS
    from skoots.data.sources import DATASETS
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

    return {
        "backbones": BACKBONES,
        "necks": NECKS,
        "heads": HEADS,
        "target_generators": TARGET_GENERATORS,
        "predictors": PREDICTORS,
        "criteria": CRITERIA,
        "decoders": DECODERS,
        "detectors": DETECTORS,
        "datasets": DATASETS,
        "augmentations": AUGMENTATIONS,
        "loggers": LOGGERS,
        "runners": RUNNERS,
    }
