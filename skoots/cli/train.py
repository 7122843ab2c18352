"""``skoots train``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skoots.cli import console, options

if TYPE_CHECKING:
    from skoots.api import TrainingOutcome

EXAMPLES = (
    "skoots train model_configs/unet3d.yaml",
    "skoots train mito.yaml runner.optimizer.params.lr=1e-4 train_settings.epochs=5",
    "skoots train mito.yaml resume_training_from=runs/mito:latest",
)
RUNS = Path("runs")


def train(
    config: options.Config,
    overrides: options.Overrides = None,
    plugin: options.Plugins = None,
    runs: Annotated[Path, typer.Option("--runs", metavar="DIR", help="Where run folders are made.")] = RUNS,
    device: options.Device = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train a network.

    At the end it is scored on held-out data, beside connected components of its own foreground.
    """
    from skoots import api

    outcome = api.train(
        config,
        overrides or (),
        plugins=plugin or (),
        runs=runs,
        device=device,
        progress=console.wants_bars(quiet),
    )
    if outcome.interrupted:
        resume = resume_command(outcome, config, overrides, plugin, runs, device)
        typer.echo(f"skoots: {stopped(outcome, resume)}", err=True)
        raise typer.Exit(130)
    typer.echo(summary(outcome, plugin or ()))


def resume_command(
    outcome: TrainingOutcome,
    config: Path,
    overrides: Sequence[str] | None,
    plugins: Sequence[str] | None,
    runs: Path,
    device: str | None,
) -> str:
    """What was typed, and where to go on from."""
    words: list[str | Path] = ["train", config]
    words += [word for word in overrides or () if not word.startswith("resume_training_from=")]
    words.append(f"resume_training_from={outcome.latest_snapshot}")
    words += plugin_words(plugins or ())
    words += ["--runs", runs] if runs != RUNS else []
    words += ["--device", device] if device else []
    return console.command(*words)


def plugin_words(plugins: Sequence[str]) -> list[str]:
    """The plugins as they were typed."""
    return [word for plugin in plugins for word in ("--plugin", plugin)]


def stopped(outcome: TrainingOutcome, resume: str) -> str:
    """The one line after Ctrl-C."""
    done = console.count(outcome.epochs, "epoch")
    return f"stopped by Ctrl-C after {done}; latest snapshot {outcome.latest_snapshot}; go on with: {resume}"


def summary(outcome: TrainingOutcome, plugins: Sequence[str] = ()) -> str:
    """What came out of a training, where it lies and what to type next."""
    best = "" if outcome.best_epoch is None else f"; the best was epoch {outcome.best_epoch}"
    lying = {
        "Run folder": outcome.run_folder,
        "Best snapshot": outcome.best_snapshot,
        "Picture": outcome.figure,
    }
    paragraphs = [
        f"Trained {console.count(outcome.epochs, 'epoch')} in {console.duration(outcome.seconds)}{best}.",
        _scores(outcome),
        console.places(lying),
        console.next_command("segment", "VOLUME", "--snapshot", outcome.run_folder, *plugin_words(plugins)),
    ]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _scores(outcome: TrainingOutcome) -> str:
    if outcome.test_scores:
        where = f" ({outcome.test_volume})" if outcome.test_volume else ""
        methods = {"skoots": outcome.test_scores, "connected components": outcome.baseline_scores}
        data = "On held-out data" if outcome.held_out else "On the validation data, which chose the snapshot"
        return f"{data}{where}:\n{console.score_table(methods)}"
    validated = _without_prefix(outcome.metrics)
    if not validated:
        return ""
    return f"On the validation data, in the last epoch:\n{console.score_table({'skoots': validated})}"


def _without_prefix(metrics: Mapping[str, float]) -> dict[str, float]:
    """Scores of the validation under their plain names."""
    names = {f"test.{name}": name for name in console.SCORES}
    return {names[name]: value for name, value in metrics.items() if name in names}
