"""Images without objects: what is read of them, and that a network learns from them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch

from skoots.data.augment import AUGMENTATIONS, Augmentation
from skoots.data.background import background_augmentations, background_volume
from skoots.data.dataset import CropDataset
from skoots.data.loaders import train_loader
from skoots.data.sources import Folder, Reading, Synthetic, check_alike, open_sources
from skoots.errors import ConfigError, VolumeError
from skoots.geometry import Box
from skoots.models.criteria.base import CRITERIA
from skoots.models.heads.semantic import SemanticHead
from skoots.models.heads.skeleton import SkeletonHead
from skoots.models.heads.vector import VectorHead
from skoots.samples import Batch
from skoots.volumes import open_volume, read_labels

SYNTHETIC = {"shape": [12, 24, 24], "radius": [2.0, 3.0]}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("b", "a"):
        image = rng.integers(0, 200, (8, 20, 20), np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", image, photometric="minisblack")
    return tmp_path


class TestFolder:
    @pytest.mark.parametrize("store", ["memory", "disk"])
    def test_every_voxel_is_known_to_be_background(self, folder, store):
        volumes = Folder(str(folder), store=store).open_background(Reading())
        assert [v.name for v in volumes] == ["a", "b"]
        window = volumes[0].window(Box((-1, 2, 3), (5, 9, 9)))
        assert window.valid.sum() == 5 * 7 * 6 and not window.labels.any() and not len(window.skeletons)
        raw = open_volume(folder / "a.tif").read_all().astype(float)
        expected = ((raw - raw.mean()) / raw.std())[0:5, 2:9, 3:9]
        assert np.allclose(window.image[0, 1:], expected, atol=1e-4)
        assert not list(folder.glob("*.trch"))
        assert read_labels(volumes[0].labels).shape == (8, 20, 20)

    def test_names_and_box(self, folder):
        (volume,) = Folder(str(folder), names=["b"], box=[[1, 2, 3], [7, 12, 19]]).open_background(Reading())
        assert volume.shape == (6, 10, 16) and volume.name == "b"
        with pytest.raises(VolumeError, match="holds no volume named c; it holds a, b"):
            Folder(str(folder), names=["c"]).open_background(Reading())

    def test_labels_are_refused_and_so_is_nothing(self, folder, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(VolumeError, match="empty holds no images"):
            Folder(str(tmp_path / "empty")).open_background(Reading())
        (folder / "a.labels.tif").touch()
        with pytest.raises(
            VolumeError, match=r"a.labels.tif are labels, but .* list a folder with labels under"
        ):
            Folder(str(folder)).open_background(Reading())

    def test_a_source_without_background_says_so(self):
        class Other(Folder):
            open_background = Folder.__mro__[1].open_background

        with pytest.raises(ConfigError, match=r"data\.background.*Other has no images without objects"):
            Other("x").open_background(Reading())


class Mark(Augmentation):
    def __init__(self, value):
        self.value = value

    def __call__(self, window, rng):
        return type(window)(
            window.image * 0 + self.value, window.labels, window.valid, window.skeletons, window.voxel_size
        )


class TestCrops:
    def test_they_are_drawn_along_with_their_own_augmentations(self):
        reading = Reading()
        train = open_sources([Synthetic(**SYNTHETIC, samples_per_volume=4)], reading)
        background = open_sources([Synthetic(**SYNTHETIC, samples_per_volume=3, volumes=2)], reading, True)
        dataset = CropDataset(train, (8, 16, 16), [Mark(1)], 0, None, background, [Mark(2)])
        samples = [dataset[1, i] for i in range(len(dataset))]
        assert [float(s.image.mean()) for s in samples] == [1] * 4 + [2] * 6
        assert all(s.labels.any() for s in samples[:2]) and not any(s.labels.any() for s in samples[4:])
        assert all(s.valid.all() and not s.offset.any() for s in samples[4:])
        check_alike(train[0][0], background[0][0])

    def test_by_default_flips_and_grey_values(self):
        kinds = [type(a) for a in background_augmentations()]
        moved = {AUGMENTATIONS.get(name) for name in ("Flip", "BrightnessContrast", "Noise")}
        assert set(kinds) == moved


def empty_batch():
    (volume,) = Synthetic(**SYNTHETIC).open_background(Reading())
    dataset = CropDataset([], (8, 16, 16), (), 0, None, [(volume, 2)], ())
    return next(iter(train_loader(dataset, 2, seed=0)))


def test_volumes_of_background_survive_pickling():
    import pickle

    (volume,) = Synthetic(**SYNTHETIC).open_background(Reading())
    copy = pickle.loads(pickle.dumps(volume))
    box = Box((0, 1, 2), (3, 9, 9))
    assert np.array_equal(copy.window(box).image, volume.window(box).image)
    assert background_volume("x", volume.image, volume.intensity, [1, 1, 1]).labels.shape == volume.shape


class TestGradient:
    def gradient(self, criterion, batch, probability=0.4):
        logits = torch.full_like(batch.images, np.log(probability / (1 - probability))).requires_grad_()
        loss = criterion(logits.sigmoid(), batch.foreground, batch.valid.unsqueeze(1))
        loss.backward()
        return float(loss.detach()), logits.grad

    @pytest.mark.parametrize(
        "node", ["Tversky", "Dice", "BCE", {"type": "Tversky", "alpha": 0.25, "beta": 0.75}]
    )
    def test_an_empty_batch_pushes_every_voxel_down(self, node):
        batch = empty_batch()
        loss, gradient = self.gradient(CRITERIA.build(node), batch)
        # as strong as the gradient of a mean over voxels, within an order of magnitude
        typical = 0.4 * 0.6 / batch.images.numel()
        assert torch.isfinite(gradient).all() and (gradient > typical / 10).all() and loss > 0.1
        assert (
            self.gradient(CRITERIA.build(node), batch, 1e-4)[0] < 1e-3
        )  # and there is nothing left to learn

    @pytest.mark.parametrize("kind", ["Tversky", "Dice"])
    def test_the_loss_of_an_empty_batch_is_the_mean_output_of_each_image(self, kind):
        output = torch.rand(2, 1, 4, 5, 6)
        valid = torch.rand(2, 1, 4, 5, 6) > 0.4
        loss = CRITERIA.build(kind)(output, torch.zeros_like(output), valid)
        means = [image[known].mean() for image, known in zip(output, valid)]
        assert float(loss) == pytest.approx(float(sum(means)) / 2, rel=1e-5)
        # an object that nobody knows of does not make the batch a full one
        target = (~valid).float()
        assert float(CRITERIA.build(kind)(output, target, valid)) == pytest.approx(float(loss), rel=1e-5)

    def test_the_default_heads_learn_from_background_alone(self):
        batch = empty_batch()
        torch.manual_seed(0)
        features = torch.randn(2, 4, 8, 16, 16)
        for head in (SemanticHead(4), SkeletonHead(4)):
            optimizer = torch.optim.SGD(head.parameters(), 1.0)
            losses = []
            for _ in range(30):
                loss = head.loss(head(features), head.targets(batch), batch, 1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(float(loss.detach()))
            assert losses[-1] < 0.7 * losses[0]

    def test_vectors_of_background_mean_nothing_and_cost_nothing(self):
        batch = empty_batch()
        head = VectorHead(4, scale=5.0, distance_weight=0.5)
        loss = head.loss(head(torch.randn(2, 4, 8, 16, 16)), head.targets(batch), batch, 1)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
        assert all(torch.isfinite(p.grad).all() and not p.grad.any() for p in head.parameters())

    def test_beside_a_crop_with_objects_it_is_one_image_of_two(self):
        output = torch.rand(2, 1, 4, 5, 6)
        target = (torch.rand(2, 1, 4, 5, 6) > 0.6).float()
        target[1] = 0
        hit = (output[0] * target[0]).sum()
        index = hit / (hit + 0.5 * (output[0].sum() - hit) + 0.5 * (target[0].sum() - hit))
        wanted = (1 - index + output[1].mean()) / 2
        assert float(CRITERIA.build("Tversky")(output, target)) == pytest.approx(float(wanted), rel=1e-5)


def border_target(labels, smoothing):
    from skoots.models.targets.foreground import ForegroundTarget

    labels = torch.as_tensor(labels)[None]
    nothing = torch.zeros(1, labels.ndim - 1, *labels.shape[1:])
    batch = Batch(nothing[:, :1], labels, nothing, nothing[:, 0], labels > -1, (1.0, 1.0), ("",))
    return ForegroundTarget(border_smoothing=smoothing)(batch)["semantic"][0, 0]


def test_borders_of_touching_objects_are_smoothed_if_asked():
    labels = np.zeros((6, 9), np.int64)
    labels[1:5, 1:4], labels[1:5, 4:8] = 3, 8
    expected = (labels > 0).astype(np.float32)
    assert np.array_equal(border_target(labels, 0.0).numpy(), expected)
    expected[1:5, 3:5] = 0.8
    assert np.allclose(border_target(labels, 0.2).numpy(), expected)
    labels[:, 4] = 0  # apart: no border is touching
    assert np.array_equal(border_target(labels, 0.2).numpy(), labels > 0)


def test_background_stays_on_the_device_too(folder):
    train = open_sources([Synthetic(**SYNTHETIC, samples_per_volume=1)], Reading())
    background = open_sources([Folder(str(folder), store="gpu", samples_per_volume=2)], Reading(), True)
    assert all(volume.resident for volume, _ in background)
    dataset = CropDataset(train, (4, 16, 16), (), 0, None, background, on_device=True)
    assert [type(dataset[1, i]).__name__ for i in range(3)] == [
        "RawSample",
        "ResidentSample",
        "ResidentSample",
    ]
    crop = dataset.sample((1, 1))
    here = open_sources([Folder(str(folder), samples_per_volume=2)], Reading(), True)
    assert np.allclose(crop.image, CropDataset(train, (4, 16, 16), (), 0, None, here)[1, 1].image, atol=1e-5)
    with pytest.raises(VolumeError, match=r"store: gpu.*augment_on: device"):
        CropDataset(train, (4, 16, 16), (), 0, None, background)
