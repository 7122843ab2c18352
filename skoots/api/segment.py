"""``skoots segment``: from an image to instances."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skoots.api.build import DataFacts, LoadedModel, load_model, map_channels
from skoots.api.intensity import intensity_for
from skoots.data.normalize import Intensity
from skoots.errors import SnapshotError, VolumeError
from skoots.geometry import relative_spacing
from skoots.inference.segment_volume import Plan, predict_tiles, quietly, segment_volume
from skoots.inference.tile_size import affordable_voxels
from skoots.models.nonfinite import nonfinite_weights
from skoots.terminal import progress_bar
from skoots.volumes import Volume, WritableVolume, check_output, create_volume, open_volume
from skoots.volumes.hdf5 import split_name

log = logging.getLogger("skoots")


@dataclass(frozen=True)
class Segmentation:
    """What ``segment`` made.

    Args:
        output: the label volume, int32.
        objects: how many it holds.
        shape: voxels per axis.
        maps: head outputs by name, if they were asked for.
        seconds: how long it took.
    """

    output: Path
    objects: int
    shape: tuple[int, ...]
    maps: dict[str, Path] = field(default_factory=dict)
    seconds: float = 0.0


def segment(
    volume: Path | str,
    snapshot: Path | str,
    output: Path | str | None = None,
    *,
    maps: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    voxel_size: Sequence[float] | None = None,
    tile: Sequence[int] | None = None,
    decoding: Mapping[str, Any] | None = None,
    normalize_by: Literal["volume", "training"] | None = None,
    weights: str = "auto",
    plugins: Sequence[str] = (),
    progress: bool = True,
) -> Segmentation:
    """Segment a volume with a trained model.

    Args:
        volume: TIFF, Zarr, HDF5 (``file.h5:/dataset``) or NumPy.
        snapshot: a file, a run folder or ``runs/mito:best``.
        output: ``.tif``, ``.zarr``, ``.npy`` or ``file.h5:/dataset``; None writes ``NAME.segmentation.tif``
            (``.zarr`` for a Zarr) beside the volume.
        maps: also write the head outputs, as ``OUTPUT.vector.tif`` and so on.
        overwrite: replace outputs that exist.
        device: None takes the best there is.
        voxel_size: D edge lengths of a voxel, if the file says none or wrong ones.
        tile: voxels that are predicted at once; the result does not depend on it.
        decoding: settings that differ from the model's own, e.g. ``{"min_size": 50}``; with another ``type``
            none of the model's own count.
        normalize_by: whose intensity statistics are applied: ``volume`` measures the image, ``training``
            takes those of all training volumes together; None as the model was trained.
        weights: of a snapshot with a moving average (EMA), ``auto`` takes it and ``raw`` does not.
        plugins: those that the model was trained with.
        progress: show progress bars.

    Raises:
        SkootsError: an input cannot be read, does not fit the model, or the output cannot be written; said
        before any
            work.
    """
    began = time.monotonic()
    image = open_volume(volume, voxel_size=voxel_size)
    target = Path(output) if output is not None else default_output(Path(volume))
    _keep_input(volume, target)
    check_output(target, overwrite)
    loaded = load_model(snapshot, device, plugins, weights)
    if normalize_by is not None:
        loaded = loaded.normalising_by(normalize_by)
    _check_fit(image, loaded)
    produced = map_channels(loaded.model, loaded.facts.in_channels)
    names = produced if maps else {}
    map_paths = {name: _beside(target, name) for name in names}
    for path in map_paths.values():
        _keep_input(volume, path)
        check_output(path, overwrite)
    # what was used is what the outputs state; the model's own comes without a unit
    size, unit = (image.voxel_size, image.unit) if image.voxel_size else (loaded.facts.voxel_size, None)
    plan = make_plan(loaded, image, size, tile, decoding)
    missing = plan.decoder.lacks(produced, image.spatial_dims, loaded.model.vector_scale)
    if missing:
        raise SnapshotError(
            f"The model in {loaded.snapshot} gives {', '.join(produced)}; {type(plan.decoder).__name__} "
            f"also reads {', '.join(missing)}. Choose another decoder: inference.decoding.type."
        )
    with contextlib.ExitStack() as files:
        labels = files.enter_context(
            create_volume(target, image.shape, np.int32, size, unit, overwrite=overwrite)
        )
        outputs: dict[str, WritableVolume] = {
            name: files.enter_context(
                create_volume(
                    map_paths[name],
                    image.shape,
                    np.float32,
                    size,
                    unit,
                    channels,
                    overwrite=overwrite,
                )
            )
            for name, channels in names.items()
        }
        count = segment_volume(plan, image, labels, _folder_of(target), outputs, bar if progress else quietly)
    return Segmentation(target, count, image.shape, map_paths, time.monotonic() - began)


def make_plan(
    loaded: LoadedModel,
    image: Volume,
    voxel_size: Sequence[float],
    tile: Sequence[int] | None = None,
    decoding: Mapping[str, Any] | None = None,
    measured: Intensity | None = None,
) -> Plan:
    """All that the loop over space needs, for one image; ``measured`` are its own intensity statistics."""
    settings = loaded.config.inference
    wanted = tile if tile is not None else (None if settings.tile == "auto" else settings.tile)
    if wanted is not None and len(wanted) != image.spatial_dims:
        raise VolumeError(
            f"tile {list(wanted)} has {len(wanted)} numbers for the {image.spatial_dims} axes of "
            f"{image.path}."
        )
    return Plan(
        model=loaded.model,
        intensity=intensity_for(loaded, image, measured),
        voxel_size=tuple(voxel_size),
        decoder=loaded.decoder(decoding),
        device=loaded.device,
        core=None if wanted is None else tuple(wanted),
        halo=None if settings.halo == "auto" else tuple(settings.halo),
        voxels_at_once=affordable_voxels(loaded.model.finest_channels),
        spoilt=tuple(nonfinite_weights(loaded.model)),
    )


def bar(steps: Iterable[Any], what: str) -> Iterable[Any]:
    """A progress bar over a loop."""
    return progress_bar(steps, desc=what, unit="tile")


def default_output(volume: Path) -> Path:
    """``NAME.segmentation.tif`` beside ``NAME.tif``; a Zarr beside a Zarr."""
    path = _file_of(volume)
    if split_name(str(volume)) is not None:
        return path.with_name(f"{path.stem}.segmentation.tif")
    zarr = next((p for p in (path, *path.parents) if p.suffix == ".zarr"), None)
    if zarr is not None:
        return zarr.with_name(f"{zarr.name.removesuffix('.zarr').removesuffix('.ome')}.segmentation.zarr")
    stem = re.sub(r"(\.ome)?\.tiff?$|\.npy$", "", path.name, flags=re.IGNORECASE)
    return path.with_name(f"{stem}.segmentation.tif")


def _beside(target: Path, name: str) -> Path:
    """``OUT.name.tif``; of HDF5 in a file of its own, under the same name of the data set."""
    file = _file_of(target)
    return Path(f"{file.with_suffix('')}.{name}{file.suffix}{str(target)[len(str(file)) :]}")


def _keep_input(volume: Path | str, target: Path) -> None:
    """The image itself is never replaced, whatever ``overwrite`` says."""
    source, written = _file_of(Path(volume)).resolve(), _file_of(target).resolve()
    datasets = [split_name(str(path)) for path in (volume, target)]
    if all(datasets):
        names = {(split[1] or "").strip("/") for split in datasets if split}
        inside = len(names) == 1 and source == written
    else:
        inside = source.is_relative_to(written)  # a Zarr store may hold the image
    if inside:
        raise VolumeError(f"{target} is or holds the image that is to be segmented; choose another output.")


def _folder_of(target: Path) -> Path:
    return next(p for p in _file_of(target).absolute().parents if p.is_dir())


def _file_of(path: Path) -> Path:
    """The file of ``file.h5:/dataset``; any other path as it is."""
    split = split_name(str(path))
    return path if split is None else Path(split[0])


def _check_fit(image: Volume, loaded: LoadedModel) -> None:
    facts: DataFacts = loaded.facts
    if image.spatial_dims != facts.spatial_dims:
        raise VolumeError(
            f"{image.path} is {image.spatial_dims}D and the model in {loaded.snapshot} is "
            f"{facts.spatial_dims}D."
        )
    if (image.channels or 1) != facts.in_channels:
        raise VolumeError(
            f"{image.path} has {image.channels or 1} channels and the model in {loaded.snapshot} takes "
            f"{facts.in_channels}."
        )
    if image.voxel_size is None:
        log.warning(
            "%s states no voxel size; taken to be that of the training data, %s.",
            image.path,
            facts.voxel_size,
        )
        return
    ours, theirs = relative_spacing(image.voxel_size), relative_spacing(facts.voxel_size)
    if any(not 0.8 < a / b < 1.25 for a, b in zip(ours, theirs)):
        log.warning(
            "%s has voxels of %s, in proportion unlike those of the training data, %s; results may suffer.",
            image.path,
            image.voxel_size,
            facts.voxel_size,
        )


def predict_maps(plan: Plan, image: Volume) -> dict[str, np.ndarray]:
    """All maps of a volume in memory, (C, *S) float32 each."""
    whole: dict[str, np.ndarray] = {}
    for box, values in predict_tiles(plan, image):
        for name, array in values.items():
            if name not in whole:
                whole[name] = np.zeros((array.shape[0], *image.shape), np.float32)
            window = (slice(None), *box.slices)
            whole[name][window] = array
    return whole
