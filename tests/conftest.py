"""What holds for all tests."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from typing import Any

import pytest

# Before torch is imported: one thread computes tiny networks fastest, and fights with no other process.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def without_pending(config: dict[str, Any]) -> dict[str, Any]:
    """A config without keys and parts that `skoots import-config` writes and the schema does not know yet.

    To be deleted, with its calls, once they are there; nothing is left out that is.
    """
    from skoots.config.schema import DataSection, RunnerSection
    from skoots.data.augment import AUGMENTATIONS

    kept = copy.deepcopy(config)
    runner, data = kept["runner"], kept["data"]
    for key in ("warmup_steps", "precision", "compile", "cudnn_benchmark", "profile"):
        if key not in RunnerSection.model_fields:
            runner.pop(key, None)
    if "background" not in DataSection.model_fields:
        data.pop("background", None)
    if "original" not in str(DataSection.model_fields["augment"].annotation):
        data["augment"] = "default" if data["augment"] == "original" else data["augment"]
    if isinstance(data["augment"], list):
        data["augment"] = [node for node in data["augment"] if node["type"] in AUGMENTATIONS]
    return kept


@pytest.fixture(name="without_pending")
def _without_pending() -> Callable[[dict[str, Any]], dict[str, Any]]:
    return without_pending
