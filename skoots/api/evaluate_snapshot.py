"""``skoots evaluate --snapshot``: how good a snapshot is, on the data of its run or on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from skoots.api.build import (
    DataFacts,
    LoadedModel,
    Volumes,
    build_model,
    decoder_of,
    in_voxels_of,
    load_model,
    needs_scale,
    open_volumes,
    with_scale,
)
from skoots.api.decide import CROP_VOXELS, choose_crop, choose_vector_scale
from skoots.api.held_out import compare_with_components
from skoots.api.intensity import normalised
from skoots.api.prepare import validation_crop
from skoots.api.snapshot_data import open_fitting, with_data
from skoots.api.weights import load_weights
from skoots.config import Config, load_config
from skoots.data.dataset import CoveringDataset
from skoots.data.loaders import covering_loader
from skoots.errors import ConfigError, Fault, SnapshotError
from skoots.runtime import choose_device
from skoots.snapshots import find_snapshot, read_snapshot, read_weights
from skoots.training.evaluator import Evaluator


@dataclass(frozen=True)
class SnapshotEvaluation:
    """How good a snapshot is.

    Args:
        snapshot: the file.
        epoch: epochs completed; None for weights of another program.
        metrics: ``test.*``, measured on windows as in training.
        stored: the same as the snapshot remembers them; empty if it was not validated then, or on other data.
        scores: of whole volumes, see ``skoots.metrics.score``; empty if the model lacks a map that decoding
            reads.
        baseline_scores: of connected components of the same network's foreground.
        volumes: names of the whole volumes.
        held_out: whether these are ``data.test``, which had no say in anything.
        decoder: of the whole volumes, with the settings that are not its defaults.
        tuned: whether ``tune`` chose it; windows are decoded as in training all the same.
    """

    snapshot: Path
    epoch: int | None
    metrics: dict[str, float]
    stored: dict[str, float]
    scores: dict[str, float]
    baseline_scores: dict[str, float]
    volumes: tuple[str, ...]
    held_out: bool
    decoder: str
    tuned: bool


def evaluate_snapshot(
    snapshot: Path | str,
    *,
    config: Path | str | None = None,
    data: Path | str | None = None,
    weights: str = "auto",
    device: str | None = None,
    plugins: Sequence[str] = (),
) -> SnapshotEvaluation:
    """Validate a snapshot as its training did, and score whole volumes as at a training's end.

    Args:
        snapshot: a file, a run folder or ``runs/mito:best``; with ``config`` also weights of other programs.
        config: whose data and decoding to take; None takes those of the run.
        data: a folder of labelled volumes to take instead.
        weights: ``auto`` takes the moving average (EMA) if there is one; ``ema`` and ``raw`` insist.
        device: None takes the best there is.
        plugins: those that the model was trained with.

    Raises:
        SkootsError: the snapshot cannot be read, there are no data to evaluate on, or they do not fit.
    """
    asked = None if config is None else load_config(config, plugins=plugins)
    if asked is not None and read_weights(find_snapshot(snapshot), weights)[1] != "skoots":
        loaded, volumes = _foreign(asked, find_snapshot(snapshot), data, weights, device)
    else:
        loaded = _own(snapshot, device, plugins, weights)
        loaded = replace(loaded, config=with_data(loaded.config, asked, data))
        if asked is not None:
            loaded = replace(loaded, decoding=None)
        volumes = open_fitting(loaded.config, loaded.facts, loaded.snapshot, ("validation", "test"))
    volumes = in_voxels_of(loaded.facts, normalised(loaded.config, loaded.intensity, volumes))
    path = loaded.snapshot
    own = config is None and data is None
    held_out = open_volumes(loaded.config, "test")
    whole = held_out or volumes
    scores, baseline, _ = compare_with_components(loaded, [volume for volume, _ in whole])
    return SnapshotEvaluation(
        path,
        loaded.epoch or None,
        _validate(loaded, volumes),
        _stored(path) if own else {},
        scores,
        baseline,
        tuple(volume.name for volume, _ in whole),
        bool(held_out),
        str(loaded.decoder()),
        loaded.decoding is not None,
    )


def _own(snapshot: Path | str, device: str | None, plugins: Sequence[str], weights: str) -> LoadedModel:
    try:
        return load_model(snapshot, device, plugins, weights)
    except SnapshotError:
        path = find_snapshot(snapshot)
        layout = read_weights(path, weights)[1]
        if layout == "skoots":
            raise
    raise SnapshotError(
        f"{path} ({layout}) holds weights but no config of skoots. Give one: --config CONFIG."
    )


def _foreign(
    config: Config, path: Path, data: Path | str | None, weights: str, device: str | None
) -> tuple[LoadedModel, Volumes]:
    """A model that the config describes, with weights that another program saved."""
    config = with_data(config, None, data)
    volumes = open_volumes(config, "validation") or open_volumes(config, "test")
    if not volumes:
        raise ConfigError([Fault("data.validation", "names no data", "Give a folder: --data DIR")])
    facts = DataFacts.of(volumes[0][0])
    if needs_scale(config):
        seed = config.train_settings.seed
        config = with_scale(config, choose_vector_scale([volume for volume, _ in volumes], seed))
    model = build_model(config, facts, pretrained=False)
    wanted = config.resolved()["weights"]
    load_weights(model, path, strict=wanted["strict"], parts=wanted["parts"], weights=weights)
    where = choose_device(device)
    return LoadedModel(model.to(where).eval(), config, facts, where, path, 0), volumes


def _validate(loaded: LoadedModel, volumes: Volumes) -> dict[str, float]:
    crop = loaded.config.data.crop_size
    if crop == "auto":
        dims = loaded.facts.spatial_dims
        shapes = [volume.shape for volume, _ in volumes]
        crop = choose_crop(shapes, loaded.facts.voxel_size, loaded.model.stride, CROP_VOXELS[dims])
    window = validation_crop(volumes, loaded.facts, loaded.model, crop)
    loader = covering_loader(CoveringDataset([volume for volume, _ in volumes], window))
    evaluator = Evaluator(loader, decoder_of(loaded.config), loaded.device, strict=True)
    return evaluator(loaded.model, max(1, loaded.epoch))


def _stored(path: Path) -> dict[str, float]:
    try:
        metrics = read_snapshot(path).get("metrics") or {}
    except SnapshotError:
        return {}
    return {name: value for name, value in metrics.items() if name.startswith("test.")}
