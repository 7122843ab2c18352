"""Every config of a folder, one training after the other; the original's ``--batch``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skoots.api.train import TrainingOutcome, train
from skoots.errors import ConfigError
from skoots.refusals import explained

log = logging.getLogger("skoots")


@dataclass(frozen=True)
class Attempt:
    """What became of one config.

    Args:
        config: the file.
        outcome: of its training; None if it failed.
        error: why it failed.
    """

    config: Path
    outcome: TrainingOutcome | None = None
    error: Exception | None = None


def train_all(
    folder: Path | str,
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str] = (),
    runs: Path | str = "runs",
    device: str | None = None,
    progress: bool = True,
) -> list[Attempt]:
    """Train every config of a folder in turn, in the order of their names; one that fails does not keep the
    others from it. A signal ends the training that runs, and no other is begun.

    Args:
        folder: of ``.yaml`` files.
        overrides: of each config.
        plugins: modules or files that register parts.
        runs: folder in which each experiment gets its own.
        device: wins over the configs'.
        progress: show progress bars.

    Raises:
        ConfigError: the folder holds no config.
    """
    configs = sorted(path for path in Path(folder).iterdir() if path.suffix in (".yaml", ".yml"))
    if not configs:
        raise ConfigError(f"{folder} holds no config; expected files that end in .yaml.")
    attempts = []
    for number, config in enumerate(configs, start=1):
        log.info("Config %d of %d: %s", number, len(configs), config)
        attempts.append(_attempt(config, overrides, plugins, runs, device, progress))
        outcome = attempts[-1].outcome
        if outcome is not None and outcome.interrupted:
            break
    return attempts


def _attempt(
    config: Path,
    overrides: Sequence[str],
    plugins: Sequence[str],
    runs: Path | str,
    device: str | None,
    progress: bool,
) -> Attempt:
    try:
        outcome = train(config, overrides, plugins=plugins, runs=runs, device=device, progress=progress)
    except Exception as error:  # a plugin's, or torch's about this network: the others may do well
        told = explained(error)
        log.error("%s: %s", config, told or error, exc_info=told is None)
        return Attempt(config, error=told or error)
    return Attempt(config, outcome)
