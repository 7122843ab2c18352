"""``skoots train``."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from skoots.cli import console, options
from skoots.errors import SkootsError
from skoots.terminal import print_message, print_summary, speaks, wants_bars

if TYPE_CHECKING:
    from skoots.api import Attempt, TrainingOutcome

EXAMPLES = (
    "skoots train model_configs/unet3d.yaml",
    "skoots train mito.yaml runner.optimizer.params.lr=1e-4 train_settings.epochs=5",
    "skoots train mito.yaml --resume",
    "skoots train mito.yaml --resume RUN_20260102_030405_678901",
    "skoots train mito.yaml --resume runs/mito:best train_settings.epochs=300",
    "skoots train mito.yaml 'runner.gpus=[0, 1]'",
    "skoots train my_configs/",
)
RUNS = Path("runs")
FAILED = 2  # exit status of a folder of configs of which one could not be trained
UNSAVED = 3  # exit status of a training of which a snapshot could not be written
BRANCH = "A snapshot, such as runs/mito:best, is gone on from in a new run; so is wandb:ENTITY/PROJECT/RUN."


class TrainCommand(typer.core.TyperCommand):
    """``--resume`` may stand without a value: it means the latest run then. The flags of the original's
    ``skoots-train`` are understood."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_latest(without_original_flags(args)))


def without_original_flags(words: Sequence[str]) -> list[str]:
    """The words with ``--config-file F`` as ``F``, and without ``--batch``, which said that F is a folder.

    Raises:
        SkootsError: ``--batch`` stands beside something else.
    """
    given: list[str] = []
    for word in words:
        flag, equals, value = word.partition("=")
        if flag == "--config-file":
            given += [value] if equals else []
        elif word != "--batch":
            given.append(word)
    if "--batch" in words and not any(Path(word).is_dir() for word in given):
        raise SkootsError("--batch goes with a folder of configs, and none is named.")
    return given


def with_latest(words: Sequence[str]) -> list[str]:
    """The words with ``latest`` after a ``--resume`` that is followed by the end, an option, an override or a
    config."""
    given = list(words)
    if "--resume" in given:
        place = given.index("--resume") + 1
        following = given[place] if place < len(given) else "--"
        if re.match(r"-|[\w.]+=", following) or following.endswith((".yaml", ".yml")):
            given.insert(place, "latest")
    return given


def train(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="A YAML file, or a folder of them.", show_default=False)
    ],
    overrides: options.Overrides = None,
    plugin: options.Plugins = None,
    runs: Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where run folders are made.")] = RUNS,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume",
            metavar="[latest|RUN|SNAPSHOT]",
            help=f"Go on with the latest run, or with a run, in its folder. {BRANCH}",
        ),
    ] = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a network, or one for each config of a folder.

    At the end it is scored on held-out data, beside connected components of its own foreground.
    """
    from skoots import api

    how: dict[str, Any] = {
        "plugins": plugin or (),
        "runs": runs,
        "device": device,
        "progress": wants_bars(quiet),
    }
    if not config.is_dir():
        finish(api.train(config, overrides or (), resume=resume, **how), plugin or (), device)
        return
    if resume is not None:
        raise SkootsError("--resume goes with one config, not with a folder of them.")
    finish_all(api.train_all(config, overrides or (), **how))


def finish(outcome: TrainingOutcome, plugins: Sequence[str], device: str | None) -> None:
    """Say how a training ended; the exit status says it too: that of the signal, or 3 if a snapshot is
    missing."""
    if not speaks():
        raise typer.Exit(0 if outcome.stopped_by is None else 128 + outcome.stopped_by)
    if outcome.stopped_by is not None:
        words = ["--device", device] if device else []
        again = console.command("resume", outcome.run_folder, *plugin_words(plugins), *words)
        print_message(f"skoots: {stopped(outcome, again)}")
        raise typer.Exit(128 + outcome.stopped_by)
    print_summary(summary(outcome, plugins))
    if outcome.failed_saves:
        saves = console.count(outcome.failed_saves, "snapshot")
        log = outcome.run_folder / "train.log"
        print_message(f"skoots: {saves} could not be written; {log} says why.")
        raise typer.Exit(UNSAVED)


def finish_all(attempts: Sequence[Attempt]) -> None:
    """A table of what became of each config; the exit status is that of the first that did not end well."""
    rows = [["config", "epochs", "time", "F1", "run folder or fault"]]
    status = 0
    for attempt in attempts:
        outcome = attempt.outcome
        if outcome is None:
            rows.append(
                [
                    attempt.config.name,
                    "-",
                    "-",
                    "-",
                    (str(attempt.error) or type(attempt.error).__name__).splitlines()[0],
                ]
            )
            status = status or FAILED
            continue
        scores = outcome.test_scores or _without_prefix(outcome.metrics)
        f1, took = console.number(scores.get("F1")), console.duration(outcome.seconds)
        rows.append([attempt.config.name, str(outcome.epochs), took, f1, str(outcome.run_folder)])
        if outcome.stopped_by is not None:
            status = status or 128 + outcome.stopped_by
        elif outcome.failed_saves:
            status = status or UNSAVED
    print_summary(console.table(rows, "<>>><"))
    if status:
        raise typer.Exit(status)


def plugin_words(plugins: Sequence[str]) -> list[str]:
    """The plugins as they were typed."""
    return [word for plugin in plugins for word in ("--plugin", plugin)]


def stopped(outcome: TrainingOutcome, again: str) -> str:
    """The one line after Ctrl-C or another signal."""
    number = signal.Signals(outcome.stopped_by or signal.SIGINT)
    by = "Ctrl-C" if number == signal.SIGINT else number.name
    done = console.count(outcome.epochs, "epoch")
    lying = f"latest snapshot {outcome.latest_snapshot}"
    if outcome.failed_saves:
        lying += f" (but {console.count(outcome.failed_saves, 'snapshot')} could not be written)"
    return f"stopped by {by} after {done}; {lying}; go on with: {again}"


def summary(outcome: TrainingOutcome, plugins: Sequence[str] = ()) -> str:
    """What came out of a training, where it lies and what to type next."""
    best = "" if outcome.best_epoch is None else f"; the best was epoch {outcome.best_epoch}"
    lying = {
        "Run folder": outcome.run_folder,
        "Best snapshot": outcome.best_snapshot,
        "Average of the best": outcome.average_snapshot,
        "Average of the last": outcome.swa_snapshot,
        "Picture": outcome.figure,
    }
    early = "" if outcome.ended_early is None else f" Training ended early: {outcome.ended_early}."
    trained = console.count(outcome.epochs, "epoch")
    paragraphs = [
        f"Trained {trained} in {console.duration(outcome.seconds)}{best}.{early}",
        course(outcome),
        "" if outcome.tuning is None else f"Decoder: {outcome.tuning.sentence()}",
        _scores(outcome),
        console.places(lying),
        console.next_command("segment", "VOLUME", "--snapshot", outcome.run_folder, *plugin_words(plugins)),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def course(outcome: TrainingOutcome) -> str:
    """The losses, and the score of the validation, in the first, the best and the last epoch."""
    epochs = [1, *([outcome.best_epoch] if outcome.best_epoch else []), outcome.epochs]
    shown = ("train.loss", "test.loss", "test.F1")
    names = [name for name in shown if any(name in measured for measured in outcome.history)]
    if len(outcome.history) < outcome.epochs or outcome.epochs < 2 or not names:
        return ""
    rows = []
    for epoch in sorted(set(epochs)):
        measured = outcome.history[epoch - 1]
        what = "best" if epoch == outcome.best_epoch else "last" if epoch == outcome.epochs else ""
        rows.append([f"epoch {epoch}", what, *(console.number(measured.get(name)) for name in names)])
    return console.table([["", "", *names], *rows], "<<>")


def _scores(outcome: TrainingOutcome) -> str:
    if outcome.test_scores:
        where = f" ({outcome.test_volume})" if outcome.test_volume else ""
        methods = {"skoots": outcome.test_scores, "connected components": outcome.baseline_scores}
        chose = "the snapshot" if outcome.tuning is None else "the snapshot and its decoder"
        data = "On held-out data" if outcome.held_out else f"On the validation data, which chose {chose}"
        return f"{data}{where}:\n{console.score_table(methods)}"
    validated = _without_prefix(outcome.metrics)
    if not validated:
        return ""
    return f"On the validation data, in the last epoch:\n{console.score_table({'skoots': validated})}"


def _without_prefix(metrics: Mapping[str, float]) -> dict[str, float]:
    """Scores of the validation under their plain names."""
    names = {f"test.{name}": name for name in console.SCORES}
    return {names[name]: value for name, value in metrics.items() if name in names}
