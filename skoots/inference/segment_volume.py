"""The loop over space: predict tile by tile, find the seeds, assign every voxel."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skoots.data.normalize import Intensity, read_scaled
from skoots.errors import SkootsError
from skoots.geometry import Box, Tile, tile_volume
from skoots.inference.tile_size import VOXELS_AT_ONCE, choose_core
from skoots.instances import Decoder
from skoots.instances.relabel import close_gaps
from skoots.models.segmentation_model import SegmentationModel
from skoots.runtime import cpu_count, without_trials
from skoots.volumes import Volume, WritableVolume
from skoots.volumes.map_store import MapStore

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclass(frozen=True)
class Plan:
    """Everything that ``segment_volume`` needs besides the image.

    Args:
        model: on its device, in any mode.
        intensity: normalisation of the image.
        voxel_size: D edge lengths of a voxel.
        decoder: makes instances of maps.
        device: where the model lies.
        core: voxels that a tile writes; None chooses.
        voxels_at_once: most voxels of a tile with its halo, where the core is chosen.
        spoilt: names of weights that are NaN or infinite.
        halo: margin of a tile; None takes the model's receptive field, so that tiling changes nothing.
    """

    model: SegmentationModel
    intensity: Intensity
    voxel_size: tuple[float, ...]
    decoder: Decoder
    device: torch.device
    core: tuple[int, ...] | None = None
    halo: tuple[int, ...] | None = None
    voxels_at_once: int = VOXELS_AT_ONCE
    spoilt: tuple[str, ...] = ()

    def tiles(self, shape: Sequence[int]) -> list[Tile]:
        halo = self.halo if self.halo is not None else self.model.receptive_field
        core = self.core or choose_core(shape, halo, self.model.stride, self.voxels_at_once)
        return tile_volume(shape, core, halo, self.model.stride)


def quietly(steps: Iterable[Any], what: str) -> Iterable[Any]:
    """No progress bar."""
    return steps


def predict_tiles(
    plan: Plan, image: Volume, progress: Progress = quietly
) -> Iterator[tuple[Box, dict[str, np.ndarray]]]:
    """The maps of one core after the other.

    Args:
        plan: model and tiling.
        image: the volume.
        progress: wraps the tiles.

    Yields:
        The core's box, and its maps by name, (C, *S) float32.

    Raises:
        SkootsError: the network gives NaN or infinite maps, or a tile does not fit into memory.
        VolumeError: a voxel is NaN or infinite.
    """
    plan.model.eval()
    for tile in progress(plan.tiles(image.shape), "predict"):
        array = plan.intensity.compressed(read_scaled(image, tile.read, plan.intensity))
        images = torch.from_numpy(array).unsqueeze(0).to(plan.device)
        try:
            with torch.inference_mode(), without_trials():
                maps = plan.model.predict(plan.model(images))
            if plan.spoilt:  # an infinite bias can hide behind a sigmoid
                raise SkootsError("The network gives maps that mean nothing.")
        except torch.OutOfMemoryError as error:
            raise SkootsError(
                f"A tile of {tile.read.shape} voxels does not fit into the memory of {plan.device}; choose "
                f"a smaller one "
                "with --tile or inference.tile."
            ) from error
        except SkootsError as error:
            raise _of_tile(error, tile, image, plan.spoilt) from error
        yield tile.write, {name: _core(values, tile) for name, values in maps.items()}


def _of_tile(error: SkootsError, tile: Tile, image: Volume, spoilt: Sequence[str]) -> SkootsError:
    """What is wrong with maps, where, and why."""
    where = f"in the tile from {list(tile.write.start)} to {list(tile.write.stop)} of {image.path}"
    cause = "the values overflow on the way; is the image like those of the training?"
    if spoilt:
        more = f" and {len(spoilt) - 1} more" if len(spoilt) > 1 else ""
        cause = f"its weights {spoilt[0]}{more} are NaN or infinite, so the training diverged."
    return SkootsError(f"{str(error).rstrip('.')}, {where}: {cause} Use an earlier snapshot.")


def _core(values: Tensor, tile: Tile) -> np.ndarray:
    window = (slice(None), *tile.core.slices)
    return values[0][window].float().cpu().numpy()


def segment_volume(
    plan: Plan,
    image: Volume,
    output: WritableVolume,
    folder: Path,
    map_outputs: dict[str, WritableVolume] | None = None,
    progress: Progress = quietly,
) -> int:
    """Segment a volume into ``output``; the result does not depend on how it is tiled.

    Args:
        plan: model, tiling and decoding.
        image: the volume.
        output: takes the int32 labels.
        folder: where intermediate maps of large volumes are kept meanwhile.
        map_outputs: volumes that take the maps of these names.
        progress: wraps the loops.

    Returns:
        How many objects there are.

    Raises:
        SkootsError: the model lacks a map that the decoder reads, or a tile does not fit into memory.
    """
    scale = plan.model.vector_scale
    store = MapStore(plan.decoder.reads, image.shape, plan.voxel_size, scale, folder)
    try:
        for box, values in predict_tiles(plan, image, progress):
            channels = {name: len(array) for name, array in values.items()}
            missing = plan.decoder.lacks(channels, image.spatial_dims, scale)
            if missing:
                raise SkootsError(f"The model has no {' and no '.join(missing)}, which the decoder reads.")
            store.store(box, values)
            for name, volume in (map_outputs or {}).items():
                volume.write(box, values[name])
        return _decode(plan.decoder, store, output, progress)
    finally:
        store.close()


def _decode(decoder: Decoder, store: MapStore, output: WritableVolume, progress: Progress) -> int:
    """What ``decoder.decode`` gives, box by box and several at once."""
    seeds = decoder.seeds(store.maps)
    sizes = np.zeros(int(seeds.max(initial=0)) + 1, np.int64)
    adding = threading.Lock()

    def assign(box: Box) -> None:
        labels = decoder.assign(store.maps, seeds, box)
        store.labels[box.slices] = labels
        own = np.bincount(labels.ravel(), minlength=len(sizes))
        with adding:
            sizes[:] += own

    pool = ThreadPoolExecutor(cpu_count())
    try:
        boxes = [pool.submit(assign, box) for box in _slabs(output.shape, voxels=1_000_000)]
        for box_done in progress(boxes, "assign"):
            box_done.result()
    finally:
        pool.shutdown(cancel_futures=True)
    final = close_gaps(sizes, decoder.min_size)
    for box in _slabs(output.shape):
        output.write(box, final[store.labels[box.slices]])
    return int(final.max())


def _slabs(shape: Sequence[int], voxels: int = 8_000_000) -> list[Box]:
    """The volume in boxes along its first axis: few, so that compressed outputs are written in large
    pieces."""
    rest = int(np.prod(shape[1:]))
    return [tile.write for tile in tile_volume(shape, (max(1, voxels // max(rest, 1)), *shape[1:]))]
