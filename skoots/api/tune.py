"""``skoots tune``: the decoder that suits a model best, chosen on validation volumes and stored in its
snapshot."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from skoots.api.build import LoadedModel, decoder_of, in_voxels_of, load_model, map_channels
from skoots.api.intensity import normalised
from skoots.api.segment import make_plan
from skoots.api.snapshot_data import open_fitting, with_data
from skoots.data.labelled_volume import LabelledVolume
from skoots.errors import SnapshotError, VolumeError
from skoots.geometry import Box
from skoots.inference.segment_volume import Plan, predict_tiles
from skoots.inference.tuning import LEAST_GAIN, Known, can_begin, choose_decoder, neighbours
from skoots.inference.windows import drawn_windows
from skoots.instances import DECODERS, Decoder, Maps, MapType
from skoots.snapshots import check_free, find_snapshot, locked, read_snapshot, write_snapshot
from skoots.snapshots.run_folder import LOCK
from skoots.volumes import read_labels
from skoots.volumes.map_store import MapStore
from skoots.volumes.part import PartVolume

log = logging.getLogger("skoots")

VOXELS_AT_ONCE = 1_000_000
VOXELS_IN_ALL = 4_000_000
"""Large volumes are looked at in windows, and in no more than so many voxels together, on which a hundred
trials take about a minute."""

WINDOWS_DRAWN = 500
"""At most, of which those without objects are passed over."""

KEY = "decoding"
"""Of a snapshot: beside ``cfg``, which goes on to say how its training validated."""


@dataclass(frozen=True)
class Tuning:
    """What ``tune`` has chosen.

    Args:
        snapshot: the file that holds the model.
        own: decoder of the config.
        own_score: panoptic quality (PQ) of it.
        best: of the decoders tried the best.
        best_score: PQ of that one.
        decoding: the best as a config node; None if it gains so little that the config's stays.
        volumes: names of those that were looked at.
        windows: parts of them that were; as many as there are volumes if each was looked at as a whole.
        objects: true ones in them; one in two windows counts twice.
        trials: decoders tried.
        complete: whether the search came to its end in its time.
        seconds: how long it took.
        output: where it is stored; None before.
    """

    snapshot: Path
    own: str
    own_score: float
    best: str
    best_score: float
    decoding: dict[str, Any] | None
    volumes: tuple[str, ...]
    windows: int
    objects: int
    trials: int
    complete: bool
    seconds: float
    output: Path | None = None

    def sentence(self) -> str:
        """What was chosen, by what, and what it gains."""
        where = f"{_count(len(self.volumes), 'validation volume')} with {_count(self.objects, 'object')}"
        if self.windows > len(self.volumes):
            where = f"{self.windows} windows of {where}"
        tried = f"({_count(self.trials, 'trial')}, {self.seconds:.0f} s"
        tried += ")" if self.complete else "; the time was up)"
        if self.decoding is None:
            best = f"the best, {self.best}, reaches {self.best_score:.3f}, a gain below {LEAST_GAIN:g}"
            best = best if self.best_score > self.own_score else "none is better"
            return f"{self.own} of the config stays: PQ {self.own_score:.3f} on {where}; {best} {tried}."
        return (
            f"{self.best} reaches PQ {self.best_score:.3f} on {where}; the {self.own} of the config "
            f"{self.own_score:.3f} {tried}."
        )


def tune(
    snapshot: Path | str,
    *,
    data: Path | str | None = None,
    seconds: float = 60,
    output: Path | str | None = None,
    overwrite: bool = False,
    weights: str = "auto",
    device: str | None = None,
    plugins: Sequence[str] = (),
) -> Tuning:
    """Choose decoder and settings for a trained model on its validation volumes, and store them in its file.

    What was chosen before does not count: the config's decoder is what has to be beaten.

    Args:
        snapshot: a file, a run folder (best, else latest) or ``runs/mito:best``.
        data: a folder of labelled volumes to take instead; not those that you report scores of.
        seconds: after which no more trial begins; predicting the maps comes before.
        output: a ``.pt`` file to write instead of the snapshot itself.
        overwrite: replace the output if it exists.
        weights: ``auto`` takes the moving average (EMA) if there is one; ``ema`` and ``raw`` insist.
        device: None takes the best there is.
        plugins: those that the model was trained with; their decoders are tried, too.

    Raises:
        SkootsError: the snapshot cannot be read or written, or there are no validation volumes, or no objects
            in them; another process trains in its run.
    """
    if output is not None:
        check_free(Path(output), overwrite)
    folder = find_snapshot(snapshot).parent
    in_a_run = output is None and (folder / LOCK).exists()
    with locked(folder) if in_a_run else nullcontext():
        loaded = load_model(snapshot, device, plugins, weights)
        config = with_data(loaded.config, None, data)
        volumes = open_fitting(config, loaded.facts, loaded.snapshot, ["validation"])
        volumes = in_voxels_of(loaded.facts, normalised(config, loaded.intensity, volumes))
        return store(choose(loaded, [volume for volume, _ in volumes], seconds), output)


def choose(loaded: LoadedModel, volumes: Sequence[LabelledVolume], seconds: float) -> Tuning:
    """The decoder that suits a model on some volumes; see ``tune``.

    Raises:
        SkootsError: the config's decoder reads maps that the model does not give, or there are no objects.
    """
    began = time.monotonic()
    own = decoder_of(loaded.config)
    kinds, types = _candidates(loaded, own)
    known, names = _look_at(loaded, volumes, types)
    objects = sum(_objects_in(each.truth, each.ignore_label) for each in known)
    if objects == 0:
        named = ", ".join(volume.name for volume in volumes)
        raise VolumeError(f"No decoder can be chosen: there are no objects in {named}.")
    log.info("decoder: tried on %s, for up to %g s.", _count(objects, "object"), seconds)
    choice = choose_decoder(known, own, kinds, seconds)
    return Tuning(
        loaded.snapshot,
        str(own),
        choice.own_score,
        str(choice.best),
        choice.best_score,
        _node(choice.best) if choice.gained else None,
        tuple(names),
        len(known),
        objects,
        choice.trials,
        choice.complete,
        time.monotonic() - began,
    )


def store(tuning: Tuning, output: Path | str | None = None) -> Tuning:
    """Write what was chosen into the snapshot, which stays as it is otherwise; or into another file.

    Raises:
        SnapshotError: it cannot be written; the file is as it was then.
    """
    path = tuning.snapshot if output is None else Path(output)
    before = read_snapshot(tuning.snapshot)
    state = {key: value for key, value in before.items() if key != KEY}
    if tuning.decoding is not None:
        state[KEY] = tuning.decoding
    if output is not None or before.get(KEY) != tuning.decoding:
        write_snapshot(state, path)
    return replace(tuning, output=path)


def _candidates(loaded: LoadedModel, own: Decoder) -> tuple[list[type[Decoder]], dict[str, MapType]]:
    """The decoders that can be tried on a model, and the maps that they read."""
    channels = map_channels(loaded.model, loaded.facts.in_channels)
    facts = channels, loaded.facts.spatial_dims, loaded.model.vector_scale
    missing = own.lacks(*facts)
    if missing:
        raise SnapshotError(
            f"The model in {loaded.snapshot} gives {', '.join(channels)}; {type(own).__name__} also reads "
            f"{', '.join(missing)}. Choose another decoder: inference.decoding.type."
        )
    kinds, types = [DECODERS.get(name) for name in DECODERS], dict(own.reads)
    for kind in filter(can_begin, kinds):
        begun = kind()
        for decoder in (begun, *neighbours(begun, *begun.tried)):
            if not decoder.lacks(*facts):
                types = {**decoder.reads, **types}
    return kinds, types


def _look_at(
    loaded: LoadedModel, volumes: Sequence[LabelledVolume], types: Mapping[str, MapType]
) -> tuple[list[Known], list[str]]:
    """Maps and truth of whole volumes, of large ones in windows that hold objects; and their names."""
    plans: dict[int, Plan] = {}
    known: list[Known] = []
    left = VOXELS_IN_ALL
    drawn = drawn_windows([v.shape for v in volumes], [v.voxel_size for v in volumes], VOXELS_AT_ONCE)
    for number, box in itertools.islice(drawn, WINDOWS_DRAWN):
        volume = volumes[number]
        if box.size > left:
            break
        each = read_labels(volume.labels, box, ignore_label=volume.ignore_label)
        if box.shape != tuple(volume.shape) and not _objects_in(each, volume.ignore_label):
            continue
        if number not in plans:
            plans[number] = make_plan(loaded, volume.image, volume.voxel_size, measured=volume.intensity)
        maps = _predict(plans[number], volume, box, types, loaded.snapshot.parent)
        known.append(Known(maps, each, volume.ignore_label))
        left -= box.size
    return known, [volumes[number].name for number in sorted(plans)]


def _predict(
    plan: Plan, volume: LabelledVolume, box: Box, types: Mapping[str, MapType], folder: Path
) -> Maps:
    """The maps of a box, as they are when the whole volume is predicted."""
    halo = plan.halo if plan.halo is not None else plan.model.receptive_field
    reach = box.grow(halo)
    start = [start // stride * stride for start, stride in zip(reach.start, plan.model.stride)]
    near = Box(tuple(start), reach.stop).intersect(Box.of_shape(volume.shape))
    inside = box.relative_to(near)
    store = MapStore(types, box.shape, volume.voxel_size, plan.model.vector_scale, folder)
    for written, values in predict_tiles(plan, PartVolume(volume.image, near)):
        common = written.intersect(inside)
        if not common.is_empty:
            window = (slice(None), *common.relative_to(written).slices)
            store.store(common.relative_to(inside), {name: values[name][window] for name in types})
    return store.maps


def _objects_in(truth: np.ndarray, ignore_label: int | None) -> int:
    """True objects."""
    ids = np.unique(truth)
    return int(np.count_nonzero((ids > 0) & (ids != ignore_label)))


def _node(decoder: Decoder) -> dict[str, Any]:
    """A decoder as configs write it, with every setting: it stays the same when defaults change."""
    name = next(name for name in DECODERS if DECODERS.get(name) is type(decoder))
    return {"type": name, **{field.name: getattr(decoder, field.name) for field in fields(decoder)}}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
