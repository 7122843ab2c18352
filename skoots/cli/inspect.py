"""``skoots inspect``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skoots.cli import console, options
from skoots.terminal import print_result

if TYPE_CHECKING:
    from skoots.api import SnapshotReport

EXAMPLES = (
    "skoots inspect runs/mito",
    "skoots inspect runs/mito:latest --config",
    "skoots inspect runs/mito:010 --against runs/mito:best",
)


def inspect(
    snapshot: Annotated[
        str,
        typer.Argument(
            metavar="SNAPSHOT", help="A file, a run folder, or e.g. runs/mito:best.", show_default=False
        ),
    ],
    config: Annotated[bool, typer.Option("--config", help="Print its config as YAML, nothing else.")] = False,
    against: Annotated[
        str | None, typer.Option("--against", metavar="SNAPSHOT", help="Say what differs in another one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, no table.")] = False,
    debug: options.Debug = False,
) -> None:
    """Say what a snapshot holds.

    It is compared with its checksum; its model is not built, and no code in it is run.
    """
    from skoots import api

    if against is not None:
        lines = api.compare(snapshot, against)
        print_result(json.dumps(lines) if as_json else "\n".join(lines) if lines else "No difference.")
        return
    report = api.inspect(snapshot)
    if config:
        from skoots.config.yaml12 import dump

        print_result(json.dumps(report.config) + "\n" if as_json else dump(report.config), end="")
        return
    print_result(json.dumps(vars(report), default=str) if as_json else described(report))


def described(report: SnapshotReport) -> str:
    """The report as text; the config by the names of its parts only."""
    facts = {
        "File": f"{report.path}, {report.size / 2**20:.1f} MiB, whole",
        "Layout": report.layout + (f", format {report.format}" if report.format else ""),
        "Checksum": report.checksum,
        "Progress": _progress(report),
        "Best": _best(report),
        "Average": _average(report),
        "Parameters": _parameters(report),
    }
    versions = {name: str(value) for name, value in report.provenance.items() if value}
    parts = {
        "Backbone": _at(report.config, "model.backbone.type"),
        "Heads": _at(report.config, "model.heads"),
        "Optimizer": _at(report.config, "runner.optimizer.type"),
        "Key metric": _at(report.config, "runner.key_metric"),
        "Decoder": _decoder(report),
    }
    metrics = [[name, f"{value:.4g}"] for name, value in report.metrics.items()]
    tables = [
        [[name, value] for name, value in facts.items() if value],
        [[name, value] for name, value in parts.items() if value],
        [[name, value] for name, value in versions.items()],
    ]
    contents = ", ".join(f"{key} {_size(size)}" if size else key for key, size in report.contents.items())
    paragraphs = [console.table(rows, "<<") for rows in tables]
    return "\n\n".join(
        text for text in [*paragraphs, console.table(metrics), f"Contents: {contents}"] if text
    )


def _at(config: Any, path: str) -> str:
    """A value of the config as text, the keys of a section; empty if there is none."""
    for key in path.split("."):
        config = config.get(key) if isinstance(config, dict) else None
    return ", ".join(config) if isinstance(config, dict) else str(config or "")


def _progress(report: SnapshotReport) -> str:
    if report.epoch is None:
        return ""
    within = f" and {report.batches} batches of the next" if report.batches else ""
    return f"{console.count(report.epoch, 'epoch')}{within}, {console.count(report.step or 0, 'step')}"


def _best(report: SnapshotReport) -> str:
    best = report.best
    return f"epoch {best['epoch']}, {best['metric']} {best['value']:.4f}" if best else ""


def _average(report: SnapshotReport) -> str:
    epochs = report.averaging.get("epochs")
    return f"of {len(epochs)} epochs: {', '.join(map(str, epochs))}" if epochs else ""


def _decoder(report: SnapshotReport) -> str:
    """The one that was chosen with its settings, else the config's."""
    if not report.decoding:
        return _at(report.config, "inference.decoding.type")
    settings = ", ".join(f"{name}={value}" for name, value in report.decoding.items() if name != "type")
    return f"{report.decoding['type']}, tuned: {settings}"


def _parameters(report: SnapshotReport) -> str:
    parts = ", ".join(f"{name} {count:,}" for name, count in report.parameters.items())
    return f"{sum(report.parameters.values()):,} ({parts})"


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"
