"""Sources, windows and datasets: voxels say where they came from, and a key says all about a sample."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import tifffile
import torch

from skoots.data.augment import default_augmentations
from skoots.data.augment.turns import Flip, SwapAxes
from skoots.data.dataset import CoveringDataset, CropDataset
from skoots.data.labelled_volume import LabelledVolume, make_sample
from skoots.data.loaders import EpochSampler, covering_loader, train_loader
from skoots.data.normalize import Intensity
from skoots.data.sampling import Sampling
from skoots.data.sources import DATASETS, Folder, Reading, Synthetic, open_sources
from skoots.errors import VolumeError
from skoots.geometry import Box
from skoots.skeletons import nearest_offsets, skeletonize
from skoots.synthetic import make_volume
from skoots.volumes.array import ArrayVolume

RAW = Intensity(np.zeros(1, np.float32), np.ones(1, np.float32))


def coded_volume(shape=(10, 24, 24), voxel_size=None, ignore_label=None, seed=0, hole=None):
    """A volume whose image is each voxel's position in memory order, with ids that are far from 1..n."""
    voxel_size = voxel_size or (1.0,) * len(shape)
    labels = make_volume(shape, seed, radius=(2, 3))[1].astype(np.int64) * 1000
    skeletons = skeletonize(labels, voxel_size)
    if hole is not None:
        labels[hole] = ignore_label
    image = np.arange(labels.size, dtype=np.float32).reshape(shape)
    return LabelledVolume(
        f"coded {seed}",
        ArrayVolume("image", image),
        ArrayVolume("labels", labels),
        skeletons,
        RAW,
        voxel_size,
        ignore_label,
    )


def labels_of(volume):
    return volume.labels.read_all()


def position(volume, image):
    """(D, *S) positions in the volume that an image of codes tells."""
    return np.stack(np.unravel_index(image.astype(int), volume.shape))


class TestWindow:
    @pytest.mark.parametrize("shape", [(10, 24, 24), (40, 40)])
    def test_a_window_is_that_part_of_the_volume(self, shape):
        volume = coded_volume(shape)
        box = Box.at((2, 5, 7)[: len(shape)], (6, 11, 9)[: len(shape)])
        window = volume.window(box)
        code = np.arange(np.prod(shape)).reshape(shape)
        assert np.array_equal(window.image[0], code[box.slices]) and window.valid.all()
        ids = labels_of(volume)[box.slices]
        assert np.unique(window.labels).tolist() == list(range(len(np.unique(ids))))
        pairs = np.unique(np.stack([ids.ravel(), window.labels.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(ids))

    def test_skeletons_move_along_even_if_they_lie_outside(self):
        volume = coded_volume()
        box = Box.at((3, 5, 6), (5, 12, 12))
        window = volume.window(box)
        whole = labels_of(volume)
        outside = 0
        for new, points in window.skeletons.as_dict().items():
            there = (points + box.start).astype(int)
            old = whole[box.slices][window.labels == new][0]
            assert np.array_equal(there, volume.skeletons.of(int(old)))
            outside += int(((points < 0) | (points >= box.shape)).any(1).sum())
        assert outside > 0

    def test_offsets_of_a_window_are_those_of_the_volume(self):
        volume = coded_volume(voxel_size=(2.0, 1.0, 1.0))
        whole = nearest_offsets(labels_of(volume), volume.skeletons, volume.voxel_size)
        box = Box.at((1, 3, 4), (7, 13, 14))
        sample = make_sample(volume.window(box), "here")
        assert np.array_equal(sample.offset, whole[(slice(None), *box.slices)])
        assert sample.origin == "here" and sample.voxel_size == (2, 1, 1)
        inscribed = dict(zip(volume.skeletons.ids, volume.skeletons.inscribed))
        ids = labels_of(volume)[box.slices]
        assert np.array_equal(
            sample.inscribed, np.vectorize(lambda i: inscribed.get(i, 0), otypes=[np.float32])(ids)
        )

    def test_beyond_the_rim_nothing_is_valid_and_the_image_repeats_it(self):
        volume = coded_volume((4, 30, 30))
        box = Box((-2, 10, 25), (5, 20, 33))
        window = volume.window(box)
        assert window.image.shape == (1, 7, 10, 8) and window.labels.shape == window.valid.shape == (7, 10, 8)
        inside = Box((2, 0, 0), (6, 10, 5))
        expected = np.zeros(box.shape, bool)
        expected[inside.slices] = True
        assert np.array_equal(window.valid, expected) and not window.labels[~expected].any()
        grid = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(box.start, box.stop)], indexing="ij"))
        clamped = np.clip(grid, 0, np.reshape(volume.shape, (3, 1, 1, 1)) - 1)
        assert np.array_equal(position(volume, window.image[0]), clamped)
        rows = np.flatnonzero(expected.ravel())
        assert np.array_equal(
            window.labels.ravel()[rows] > 0, labels_of(volume)[tuple(grid.reshape(3, -1)[:, rows])] > 0
        )

    def test_a_box_elsewhere_is_refused(self):
        with pytest.raises(VolumeError, match="lies outside the volume of shape"):
            coded_volume().window(Box((20, 0, 0), (30, 5, 5)))

    @pytest.mark.parametrize("ignore_label", [-1, 999])
    def test_ignored_voxels_are_background_that_does_not_count(self, ignore_label):
        hole = (slice(2, 5), slice(4, 9), slice(None))
        volume = coded_volume(ignore_label=ignore_label, hole=hole)
        window = volume.window(Box.of_shape(volume.shape))
        expected = np.ones(volume.shape, bool)
        expected[hole] = False
        assert np.array_equal(window.valid, expected) and not window.labels[hole].any()
        sample = make_sample(window)
        assert not sample.offset[:, ~expected].any() and not sample.inscribed[~expected].any()

    def test_an_object_without_a_skeleton_is_no_failure(self):
        volume = coded_volume()
        window = volume.window(Box.of_shape(volume.shape))
        kept = window.skeletons.select(window.skeletons.ids[1:])
        sample = make_sample(type(window)(window.image, window.labels, window.valid, kept, window.voxel_size))
        assert (
            not sample.offset[:, window.labels == 1].any() and not sample.inscribed[window.labels == 1].any()
        )


class TestCropDataset:
    @pytest.mark.parametrize(
        "shape, voxel_size", [((10, 24, 24), (1, 1, 1)), ((24, 24, 24), (3, 1, 1)), ((40, 40), (1, 1))]
    )
    def test_image_labels_and_skeletons_still_belong_together(self, shape, voxel_size):
        """After any turn the image still says which voxel this was; labels and offsets must agree with it."""
        volume = coded_volume(shape, voxel_size)
        whole = labels_of(volume)
        dataset = CropDataset(
            [(volume, 30)], (8, 12, 12)[-len(shape) :], [Flip(), SwapAxes()], 3, Sampling(1.0)
        )
        for index in range(30):
            sample = dataset[1, index]
            where = position(volume, sample.image[0])
            ids = whole[tuple(where)]
            assert np.array_equal(sample.labels > 0, ids > 0)
            # Each offset that ends inside the window leads to the skeleton of its own object.
            start = np.stack(np.indices(sample.labels.shape))
            target = np.rint(start + sample.offset).astype(int)
            bounds = np.reshape(sample.labels.shape, (-1, *(1,) * len(shape)))
            seen = ((target >= 0) & (target < bounds)).all(0) & (sample.labels > 0)
            reached = np.stack(
                [axis[tuple(target[:, seen])] for axis in where]
            )  # in the volume's own coordinates
            assert np.array_equal(whole[tuple(reached)], ids[seen])
            on_skeleton = np.zeros(shape, bool)
            on_skeleton[tuple(volume.skeletons.points.astype(int).T)] = True
            assert on_skeleton[tuple(reached)].all() and seen.any()

    def test_a_key_says_everything(self):
        volumes = [(coded_volume(seed=0), 3), (coded_volume(seed=1), 2)]
        one, two = (CropDataset(volumes, (6, 10, 10), default_augmentations(), seed=5) for _ in range(2))
        assert len(one) == 5
        two[1, 0], two[9, 4]  # what was asked before does not matter
        for key in ((1, 0), (1, 4), (2, 0), (30, 2)):
            assert same_sample(one[key], two[key])
        assert not same_sample(one[1, 0], one[2, 0]) and not same_sample(one[1, 0], one[1, 1])
        other = CropDataset(volumes, (6, 10, 10), default_augmentations(), seed=6)
        assert not same_sample(one[1, 0], other[1, 0])
        assert re.fullmatch(r"coded 1 from \(.*\) to \(.*\), epoch 2, sample 3", one[2, 3].origin)

    def test_samples_per_volume(self):
        volumes = [(coded_volume(seed=0), 3), (coded_volume(seed=1), 2)]
        dataset = CropDataset(volumes, (6, 10, 10))
        assert [dataset[1, i].origin.split(" from")[0] for i in range(5)] == ["coded 0"] * 3 + ["coded 1"] * 2

    def test_a_crop_larger_than_the_volume_is_padded_and_said_once(self, caplog):
        with caplog.at_level(logging.WARNING):
            dataset = CropDataset([(coded_volume((10, 24, 24)), 4)], (16, 20, 20), [Flip()])
            samples = [dataset[1, i] for i in range(4)]
        assert caplog.text.count("is larger than the volume") == 1
        assert all(s.image.shape == (1, 16, 20, 20) and s.valid.sum() == 10 * 20 * 20 for s in samples)


def same_sample(a, b):
    return a.origin == b.origin and all(
        np.array_equal(getattr(a, k), getattr(b, k))
        for k in ("image", "labels", "offset", "inscribed", "valid")
    )


class TestLoaders:
    def test_epochs_are_shuffled_anew_and_repeat(self):
        sampler = EpochSampler(20, seed=1)
        epochs = []
        for epoch in (1, 2, 1):
            sampler.set_epoch(epoch)
            keys = list(sampler)
            assert {e for e, _ in keys} == {epoch} and sorted(i for _, i in keys) == list(range(20))
            epochs.append(keys)
        assert len(sampler) == 20 and epochs[0] == epochs[2]
        assert [i for _, i in epochs[0]] != [i for _, i in epochs[1]]
        assert list(EpochSampler(20, seed=2)) != epochs[0]

    # Workers are forked on Linux; Python 3.12 and later warn of it where there are threads.
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_workers_do_not_change_the_samples(self):
        dataset = CropDataset([(coded_volume(), 5)], (6, 10, 10), default_augmentations(), seed=5)
        runs = []
        for workers in (0, 2):
            loader = train_loader(dataset, batch_size=2, seed=4, workers=workers)
            epochs = []
            for epoch in (1, 2):
                loader.sampler.set_epoch(epoch)
                epochs.append(list(loader))
            runs.append(epochs)
        for here, there in zip(*runs):
            assert len(here) == len(there) == 2  # the fifth sample would make a batch of one
            for a, b in zip(here, there):
                assert (
                    a.origins == b.origins
                    and torch.equal(a.images, b.images)
                    and torch.equal(a.offset, b.offset)
                )

    def test_fewer_samples_than_a_batch_still_make_one(self, caplog):
        dataset = CropDataset([(coded_volume(), 2)], (6, 10, 10))
        assert [b.images.shape[0] for b in train_loader(dataset, batch_size=8, seed=0)] == [2]
        assert "An epoch has 2 crops, so that batches have 2 instead of 8" in caplog.text

    def test_covering_windows_show_every_voxel_once(self):
        volumes = [coded_volume(seed=0), coded_volume((7, 25, 31), seed=1)]
        dataset = CoveringDataset(volumes, (6, 13, 13))
        batches = list(covering_loader(dataset))
        assert len(batches) == len(dataset) and all(b.images.shape[0] == 1 and b.valid.all() for b in batches)
        for volume in volumes:
            codes = [b.images.ravel() for b in batches if b.origins[0].startswith(volume.name)]
            assert torch.equal(torch.cat(codes).sort().values.long(), torch.arange(np.prod(volume.shape)))


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def save(name="a", shape=(10, 24, 24), seed=0, image=None, labels=None, folder="data"):
        (tmp_path / folder).mkdir(exist_ok=True)
        made = make_volume(shape, seed, radius=(2, 3))
        image = (made[0] * 200).astype(np.uint8) if image is None else image
        labels = made[1].astype(np.uint16) if labels is None else labels
        options = {"photometric": "minisblack"}
        tifffile.imwrite(tmp_path / folder / f"{name}.tif", image, **options)
        tifffile.imwrite(tmp_path / folder / f"{name}.labels.tif", labels, **options)
        return tmp_path / folder

    return save


class TestFolder:
    @pytest.mark.parametrize("store", ["memory", "disk"])
    def test_what_is_read_is_what_lies_there(self, write, store):
        write("b", seed=1)
        folder = write("a", seed=0)
        volumes = Folder(str(folder), store=store).open(Reading(voxel_size=(2, 1, 1)))
        assert [v.name for v in volumes] == ["a", "b"]
        for seed, volume in enumerate(volumes):
            image, labels = make_volume((10, 24, 24), seed, radius=(2, 3))
            assert volume.voxel_size == (2, 1, 1) and np.array_equal(labels_of(volume), labels)
            assert np.array_equal(volume.skeletons.points, skeletonize(labels, (2, 1, 1)).points)
            window = volume.window(Box.of_shape(volume.shape))
            raw = (image * 200).astype(np.uint8).astype(float)
            assert np.allclose(window.image[0], (raw - raw.mean()) / raw.std(), atol=1e-4)

    def test_skeletons_are_kept_and_edited_labels_noticed(self, write, caplog):
        folder = write()
        with caplog.at_level(logging.INFO):
            Folder(str(folder)).open(Reading())
            assert (folder / "a.skeletons.trch").is_file() and caplog.text.count("traced") == 1
            Folder(str(folder)).open(Reading())
            assert caplog.text.count("traced") == 1
            labels = make_volume((10, 24, 24), 0, radius=(2, 3))[1].astype(np.uint16)
            labels[labels == 1] = 0
            write(labels=labels)
            (volume,) = Folder(str(folder)).open(Reading())
        assert "does not fit its labels" in caplog.text and 1 not in volume.skeletons.ids

    def test_a_part_of_each_volume(self, write):
        folder = write()
        (volume,) = Folder(str(folder), box=[[2, 4, 5], [9, 20, 24]]).open(Reading())
        labels = make_volume((10, 24, 24), 0, radius=(2, 3))[1][2:9, 4:20, 5:24]
        assert np.array_equal(labels_of(volume), labels)
        assert np.array_equal(volume.skeletons.points, skeletonize(labels).points)
        assert not (folder / "a.skeletons.trch").exists()  # this would speak of the whole volume
        assert (folder / "a.2-4-5_9-20-24.skeletons.trch").is_file()
        with pytest.raises(
            VolumeError, match=r"box \(0, 0, 0\) to \(11, 5, 5\) reaches outside the volume of shape"
        ):
            Folder(str(folder), box=[[0, 0, 0], [11, 5, 5]]).open(Reading())

    def test_skeletons_of_parts_are_kept_apart(self, write, caplog):
        folder = write()
        boxes = [None, [[0, 0, 0], [10, 12, 24]], [[0, 12, 0], [10, 24, 24]]]
        with caplog.at_level(logging.INFO):
            traced, read = ([Folder(str(folder), box=b).open(Reading())[0] for b in boxes] for _ in range(2))
            points = [(a.skeletons.points, b.skeletons.points) for a, b in zip(list(traced), list(read))]
        assert caplog.text.count("traced") == 3 and all(np.array_equal(a, b) for a, b in points)

    def test_chosen_names(self, write):
        write("b"), write("c")
        folder = write("a")
        assert [v.name for v in Folder(str(folder), names=["c", "a"]).open(Reading())] == ["a", "c"]
        with pytest.raises(VolumeError, match="holds no volume named x, y; it holds a, b, c"):
            Folder(str(folder), names=["y", "a", "x"]).open(Reading())

    @pytest.mark.parametrize(
        "image, labels, sentence",
        [
            (
                None,
                np.ones((9, 24, 24), np.uint8),
                r"a.labels.tif has shape \(9, 24, 24\) and its image a.tif has \(10, 24, 24\)",
            ),
            (None, np.zeros((10, 24, 24), np.uint8), r"a.labels.tif holds no object: every voxel is 0"),
            (
                None,
                np.full((10, 24, 24), 0.5, np.float32),
                r"a.labels.tif is float32, but labels must be integer ids",
            ),
            (np.zeros((10, 24, 24), np.uint8), None, r"a.tif: every voxel is 0, so there is nothing to see"),
            (np.full((10, 24, 24), np.nan, np.float32), None, r"a.tif holds a NaN voxel at \[0, 0, 0\]"),
        ],
    )
    def test_bad_volumes_are_named(self, write, image, labels, sentence):
        folder = write(image=image, labels=labels)
        with pytest.raises(VolumeError, match=sentence):
            Folder(str(folder)).open(Reading())

    def test_labels_that_hold_nothing_but_the_unknown(self, write):
        folder = write(labels=np.full((10, 24, 24), 255, np.uint8))
        with pytest.raises(VolumeError, match="holds no object"):
            Folder(str(folder)).open(Reading(ignore_label=255))


class TestSources:
    def test_synthetic_volumes_repeat_and_differ(self):
        source = Synthetic([10, 24, 24], volumes=2, seed=4, samples_per_volume=3, radius=(2, 3))
        first, second = source.open(Reading())
        again = source.open(Reading())[0]
        assert np.array_equal(first.image.read_all(), again.image.read_all())
        assert not np.array_equal(labels_of(first), labels_of(second))
        assert np.array_equal(labels_of(second), make_volume((10, 24, 24), 5, radius=(2, 3))[1])
        check = skeletonize(labels_of(first))
        assert np.array_equal(first.skeletons.points, check.points)

    def test_sources_are_opened_together_with_their_counts(self, write):
        folder = write()
        opened = open_sources([Synthetic([10, 24, 24], 2, 3), Folder(str(folder), 7)], Reading())
        assert [(v.name, n) for v, n in opened] == [
            ("synthetic tubes 0", 3),
            ("synthetic tubes 1", 3),
            ("a", 7),
        ]

    def test_volumes_that_do_not_go_together(self, write):
        with pytest.raises(VolumeError, match=r"synthetic tubes 0 is 2D and synthetic tubes 0 3D"):
            open_sources([Synthetic([10, 24, 24]), Synthetic([40, 40])], Reading())
        image = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
        colours = np.moveaxis(image, -1, 0)
        folder = write(shape=(24, 24))
        tifffile.imwrite(folder / "a.tif", colours, photometric="minisblack", metadata={"axes": "CYX"})
        with pytest.raises(
            VolumeError, match=r"a\.tif has 3 channels and synthetic tubes 0 1; they must be equal"
        ):
            open_sources([Synthetic([40, 40]), Folder(str(folder))], Reading())

    def test_volumes_of_other_proportions(self, write, tmp_path):
        flat, cubic = write(shape=(8, 24, 24)), tmp_path / "cubic"
        cubic.mkdir()
        for name in ("a.tif", "a.labels.tif"):
            array = tifffile.imread(flat / name)
            tifffile.imwrite(cubic / name, array, metadata={"axes": "ZYX", "spacing": [1, 1, 1]})
            tifffile.imwrite(flat / name, array, metadata={"axes": "ZYX", "spacing": [3, 1, 1]})
        with pytest.raises(
            VolumeError, match=r"other proportions, which one network cannot serve.*data\.voxel_size"
        ):
            open_sources([Folder(str(flat)), Folder(str(cubic))], Reading())
        assert len(open_sources([Folder(str(flat)), Folder(str(cubic))], Reading(voxel_size=(2, 1, 1)))) == 2

    def test_names(self):
        assert {"Folder", "Synthetic"} <= set(DATASETS.names())


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"names": []}, "names is empty. Leave it out to take all volumes"),
        ({"box": [[0, 0, 0]]}, "must be a start and a stop voxel of two or three numbers each"),
        ({"box": [[0, 0, 0], [10, 10]]}, "must be a start and a stop voxel of two or three numbers each"),
        ({"box": [[0], [10]]}, "must be a start and a stop voxel of two or three numbers each"),
        ({"box": [[0, 5, 0], [4, 5, 9]]}, "stop must lie behind its start along every axis"),
        ({"box": [[-1, 0, 0], [4, 5, 9]]}, "Count from 0"),
    ],
)
def test_names_and_boxes_that_are_none(arguments, said):
    with pytest.raises(ValueError, match=said):
        Folder("x", **arguments)


def test_a_box_of_other_axes_than_the_volume(tmp_path):
    image, labels = make_volume((8, 20, 20), 1, radius=(2, 3))
    tifffile.imwrite(tmp_path / "a.tif", image)
    tifffile.imwrite(tmp_path / "a.labels.tif", labels.astype(np.uint16))
    with pytest.raises(VolumeError, match=r"a.tif: box .* has 2 axes and the volume 3"):
        Folder(str(tmp_path), box=[[0, 0], [8, 8]]).open(Reading())


@pytest.mark.parametrize("source", [Synthetic([8, 20, 20], volumes=2, radius=(2.0, 3.0)), "folder"])
def test_headers_are_those_of_the_opened_volumes(source, tmp_path):
    if source == "folder":
        image, labels = make_volume((8, 20, 20), 1, radius=(2, 3))
        tifffile.imwrite(tmp_path / "a.tif", np.stack([image, image]), metadata={"axes": "CZYX"})
        tifffile.imwrite(tmp_path / "a.labels.tif", labels.astype(np.uint16))
        source = Folder(str(tmp_path), box=[[0, 0, 0], [8, 16, 20]])
    headers = source.headers(Reading(voxel_size=(3, 1, 1)))
    assert not list(tmp_path.glob("*.trch"))  # nothing is traced for them
    volumes = source.open(Reading(voxel_size=(3, 1, 1)))
    assert len(headers) == len(volumes)
    for header, volume in zip(headers, volumes):
        assert tuple(header.voxel_size) == tuple(volume.voxel_size)
        for name in ("shape", "channels", "dtype"):
            assert getattr(header.image, name) == getattr(volume.image, name)
