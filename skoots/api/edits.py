"""What a user has edited since the snapshot that a training goes on from, and what becomes of it.

An edit takes effect, or it comes too late: then a warning says so, and the config that is saved keeps what
was used."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from skoots.api.build import PRETRAINED
from skoots.api.start import Start
from skoots.config import Config, load_config
from skoots.config.changes import changes
from skoots.errors import ConfigError, PluginError
from skoots.training.edits import Edits
from skoots.training.optimizers import changed_options, options_of
from skoots.training.schedules import timing_of, watches_a_metric

log = logging.getLogger("skoots")

Path = tuple[str, ...]
_NEVER = object()


def without_late_edits(config: Config, start: Start) -> Config:
    """The config without what can no longer be changed, each said in a warning.

    Args:
        config: as the user wants it.
        start: the snapshot that training continues from, if there is one.
    """
    if start.state is None:
        return config
    before, now = start.state.get("cfg", {}), config.resolved()
    late = [
        (path, why)
        for path, why in _too_late(now, start)
        if _at(before, path) not in (_NEVER, _at(now, path))
    ]
    for path, why in late:
        for change in changes(_at(before, path), _at(now, path), ".".join(path)):
            log.warning("Changed since the snapshot, and without effect, because %s: %s.", why, change)
        _set(now, path, _at(before, path))
    if not late:
        return config
    return _like(config, now)


def with_precision_of(config: Config, start: Start) -> Config:
    """The config with the number format of the snapshot in the place of ``auto``: a training that goes on
    computes as it began, whatever the GPU.

    Args:
        config: as the user wants it.
        start: the snapshot that training continues from, if there is one.
    """
    before = _at((start.state or {}).get("cfg", {}), ("runner", "precision"))
    if config.runner.precision != "auto" or before in (_NEVER, "auto"):
        return config
    log.info("precision auto: %s, as in the snapshot.", before)
    now = config.resolved()
    _set(now, ("runner", "precision"), before)
    return _like(config, now)


def _like(config: Config, tree: Mapping[str, Any]) -> Config:
    made = Config.model_validate(tree)
    made._source = config.source
    return made


def _too_late(now: Mapping[str, Any], start: Start) -> Iterator[tuple[Path, str]]:
    """Keys that count only where a training begins, and why they do not here."""
    assert start.state is not None
    from_snapshot = "the weights are those of the snapshot"
    yield ("weights",), from_snapshot
    backbone = _at(now, ("model", "backbone"))
    for place in (("model", "backbone"), ("model", "backbone", "params")):
        for key in PRETRAINED if isinstance(backbone, Mapping) else ():
            yield (*place, key), from_snapshot
    if start.state.get("step") or start.state.get("epoch") or start.state.get("sampler", {}).get("batches"):
        yield ("runner", "warmup_steps"), "the warm-up is over"
    if start.in_place:
        yield ("metadata", "experiment"), "the run stays in its folder"
        yield ("resume_training_from",), "the run goes on from its own newest snapshot"


def edits_since(before: Mapping[str, Any], config: Config, model: nn.Module) -> Edits:
    """What differs between the config in a snapshot and the one that training continues with.

    Args:
        before: as the snapshot holds it.
        config: as it is now.
        model: whose parameters are trained.
    """
    now = config.resolved()

    def changed(*path: str) -> bool:
        return _at(before, path) not in (_NEVER, _at(now, path))

    section = config.runner
    schedule = changed("runner", "scheduler")
    if section.scheduler is not None and watches_a_metric(section.scheduler):
        by_key_metric = timing_of(section.scheduler)[1] is None
        schedule |= by_key_metric and changed("runner", "key_metric")
    started = _at(before, ("runner", "swa", "swa_start"))
    return Edits(
        options=_edited_options(_at(before, ("runner", "optimizer")), section.optimizer, model),
        schedule=schedule,
        swa=changed("runner", "swa"),
        swa_start=changed("runner", "swa") and section.swa is not None and started != section.swa.swa_start,
        seed=changed("train_settings", "seed"),
    )


def _edited_options(before: Any, now: Mapping[str, Any], model: nn.Module) -> list[set[str]] | None:
    if before is _NEVER or before == now:
        return []
    try:  # what lies in a file that somebody has given is not yet checked
        known = load_config({"runner": {"optimizer": before, "key_metric": "test.loss"}}).runner.optimizer
        return changed_options(options_of(known, model), options_of(now, model))
    except (ConfigError, PluginError):
        return None


def _at(tree: Any, path: Path) -> Any:
    """The value of a key; ``_NEVER`` if there is none."""
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return _NEVER
        tree = tree[key]
    return tree


def _set(tree: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value
