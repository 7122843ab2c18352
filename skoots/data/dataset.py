"""The datasets that draw windows from volumes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from skoots.data.augment import Augmentation, Frame, Sequential
from skoots.data.crops import covering_crops, random_crop
from skoots.data.labelled_volume import LabelledVolume, make_sample
from skoots.data.mixture import Mixture
from skoots.data.raw_batch import RawBatch, RawSample, Unmade
from skoots.data.resident import ResidentSample, keep_resident
from skoots.data.sampling import Places, Sampling
from skoots.data.survey import Survey, survey_labels
from skoots.errors import ConfigError, Fault, SkootsError, VolumeError
from skoots.geometry import Box
from skoots.samples import Batch, Sample

log = logging.getLogger("skoots")


class CropDataset(Dataset["Sample | Unmade"]):
    """Random windows; a key (epoch, index) and the seed say everything about one, whoever asks for it.

    Args:
        volumes: each with the number of windows that an epoch draws from it.
        crop: voxels of a window per axis.
        augmentations: as of a ``Sequential``: one map for all that move voxels, then the others.
        seed: of the run.
        sampling: what windows are drawn around.
        background: volumes without objects, drawn from along with the others.
        background_augmentations: applied to windows of these.
        samples_per_epoch: windows of an epoch, shared out in proportion; None takes all that volumes ask for.
        on_device: windows are only read and drawn here; a ``RawBatch`` makes them where it is moved to.
    """

    def __init__(
        self,
        volumes: Sequence[tuple[LabelledVolume, int]],
        crop: Sequence[int],
        augmentations: Sequence[Augmentation] = (),
        seed: int = 0,
        sampling: Sampling | None = None,
        background: Sequence[tuple[LabelledVolume, int]] = (),
        background_augmentations: Sequence[Augmentation] = (),
        samples_per_epoch: int | None = None,
        on_device: bool = False,
    ) -> None:
        self.crop, self.seed, self.sampling = tuple(crop), seed, sampling or Sampling()
        self.augment, self.augment_background = (
            Sequential(augmentations),
            Sequential(background_augmentations),
        )
        self.on_device = on_device
        self.labelled = len(volumes)
        self.volumes = [volume for volume, _ in (*volumes, *background)]
        self.mixture = Mixture([count for _, count in (*volumes, *background)], samples_per_epoch, seed)
        surveys = [self._survey(volume) for volume in self.volumes]
        self.places = [Places(v.skeletons, s.boundaries) for v, s in zip(self.volumes, surveys)]
        self.within = [None if s.labelled.is_empty else s.labelled for s in surveys]
        for volume in self.volumes[:1]:
            self._rehearse(self.augment, volume, "data.augment")
        for volume in self.volumes[self.labelled :][:1]:
            self._rehearse(self.augment_background, volume, "data.background_augment")
        for volume in self.volumes:
            if volume.resident:
                self._keep(volume)
            if any(c > n for c, n in zip(self.crop, volume.shape)):
                log.warning(
                    "%s: the crop %s is larger than the volume %s and is padded.",
                    volume.name,
                    crop,
                    volume.shape,
                )

    def _rehearse(self, augment: Sequential, volume: LabelledVolume, path: str) -> None:
        try:
            augment.rehearse(Frame(self.crop, volume.voxel_size))
        except SkootsError as error:
            raise ConfigError([Fault(path, str(error).rstrip("."), "")]) from error

    def _survey(self, volume: LabelledVolume) -> Survey:
        """The pass through the labels, for volumes of which there is more to know than skeletons."""
        if len(volume.skeletons) and (self.sampling.boundaries or volume.ignore_label is not None):
            return survey_labels(volume.labels, volume.ignore_label, seed=self.seed)
        return Survey(Box.of_shape(volume.shape), np.zeros((0, len(volume.shape)), np.int32))

    def __len__(self) -> int:
        return len(self.mixture)

    @property
    def collate(self) -> Callable[[Sequence[Any]], Batch | RawBatch]:
        """From samples to a batch."""
        return RawBatch.collate if self.on_device else Batch.collate

    def _keep(self, volume: LabelledVolume) -> None:
        if not self.on_device:
            raise VolumeError(
                f"{volume.name} is to stay on the device (store: gpu), but its crops are made elsewhere. "
                "Write data.augment_on: device, or store: memory."
            )
        keep_resident(volume)

    def __getitem__(self, key: tuple[int, int]) -> Sample | Unmade:
        epoch, index = key
        rng = np.random.default_rng((self.seed, epoch, index))
        row = self.mixture.volume_of(epoch, index)
        volume, box = self.volumes[row], self.draw(row, rng)
        augment = self.augment if row < self.labelled else self.augment_background
        origin = f"{volume.name} from {box.start} to {box.stop}, epoch {epoch}, sample {index}"
        frame = Frame(self.crop, volume.voxel_size)
        spatial_map = augment.draw_map(frame, rng)
        if self.on_device:
            changes = augment.draw_changes(frame, rng)
            if volume.resident:
                return ResidentSample(volume.resident, box, spatial_map, changes, origin)
            return RawSample.read(volume, box, spatial_map, changes, origin)
        return make_sample(augment.change(volume.window(box, spatial_map), rng), origin)

    def sample(self, key: tuple[int, int]) -> Sample:
        """A window with all that is made of it, also where that is left to a device; for whoever looks."""
        drawn = self[key]
        if isinstance(drawn, Sample):
            return drawn
        batch = RawBatch.collate([drawn]).to("cpu")
        arrays: dict[str, Any] = {name: tensor[0].numpy() for name, tensor in batch.tensors().items()}
        return Sample(
            image=arrays.pop("images"), **arrays, voxel_size=batch.voxel_size, origin=batch.origins[0]
        )

    def draw(self, row: int, rng: np.random.Generator) -> Box:
        """The next window of a volume, by its row."""
        point = self.places[row].draw(self.sampling.kind(rng), rng)
        return random_crop(self.volumes[row].shape, self.crop, rng, point, self.within[row])


class CoveringDataset(Dataset[Sample]):
    """Windows that together cover volumes, without augmentation: what validation looks at.

    Args:
        volumes: to cover.
        crop: largest window.
    """

    def __init__(self, volumes: Sequence[LabelledVolume], crop: Sequence[int]) -> None:
        self.windows = [(volume, box) for volume in volumes for box in covering_crops(volume.shape, crop)]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        volume, box = self.windows[index]
        return make_sample(volume.window(box), f"{volume.name} from {box.start} to {box.stop}")
