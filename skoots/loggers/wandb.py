"""Tracking with Weights & Biases."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skoots.errors import ConfigError
from skoots.loggers.base import LOGGERS, Logger
from skoots.loggers.wandb_artifacts import (
    RUN_RECORD,
    SnapshotUploads,
    in_one_line,
    is_of_wandb,
    write_json,
)
from skoots.ranges import Count
from skoots.registry import did_you_mean

log = logging.getLogger("skoots")

UPLOAD_SECONDS = 60.0
"""How long the end of a training waits for uploads; as long again may W&B take to finish its run."""


@LOGGERS.register
class WandbLogger(Logger):
    """Sends numbers, pictures and snapshots to `Weights & Biases <https://docs.wandb.ai>`_, under the options
    of DeepLabCut's and SuperGradients' loggers.

    The id of the W&B run is kept in ``wandb_run.json``, so that a run that goes on continues there too.
    Whatever W&B cannot do (no login, no network, no server) is said once, and training goes on.

    Snapshots become versions of the artifact ``<run id>-snapshots`` under their aliases (``latest``,
    ``best``, ``010``), the average one of ``<run id>-average``. What waits for the server lies in the run
    folder, under ``.wandb_snapshots``, and is sent once it answers, in this process or when the run goes on.
    With ``mode: offline`` it stays there for ``wandb sync``.

    Args:
        project_name: name of the W&B project.
        run_name: name of the W&B run; None takes the name of the run folder.
        image_log_interval: epochs between pictures; None sends those of the run
            (``runner.image_log_interval``).
        folder: the run folder, where W&B keeps its files.
        save_checkpoints_remote: whether snapshots are sent.
        **init: handed to ``wandb.init`` as they are, e.g. ``tags``, ``entity``, ``mode``.

    Raises:
        ConfigError: ``wandb.init`` has no such argument.
    """

    def __init__(
        self,
        project_name: str = "skoots",
        run_name: str | None = None,
        image_log_interval: Count | None = None,
        folder: Path | str = ".",
        save_checkpoints_remote: bool = False,
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
        self._uploads = SnapshotUploads(self.folder) if save_checkpoints_remote else None
        if image_log_interval is not None and image_log_interval < 1:
            raise ConfigError(
                "WandbLogger: image_log_interval counts epochs; give 1 or more, or leave it out."
            )
        self._check_arguments(init)

    def start(self, config: Mapping[str, object]) -> None:
        """Open the W&B run."""
        self._config = config
        self._attempt(lambda run: None)

    def history(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Send the epochs that W&B does not have; what it has cannot be changed there."""
        for epoch, values in enumerate(rows, start=1):
            if values:
                self.scalars(values, epoch)

    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        """One point on every curve, at step ``epoch``."""
        self._log(lambda: dict(values), epoch)

    def image(self, name: str, picture: np.ndarray, epoch: int) -> None:
        """A picture, (H, W, 3) uint8."""

        def content() -> dict[str, Any]:
            import wandb

            return {name: wandb.Image(picture)}

        self._log(content, epoch)

    def snapshot(self, path: Path, aliases: Sequence[str], epoch: int) -> None:
        """Send a snapshot, beside the training; once W&B has failed, keep it for the next time."""
        if self._uploads is not None:
            self._uploads.add(path, aliases, epoch)

    def close(self) -> None:
        """Send what is still waiting, as far as the server takes it, and finish the W&B run."""
        if self._uploads is not None:
            self._uploads.finish(UPLOAD_SECONDS)
        if self._run is not None:
            self._attempt(lambda run: run.finish())
            self._run = None
        if self._uploads is not None:
            self._uploads.close()

    def _log(self, content: Callable[[], dict[str, Any]], epoch: int) -> None:
        def send(run: Any) -> None:
            # W&B refuses, each time with a warning, what lies before the steps that it has of a resumed run.
            if epoch >= run.starting_step:
                run.log(content(), step=epoch)

        self._attempt(send)

    def _attempt(self, action: Callable[[Any], None]) -> None:
        if self._failed:
            return
        try:
            if self._run is None:
                self._run = self._open()
            action(self._run)
        except Exception as error:
            if not is_of_wandb(error):
                raise
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        self._failed = True
        log.warning("Weights & Biases does not work (%s); training goes on without it.", in_one_line(error))

    def _open(self) -> Any:
        import wandb

        arguments: dict[str, Any] = {
            "project": self.project_name,
            "name": self.run_name or self.folder.resolve().name,
            "dir": str(self.folder),
            "config": dict(self._config),
            **self._init,
        }
        record = self.folder / RUN_RECORD
        if "id" not in arguments and record.exists():
            known = json.loads(record.read_text(encoding="utf-8"))
            arguments = {"resume": "allow", **arguments, **{key: known[key] for key in known if known[key]}}
        if self._uploads is not None:
            arguments["settings"] = _with_bounded_finish(arguments.get("settings"), wandb.Settings)
        run = wandb.init(**arguments)
        write_json(record, {"id": run.id, "project": run.project, "entity": run.entity})
        self._open_uploads(run)
        return run

    def _open_uploads(self, run: Any) -> None:
        if self._uploads is None:
            return
        if run.disabled:
            self._uploads = None
        else:
            self._uploads.open(run)

    @staticmethod
    def hands_on_to() -> Callable[..., Any] | None:
        """What is given the arguments that are not the logger's own; None if it is not installed, which is
        said once training starts."""
        try:
            import wandb
        except ImportError:
            return None
        return wandb.init

    def _check_arguments(self, init: Mapping[str, Any]) -> None:
        function = self.hands_on_to() if init else None
        if function is None:
            return
        parameters = inspect.signature(function).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        for name in init:
            if name not in parameters:
                raise ConfigError(
                    f"WandbLogger hands {name!r} to wandb.init, which has no such argument. "
                    f"{did_you_mean(name, list(parameters))}"
                )


def _with_bounded_finish(settings: Any, known: Any) -> Any:
    """W&B's settings, in which the end of a run does not wait for a dead server for ever."""
    is_ours_to_add = settings is None or isinstance(settings, dict)
    if not is_ours_to_add or "finish_timeout" not in getattr(known, "model_fields", ()):
        return settings
    return {"finish_timeout": UPLOAD_SECONDS, **(settings or {})}
