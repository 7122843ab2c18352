"""Tracking with Weights & Biases."""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skoots.errors import ConfigError
from skoots.loggers.base import LOGGERS, Logger
from skoots.registry import did_you_mean

log = logging.getLogger("skoots")


@LOGGERS.register
class WandbLogger(Logger):
    """Sends numbers and pictures to `Weights & Biases <https://docs.wandb.ai>`_, under the options of
    DeepLabCut's logger.

    The id of the W&B run is kept in ``wandb_run.json``, so that a run that goes on continues there too.
    Whatever W&B cannot do (no login, no network, no server) is said once, and training goes on.

    Args:
        project_name: name of the W&B project.
        run_name: name of the W&B run; None takes the name of the run folder.
        image_log_interval: pictures every so many epochs; None sends none.
        folder: the run folder, where W&B keeps its files.
        **init: handed to ``wandb.init`` as they are, e.g. ``tags``, ``entity``, ``mode``.

    Raises:
        ConfigError: ``wandb.init`` has no such argument.
    """

    def __init__(
        self,
        project_name: str = "skoots",
        run_name: str | None = None,
        image_log_interval: int | None = None,
        folder: Path | str = ".",
        **init: Any,
    ) -> None:
        self.folder = Path(folder)
        self.project_name = project_name
        self.run_name = run_name
        self.image_log_interval = image_log_interval
        self._init = init
        self._run: Any = None
        self._config: Mapping[str, object] = {}
        self._failed = False
        if image_log_interval is not None and image_log_interval < 1:
            raise ConfigError(
                "WandbLogger: image_log_interval counts epochs; give 1 or more, or leave it out."
            )
        self._check_arguments(init)

    def start(self, config: Mapping[str, object]) -> None:
        """Open the W&B run."""
        self._config = config
        self._attempt(lambda run: None)

    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        """One point on every curve, at step ``epoch``."""
        self._attempt(lambda run: run.log(dict(values), step=epoch))

    def image(self, name: str, picture: np.ndarray, epoch: int) -> None:
        """A picture, (H, W, 3) uint8, in the epochs of ``image_log_interval``."""
        if self.image_log_interval is None or epoch % self.image_log_interval:
            return

        def send(run: Any) -> None:
            import wandb

            run.log({name: wandb.Image(picture)}, step=epoch)

        self._attempt(send)

    def close(self) -> None:
        """Finish the W&B run."""
        if self._run is not None:
            self._attempt(lambda run: run.finish())
            self._run = None

    def _attempt(self, action: Callable[[Any], None]) -> None:
        if self._failed:
            return
        try:
            if self._run is None:
                self._run = self._open()
            action(self._run)
        except Exception as error:
            if not _is_of_wandb(error):
                raise
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        self._failed = True
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        log.warning("Weights & Biases does not work (%s); training goes on without it.", why)

    def _open(self) -> Any:
        import wandb

        arguments: dict[str, Any] = {
            "project": self.project_name,
            "name": self.run_name or self.folder.resolve().name,
            "dir": str(self.folder),
            "config": dict(self._config),
            **self._init,
        }
        record = self.folder / "wandb_run.json"
        if "id" not in arguments and record.exists():
            arguments = {
                "resume": "allow",
                **arguments,
                "id": json.loads(record.read_text(encoding="utf-8"))["id"],
            }
        run = wandb.init(**arguments)
        text = json.dumps({"id": run.id, "project": run.project, "entity": run.entity}, indent=2)
        temporary = record.with_name(f".{record.name}.{os.getpid()}.tmp")
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, record)
        return run

    @staticmethod
    def _check_arguments(init: Mapping[str, Any]) -> None:
        if not init:
            return
        try:
            import wandb
        except ImportError:
            return  # said once training starts
        parameters = inspect.signature(wandb.init).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        for name in init:
            if name not in parameters:
                raise ConfigError(
                    f"WandbLogger hands {name!r} to wandb.init, which has no such argument. "
                    f"{did_you_mean(name, list(parameters))}"
                )


def _is_of_wandb(error: Exception) -> bool:
    """Whether W&B cannot do something; many of its exceptions have no base class in common."""
    common = isinstance(error, (ImportError, OSError, RuntimeError, ValueError, TypeError))
    return common or type(error).__module__.partition(".")[0] == "wandb"
