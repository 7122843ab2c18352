"""Pictures during training: when, of what, for whom; and that training does not notice."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from float_maps import decode
from torch import Tensor

from skoots.data.augment import default_augmentations
from skoots.data.dataset import CoveringDataset, CropDataset
from skoots.data.labelled_volume import LabelledVolume
from skoots.errors import SkootsError
from skoots.instances import SkeletonDecoder
from skoots.loggers.base import Logger
from skoots.models.backbones.unet import UNet
from skoots.models.heads.semantic import SemanticHead
from skoots.models.segmentation_model import SegmentationModel
from skoots.samples import Batch, Sample
from skoots.training.observers import Observer
from skoots.training.pictures import PictureObserver, first_with_objects
from skoots.training.runner import TrainingRunner

Make = Callable[..., Any]
FOUND = SkeletonDecoder(semantic_threshold=0.4, skeleton_threshold=0.45)


class Album(Logger):
    """Keeps the names of what it is given."""

    def __init__(self, interval: int | None = None) -> None:
        self.image_log_interval = interval
        self.images: list[tuple[int, str]] = []

    def scalars(self, values: Mapping[str, float], epoch: int) -> None: ...

    def image(self, name: str, picture: np.ndarray, epoch: int) -> None:
        self.images.append((epoch, name))

    @property
    def epochs(self) -> list[int]:
        return sorted({epoch for epoch, _ in self.images})


class Painter:
    """Draws one plain picture, and keeps what it was given."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.written: list[tuple[str, str]] = []
        self.failure: Exception | None = None

    def draw(
        self, image: Any, labels: Any, valid: Any, offset: Any, maps: Any, **more: Any
    ) -> dict[str, Any]:
        given = {"image": image, "labels": labels, "valid": valid, "offset": offset, "maps": maps}
        self.seen.append({**given, **more})
        return {"plain": np.zeros((2, 2, 3), np.uint8)}

    def write(self, path: Path, pictures: Mapping[str, np.ndarray], caption: str) -> None:
        if self.failure is not None:
            raise self.failure
        assert set(pictures) == {"plain"}
        self.written.append((path.name, caption))


@pytest.fixture
def sources(volumes: dict[int, LabelledVolume]) -> dict[str, Callable[[], Sample]]:
    """A crop and a window in 2D."""
    crops = CropDataset([(volumes[2], 3)], (16, 16), default_augmentations(), seed=5)
    windows = CoveringDataset([volumes[2]], (16, 32))
    return {
        "train": lambda: first_with_objects(crops.__getitem__, [(0, 0), (0, 1), (0, 2)]),
        "validation": lambda: first_with_objects(windows.__getitem__, range(2)),
    }


def observer(
    sources: dict[str, Callable[[], Sample]],
    painter: Painter,
    every: int | None = 2,
    loggers: tuple[Logger, ...] = (),
) -> PictureObserver:
    return PictureObserver(sources, FOUND, painter.draw, painter.write, loggers, Path("f"), every)


# When, and for whom -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "own", "files", "logged"),
    [
        (2, None, [2, 4, 5], [2, 4, 5]),
        (2, 3, [2, 4, 5], [3, 5]),
        (None, 3, [], [3, 5]),
        (None, None, [], []),
        (100, None, [5], [5]),
    ],
)
def test_pictures_come_at_their_interval_and_at_the_end(
    make_runner: Make,
    sources: dict[str, Callable[[], Sample]],
    every: int | None,
    own: int | None,
    files: list[int],
    logged: list[int],
) -> None:
    painter, albums = Painter(), (Album(own), Album(own))
    make_runner(epochs=5, observers=[observer(sources, painter, every, albums)]).fit()
    names = [f"epoch-{epoch:03d}-{name}.png" for epoch in files for name in ("train", "validation")]
    assert [name for name, _ in painter.written] == names
    for album in albums:
        assert album.epochs == logged
        assert album.images[:2] == [(epoch, f"{name}/plain") for epoch in logged[:1] for name in sources]
    assert len(painter.seen) == 2 * len({*files, *logged})


def test_captions_say_what_is_shown(make_runner: Make, sources: dict[str, Callable[[], Sample]]) -> None:
    painter = Painter()
    make_runner(epochs=1, observers=[observer(sources, painter)]).fit()
    (_, train), (_, validation) = painter.written
    assert train.startswith("after epoch 1, train: synthetic tubes 4 from (")
    assert validation == "after epoch 1, validation: synthetic tubes 4 from (0, 0) to (16, 32)"


# Of what ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [None, 0.5])
def test_the_model_that_will_be_used_is_shown_on_the_same_windows(
    make_runner: Make,
    make_model: Make,
    sources: dict[str, Callable[[], Sample]],
    decay: float | None,
) -> None:
    painter = Painter()
    model = make_model(dropout=0.5)
    runner = make_runner(model=model, observers=[observer(sources, painter, every=1)], ema=decay)
    expected: list[dict[str, Any]] = []

    class Look(Observer):
        def epoch_end(self, runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> None:
            for source in sources.values():
                expected.append(by_hand(runner.used_model, source(), epoch))

    runner.observers.append(Look())
    runner.fit()
    assert len(painter.seen) == len(expected) == 4
    for seen, wanted in zip(painter.seen, expected):
        assert seen.keys() == wanted.keys()
        for name, value in wanted.items():
            equal = np.testing.assert_array_equal if isinstance(value, np.ndarray) else _equal
            equal(seen[name], value)
    assert not np.array_equal(painter.seen[0]["maps"]["semantic"], painter.seen[2]["maps"]["semantic"])
    assert painter.seen[0]["sigma"] == (4.0, 4.0) and painter.seen[2]["sigma"] == (2.0, 2.0)


def _equal(a: Any, b: Any) -> None:
    if isinstance(b, dict):
        assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in b)
    else:
        assert a == b


def by_hand(model: SegmentationModel, sample: Sample, epoch: int) -> dict[str, Any]:
    batch = Batch.collate([sample])
    before = model.training
    with torch.no_grad():
        outputs = model.eval()(batch.images)
        targets = model.targets(batch)
    model.train(before)
    maps = {name: outputs[name][name][0].numpy() for name in ("vector", "semantic", "skeleton")}
    scale = model.vector_scale
    assert scale is not None
    return {
        "image": sample.image,
        "labels": sample.labels,
        "valid": sample.valid,
        "offset": sample.offset,
        "maps": maps,
        "voxel_size": (1.0, 1.0),
        "threshold": 0.4,
        "skeleton": targets["skeleton"]["skeleton"][0, 0].numpy(),
        "instances": decode(maps, scale, (1.0, 1.0), FOUND),
        "scale": scale,
        "sigma": model.vector_sigma(epoch),
    }


def test_a_model_of_other_heads(make_runner: Make, sources: dict[str, Callable[[], Sample]]) -> None:
    painter = Painter()
    model = SegmentationModel(UNet(1, 2, (4, 8)), {"semantic": SemanticHead(4, 2)})
    make_runner(model=model, epochs=1, observers=[observer(sources, painter)]).fit()
    seen = painter.seen[0]
    assert set(seen["maps"]) == {"semantic"}
    assert [seen[name] for name in ("skeleton", "instances", "scale", "sigma")] == [None] * 4


def test_the_first_sample_with_objects_or_else_the_first() -> None:
    def sample(*labels: int) -> Sample:
        nothing = np.zeros((1, len(labels)), np.float32)
        ids = np.array(labels)
        return Sample(nothing, ids, nothing, nothing[0], ids > -1, (1.0,), origin=str(labels))

    dataset = {"a": sample(0, 0), "b": sample(0, 2), "c": sample(1, 1)}
    assert first_with_objects(dataset.__getitem__, ["a", "b", "c"]) is dataset["b"]
    assert first_with_objects({"a": dataset["a"], "d": sample(0)}.__getitem__, ["a", "d"]) is dataset["a"]


def test_windows_are_found_once(make_runner: Make, sources: dict[str, Callable[[], Sample]]) -> None:
    asked = []

    def counted() -> Sample:
        asked.append(1)
        return sources["train"]()

    make_runner(epochs=3, observers=[observer({"train": counted}, Painter(), every=1)]).fit()
    assert len(asked) == 1


# Training does not notice -----------------------------------------------------------------------------------


class RestlessHead(SemanticHead):
    """Draws from every generator whenever it is asked for maps, in evaluation too."""

    def predict(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        draw_from_all()
        return super().predict(outputs)


def draw_from_all() -> None:
    torch.rand(3)
    np.random.rand(3)
    random.random()


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("settings", [{}, {"ema": 0.9, "workers": 1, "samples": 5, "accumulate": 2}])
def test_training_is_the_same_to_the_last_bit(
    make_runner: Make,
    make_model: Make,
    volumes: dict[int, LabelledVolume],
    dims: int,
    settings: dict[str, Any],
) -> None:
    def model() -> SegmentationModel:
        model: SegmentationModel = make_model(dims, dropout=0.5)
        torch.manual_seed(1)
        model.heads["semantic"] = RestlessHead(4, dims)
        return model

    random.seed(3)
    np.random.seed(3)
    before = random.getstate(), np.random.get_state()
    plain = make_runner(dims, "plain", model(), epochs=3, **settings)
    plain.fit()

    random.setstate(before[0])
    np.random.set_state(before[1])
    painted = make_runner(dims, "painted", model(), epochs=3, **settings)
    dataset = painted.loader.dataset  # not the runner: a cycle with it ends its workers late

    def source() -> Sample:
        draw_from_all()
        return dataset[0, 1]

    class Restless(Painter):
        def draw(self, *given: Any, **more: Any) -> dict[str, Any]:
            draw_from_all()
            return super().draw(*given, **more)

    painter = Restless()
    painted.observers.insert(0, observer({"train": source}, painter, every=1))
    modes: list[bool] = []

    class Mode(Observer):
        def epoch_end(self, runner: TrainingRunner, epoch: int, measured: Mapping[str, float]) -> None:
            modes.append(runner.model.training)

    painted.observers.append(Mode())
    painted.fit()
    assert len(painter.seen) == 3 and modes == [True] * 3
    assert same(plain.state(), painted.state())


# Failures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure", [SkootsError("a.png cannot be written: full."), OSError("No space left.")]
)
def test_a_full_disk_costs_pictures_and_one_warning(
    make_runner: Make,
    sources: dict[str, Callable[[], Sample]],
    failure: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    painter, album = Painter(), Album()
    painter.failure = failure
    with caplog.at_level(logging.WARNING, logger="skoots"):
        result = make_runner(epochs=3, observers=[observer(sources, painter, 1, (album,))]).fit()
    assert result.epochs == 3 and album.epochs == [1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == [
        f"Pictures of the training are missing: {failure} Training goes on."
    ]


def test_a_bug_stays_a_bug(make_runner: Make, sources: dict[str, Callable[[], Sample]]) -> None:
    painter = Painter()
    painter.failure = ZeroDivisionError("oops")
    with pytest.raises(ZeroDivisionError, match="oops"):
        make_runner(epochs=1, observers=[observer(sources, painter)]).fit()
