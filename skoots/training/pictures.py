"""Pictures of what the network makes of the same windows, as training goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from skoots.errors import SkootsError
from skoots.instances import Decoder, Maps
from skoots.loggers.base import Logger
from skoots.models.segmentation_model import SegmentationModel
from skoots.models.weights import unwrapped
from skoots.runtime import without_trials
from skoots.samples import Batch, Sample
from skoots.training.observers import Observer
from skoots.training.random_state import random_state, set_random_state

if TYPE_CHECKING:
    from skoots.training.runner import TrainingRunner

log = logging.getLogger("skoots")
Pictures = Mapping[str, np.ndarray]


class PictureObserver(Observer):
    """Draws what the network makes of a few windows, for loggers and for the run folder.

    Every source gives one window, the same in every epoch. Nothing of the training is touched: no random
    generator, no mode of the model, no state of a loader.

    Args:
        sources: by name (``train``, ``validation``), what gives the window.
        decoder: makes instances of maps.
        draw: from a window and what the network makes of it to pictures by name, (H, W, 3) uint8; takes what
            ``reports.training_pictures.training_pictures`` takes.
        write: writes all pictures of a window into one file, under a caption.
        loggers: each is given every picture as ``SOURCE/NAME``, at its own ``image_log_interval`` if it has
            one.
        folder: of the files, ``epoch-010-train.png`` and so on.
        every: epochs between pictures, drawn after the last epoch too; None draws for those loggers alone
            that have an interval of their own.
    """

    def __init__(
        self,
        sources: Mapping[str, Callable[[], Sample]],
        decoder: Decoder,
        draw: Callable[..., Pictures],
        write: Callable[[Path, Pictures, str], object],
        loggers: Sequence[Logger],
        folder: Path,
        every: int | None,
    ) -> None:
        self.sources, self.decoder, self.draw, self.write = dict(sources), decoder, draw, write
        self.loggers, self.folder, self.every = list(loggers), folder, every
        self._samples: dict[str, Sample] = {}
        self._warned = False

    def epoch_end(self, runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> None:
        last = epoch == runner.epochs
        loggers = [logger for logger in self.loggers if self._is_due(logger, epoch, last)]
        to_file = _is_due(self.every, epoch, last)
        if not loggers and not to_file:
            return
        model = cast(SegmentationModel, unwrapped(runner.used_model))
        for name in self.sources:
            with self._at_worst_a_warning():
                with _leaving_no_trace(model):
                    sample = self._sample(name)
                    pictures = self._pictures(model, runner.device, sample, epoch)
                for logger in loggers:
                    for kind, picture in pictures.items():
                        logger.image(f"{name}/{kind}", picture, epoch)
                if to_file:
                    path = self.folder / f"epoch-{epoch:03d}-{name}.png"
                    self.write(path, pictures, f"after epoch {epoch}, {name}: {sample.origin}")

    def _is_due(self, logger: Logger, epoch: int, last: bool) -> bool:
        own = logger.image_log_interval
        return _is_due(self.every if own is None else own, epoch, last)

    @contextmanager
    def _at_worst_a_warning(self) -> Iterator[None]:
        """A full disk, or a volume that cannot be read any more, costs the pictures and one warning."""
        try:
            yield
        except (OSError, SkootsError) as error:
            if not self._warned:
                log.warning("Pictures of the training are missing: %s Training goes on.", error)
            self._warned = True

    def _sample(self, name: str) -> Sample:
        if name not in self._samples:
            self._samples[name] = self.sources[name]()
        return self._samples[name]

    def _pictures(
        self, model: SegmentationModel, device: torch.device, sample: Sample, epoch: int
    ) -> Pictures:
        batch = Batch.collate([sample]).to(device)
        maps = {name: _array(values) for name, values in model.predict(model(batch.images)).items()}
        targets = {name: value for head in model.targets(batch).values() for name, value in head.items()}
        scale = model.vector_scale
        instances = None
        channels = {name: len(values) for name, values in maps.items()}
        if not self.decoder.lacks(channels, sample.labels.ndim, scale):
            read = Maps.of(maps, self.decoder.reads, sample.voxel_size, scale)
            instances = self.decoder.decode(read)
        return self.draw(
            sample.image,
            sample.labels,
            sample.valid,
            sample.offset,
            maps,
            voxel_size=sample.voxel_size,
            threshold=self.decoder.semantic_threshold,
            skeleton=_array(targets["skeleton"])[0] if "skeleton" in targets else None,
            instances=instances,
            scale=scale,
            sigma=model.vector_sigma(epoch),
        )


def first_with_objects(sample_of: Callable[[Any], Sample], keys: Sequence[Any]) -> Sample:
    """The first sample that holds an object, or else the first.

    Args:
        sample_of: gives a sample for a key.
        keys: in the order in which they are tried; at least one.
    """
    first = None
    for key in keys:
        sample = sample_of(key)
        if (sample.labels > 0).any():
            return sample
        first = sample if first is None else first
    assert first is not None
    return first


def _is_due(every: int | None, epoch: int, last: bool) -> bool:
    return every is not None and (last or epoch % every == 0)


@contextmanager
def _leaving_no_trace(model: SegmentationModel) -> Iterator[None]:
    """The model in evaluation mode, without gradients; afterwards its mode and all random generators are as
    they were."""
    mode, generators = model.training, random_state()
    try:
        with torch.no_grad(), without_trials():
            model.eval()
            yield
    finally:
        model.train(mode)
        set_random_state(generators)


def _array(values: Tensor) -> np.ndarray:
    """The only entry of a batch, on the host."""
    return values[0].float().cpu().numpy()
