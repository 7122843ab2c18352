"""Curves and pictures for TensorBoard."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skoots.loggers.base import LOGGERS, Logger

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger("skoots")


@LOGGERS.register
class TensorBoardLogger(Logger):
    """Writes event files into the run folder; look at them with ``tensorboard --logdir RUN_FOLDER``.

    When a run goes on from an earlier epoch, what the former event files say about later ones is hidden; in a
    new folder the curves begin at epoch 1 too.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._config: Mapping[str, object] = {}
        self._writer: SummaryWriter | None = None
        self._failed = False

    def start(self, config: Mapping[str, object]) -> None:
        """Keep the config for the first event file."""
        self._config = config

    def history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write what the folder lacks: all epochs in a new one, else the last, of which a crash may have lost
        the points after its snapshot was saved."""
        first = len(rows) if any(self.folder.glob("events.out.tfevents.*")) else 1
        for epoch in range(first, len(rows) + 1):
            self.scalars(rows[epoch - 1], epoch)

    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        """One point on every curve."""

        def add(writer: SummaryWriter) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, epoch)

        self._write(epoch, add)

    def image(self, name: str, picture: np.ndarray, epoch: int) -> None:
        """A picture, (H, W, 3) uint8."""
        self._write(epoch, lambda writer: writer.add_image(name, picture, epoch, dataformats="HWC"))

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._write(0, lambda writer: writer.close())
            self._writer = None

    def _write(self, epoch: int, action: Callable[[SummaryWriter], object]) -> None:
        if self._failed:
            return
        try:
            writer = self._open(epoch)
            action(writer)
            writer.flush()
        except OSError as error:
            self._failed = True
            log.warning(
                "TensorBoard events cannot be written to %s (%s); training goes on without it.",
                self.folder,
                error,
            )

    def _open(self, epoch: int) -> SummaryWriter:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            went_on = any(self.folder.glob("events.out.tfevents.*"))
            self._writer = SummaryWriter(str(self.folder), purge_step=epoch if went_on else None)
            if self._config:
                text = json.dumps(self._config, indent=2, default=str)
                self._writer.add_text("config", f"```json\n{text}\n```", epoch)
        return self._writer
