"""The contract of loggers, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from skoots.registry import Registry


class Logger(ABC):
    """Takes what a run reports. Every logger is built with the fact ``folder`` (the run folder, a Path).

    A logger that loses its server or disk says so once and goes on: logging never stops training.

    Attributes:
        folder: the run folder.
        image_log_interval: epochs between the pictures that it is given; None means those of the run
            (``runner.image_log_interval``).
    """

    folder: Path
    image_log_interval: int | None = None

    def start(self, config: Mapping[str, object]) -> None:  # noqa: B027 - optional
        """Called once before training with the resolved config, as plain values."""

    @abstractmethod
    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        """Numbers of one epoch (counted from 1) by name, e.g. ``train.loss``, ``test.F1``, ``lr``."""

    def image(self, name: str, picture: np.ndarray, epoch: int) -> None:  # noqa: B027 - optional
        """A picture, (H, W, 3) uint8."""

    def history(self, rows: Sequence[Mapping[str, float]]) -> None:  # noqa: B027 - optional
        """Called after ``start`` when a run goes on: what ``scalars`` was given for epochs 1 to
        ``len(rows)``.

        Whatever the logger holds about later epochs was abandoned.
        """

    def snapshot(self, path: Path, aliases: Sequence[str], epoch: int) -> None:  # noqa: B027 - optional
        """A snapshot was saved and is whole on disk.

        Args:
            path: the file. It is never written to again, but its name may soon mean another snapshot.
            aliases: what it is: ``latest``, ``best``, ``average``, or an epoch such as ``010``.
            epoch: epochs completed.
        """

    def close(self) -> None:  # noqa: B027 - optional
        """Called once at the end, also after an error."""


LOGGERS: Registry[Logger] = Registry(
    "logger", Logger, home=["skoots.loggers.csv", "skoots.loggers.tensorboard", "skoots.loggers.wandb"]
)
