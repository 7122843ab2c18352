"""Contract suites: a plugin author subclasses one, gives a part, and pytest checks that skoots can work with
it.

::

    from skoots.testing import HeadContract

    class TestRimHead(HeadContract):
        def make(self, in_channels, spatial_dims):
            return RimHead(in_channels, spatial_dims)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from skoots.data.augment import Augmentation, Window
from skoots.geometry import Box, tile_volume
from skoots.instances import Decoder, Maps
from skoots.models.backbones.base import Backbone, Feature
from skoots.models.criteria.base import Criterion
from skoots.models.heads.base import Head
from skoots.models.necks.base import Neck
from skoots.models.promises import Rehearsal
from skoots.samples import Batch, Sample
from skoots.skeletons import nearest_offsets, skeleton_mask, skeletonize
from skoots.synthetic import make_volume

SHAPES = {2: (24, 20), 3: (12, 16, 20)}


def example_window(spatial_dims: int, seed: int = 0) -> Window:
    """A small synthetic window, as augmentations are given it.

    Args:
        spatial_dims: 2 or 3.
        seed: of its objects.
    """
    image, labels = make_volume(SHAPES[spatial_dims], seed, count=200, radius=(2.0, 3.0))
    valid = np.ones(labels.shape, bool)
    return Window(image[None], labels, valid, skeletonize(labels), (1.0,) * spatial_dims)


def example_batch(spatial_dims: int, size: int = 2) -> Batch:
    """A batch of small synthetic samples.

    Args:
        spatial_dims: 2 or 3.
        size: samples in it.
    """
    voxel_size = (1.0,) * spatial_dims
    samples = []
    for seed in range(size):
        image, labels = make_volume(SHAPES[spatial_dims], seed, count=200, radius=(2.0, 3.0))
        skeletons = skeletonize(labels)
        radius = np.concatenate([[0], skeletons.inscribed]).astype(np.float32)
        samples.append(
            Sample(
                image[None],
                labels,
                nearest_offsets(labels, skeletons),
                radius[labels],
                np.ones(labels.shape, bool),
                voxel_size,
            )
        )
    return Batch.collate(samples)


def example_maps(spatial_dims: int) -> tuple[dict[str, np.ndarray], tuple[float, ...]]:
    """What a perfect network says of a small synthetic sample.

    Args:
        spatial_dims: 2 or 3.

    Returns:
        ``vector`` (D, *S), ``semantic`` and ``skeleton`` (1, *S), float32, and the scale of the vectors.
    """
    batch = example_batch(spatial_dims, size=1)
    scale = tuple(float(n) for n in batch.offset[0].flatten(1).abs().amax(1).clamp(min=1))
    mask = skeleton_mask(batch.labels, batch.offset, batch.inscribed, batch.voxel_size)
    vector = batch.offset[0] / torch.tensor(scale).view(-1, *(1,) * spatial_dims)
    maps = {"vector": vector, "semantic": (batch.labels > 0).float(), "skeleton": mask.float()}
    return {name: values.numpy() for name, values in maps.items()}, scale


@pytest.mark.parametrize("spatial_dims", [2, 3])
class BackboneContract(ABC):
    """What every backbone promises."""

    @abstractmethod
    def make(self, in_channels: int, spatial_dims: int) -> Backbone:
        """The backbone under test."""

    def test_gives_the_features_that_it_promises(self, spatial_dims: int) -> None:
        backbone = self.make(2, spatial_dims).eval()
        assert backbone.spatial_dims == spatial_dims
        assert len(backbone.stride) == len(backbone.receptive_field) == spatial_dims
        Rehearsal(2, spatial_dims).backbone(backbone)
        shape = tuple(3 * s for s in backbone.stride)
        given = backbone.named(backbone(torch.randn(2, 2, *shape)))
        for feature in backbone.features:
            size = [n // s for n, s in zip(shape, feature.stride)]
            assert given[feature.name].shape == (2, feature.channels, *size), feature

    def test_voxels_beyond_the_receptive_field_do_not_matter(self, spatial_dims: int) -> None:
        backbone = self.make(1, spatial_dims).eval()
        for axis, (reach, stride) in enumerate(zip(backbone.receptive_field, backbone.stride)):
            shape = [2 * s for s in backbone.stride]
            shape[axis] = -(-(reach + 8) // stride) * stride + stride
            last, images = shape[axis] - 1, torch.randn(1, 1, *shape)
            changed = images.clone()
            changed.select(2 + axis, last).add_(10.0)
            with torch.no_grad():
                before, after = (backbone.named(backbone(image)) for image in (images, changed))
            for feature in backbone.features:
                far = -(-(last - reach) // feature.stride[axis])
                difference = (before[feature.name] - after[feature.name]).abs().narrow(2 + axis, 0, far)
                assert difference.numel() and float(difference.max()) < 1e-4, (axis, feature)

    def test_gradients_reach_every_weight(self, spatial_dims: int) -> None:
        backbone = self.make(1, spatial_dims).train()
        given = backbone.named(backbone(torch.randn(2, 1, *(2 * s for s in backbone.stride))))
        torch.stack([given[f.name].square().mean() for f in backbone.features]).sum().backward()
        assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)


@pytest.mark.parametrize("spatial_dims", [2, 3])
class NeckContract(ABC):
    """What every neck promises.

    Attributes:
        strides: of the features that it is tried on, along all axes.
    """

    strides: Sequence[int] = (1, 2, 4)

    @abstractmethod
    def make(self, features: Sequence[Feature], in_channels: int, spatial_dims: int) -> Neck:
        """The neck under test."""

    def given(self, spatial_dims: int, edge: int = 16) -> tuple[Neck, torch.Tensor, dict[str, torch.Tensor]]:
        """The neck, images of two channels, and features of them."""
        facts = [Feature(f"stride{s}", 3 + s, (s,) * spatial_dims) for s in self.strides]
        images = torch.randn(2, 2, *(edge,) * spatial_dims)
        features = {
            fact.name: torch.randn(2, fact.channels, *(edge // n for n in fact.stride)) for fact in facts
        }
        return self.make(facts, 2, spatial_dims), images, features

    def test_features_come_to_the_images_resolution(self, spatial_dims: int) -> None:
        neck, images, features = self.given(spatial_dims)
        assert neck.eval()(images, features).shape == (2, neck.out_channels, *images.shape[2:])
        assert len(neck.receptive_field) == spatial_dims

    def test_voxels_beyond_the_receptive_field_do_not_matter(self, spatial_dims: int) -> None:
        neck, images, features = self.given(spatial_dims, edge=32)
        neck.eval()
        with torch.no_grad():
            before = neck(images, features)
            for stride, name in zip((1, *self.strides), (None, *features)):
                for axis, reach in enumerate(neck.receptive_field):
                    changed = {key: value.clone() for key, value in features.items()}
                    image = images.clone()
                    (image if name is None else changed[name]).select(2 + axis, -1).add_(10.0)
                    far = images.shape[2 + axis] - stride - reach
                    difference = (before - neck(image, changed)).abs().narrow(2 + axis, 0, far)
                    assert difference.numel() and float(difference.max()) < 1e-4, (name, axis)

    def test_gradients_reach_every_weight(self, spatial_dims: int) -> None:
        neck, images, features = self.given(spatial_dims)
        neck.train()(images, features).square().mean().backward()
        assert all(p.grad is not None for p in neck.parameters() if p.requires_grad)


@pytest.mark.parametrize("spatial_dims", [2, 3])
class HeadContract(ABC):
    """What every head promises."""

    @abstractmethod
    def make(self, in_channels: int, spatial_dims: int) -> Head:
        """The head under test."""

    def test_outputs_and_targets_are_named_and_shaped(self, spatial_dims: int) -> None:
        head, batch = self.make(4, spatial_dims), example_batch(spatial_dims)
        features = torch.randn(2, 4, *SHAPES[spatial_dims])
        for tensors in (head(features), head.targets(batch), head.predict(head(features))):
            assert tensors
            for name, tensor in tensors.items():
                assert isinstance(name, str)
                assert tensor.shape[0] == 2 and tensor.shape[2:] == SHAPES[spatial_dims]

    def test_facts_of_vectors_have_a_number_for_each_axis(self, spatial_dims: int) -> None:
        head = self.make(4, spatial_dims)
        sigma = head.sigma_at(1)
        assert head.scale is None or head.scale.shape == (spatial_dims,)
        assert sigma is None or len(sigma) == spatial_dims

    def test_loss_is_a_finite_scalar_with_a_gradient(self, spatial_dims: int) -> None:
        head, batch = self.make(4, spatial_dims), example_batch(spatial_dims)
        features = torch.randn(2, 4, *SHAPES[spatial_dims], requires_grad=True)
        loss = head.loss(head(features), head.targets(batch), batch, epoch=1)
        assert loss.shape == () and bool(torch.isfinite(loss))
        loss.backward()
        assert features.grad is not None and bool(torch.isfinite(features.grad).all())

    def test_loss_of_a_batch_without_objects_is_finite(self, spatial_dims: int) -> None:
        head, batch = self.make(4, spatial_dims), example_batch(spatial_dims)
        for tensor in (batch.labels, batch.offset, batch.inscribed):
            tensor.zero_()
        features = torch.randn(2, 4, *SHAPES[spatial_dims])
        assert bool(torch.isfinite(head.loss(head(features), head.targets(batch), batch, epoch=1)))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("seed", range(4))
class AugmentationContract(ABC):
    """What every augmentation promises."""

    @abstractmethod
    def make(self) -> Augmentation:
        """The augmentation under test; with a rate of 1, if it has one, it is tested most."""

    def test_shapes_and_types_stay(self, spatial_dims: int, seed: int) -> None:
        window = example_window(spatial_dims)
        changed = self.make()(window, np.random.default_rng(seed))
        for before, after in zip(_arrays(window), _arrays(changed)):
            assert before.shape == after.shape and before.dtype == after.dtype
        assert np.isfinite(changed.image).all() and changed.voxel_size == window.voxel_size

    def test_the_window_given_is_left_as_it_is(self, spatial_dims: int, seed: int) -> None:
        window, untouched = example_window(spatial_dims), example_window(spatial_dims)
        self.make()(window, np.random.default_rng(seed))
        for before, after in zip(_arrays(untouched), _arrays(window)):
            assert np.array_equal(before, after)

    def test_the_generator_decides_everything(self, spatial_dims: int, seed: int) -> None:
        augmentation, window = self.make(), example_window(spatial_dims)
        once, again = (augmentation(window, np.random.default_rng(seed)) for _ in range(2))
        for one, other in zip(_arrays(once), _arrays(again)):
            assert np.array_equal(one, other)

    def test_skeletons_stay_on_their_objects(self, spatial_dims: int, seed: int) -> None:
        changed = self.make()(example_window(spatial_dims), np.random.default_rng(seed))
        shape = np.array(changed.labels.shape)
        for object_id, points in changed.skeletons.as_dict().items():
            voxels = np.argwhere(changed.labels == object_id)
            inside = points[((points >= 0) & (points <= shape - 1)).all(1)]
            if len(voxels) and len(inside):
                distance = np.abs(inside[:, None] - voxels).max(-1).min(1)
                assert distance.max() < 1.5, f"object {object_id} moved other than its skeleton"


def _arrays(window: Window) -> tuple[np.ndarray, ...]:
    return window.image, window.labels, window.valid, window.skeletons.points, window.skeletons.inscribed


class CriterionContract(ABC):
    """What every criterion promises."""

    @abstractmethod
    def make(self) -> Criterion:
        """The criterion under test."""

    def test_right_is_better_than_wrong(self) -> None:
        criterion = self.make()
        target = torch.zeros(1, 1, 16, 16)
        target[..., 4:12, 4:12] = 1
        right, wrong = target * 0.98 + 0.01, (1 - target) * 0.98 + 0.01
        assert float(criterion(right, target)) < float(criterion(wrong, target))

    def test_invalid_voxels_do_not_count(self) -> None:
        criterion = self.make()
        target = (torch.arange(256).view(1, 1, 16, 16) % 3 == 0).float()
        output, other = torch.full_like(target, 0.3), torch.full_like(target, 0.3)
        valid = torch.ones(1, 1, 16, 16, dtype=torch.bool)
        valid[..., 8:, :] = False
        other[..., 8:, :] = 0.9
        assert torch.allclose(criterion(output, target, valid), criterion(other, target, valid))

    def test_gradient_is_finite_without_objects(self) -> None:
        output = torch.full((1, 1, 8, 8), 0.5, requires_grad=True)
        self.make()(output, torch.zeros(1, 1, 8, 8)).backward()
        assert output.grad is not None and bool(torch.isfinite(output.grad).all())


@pytest.mark.parametrize("spatial_dims", [2, 3])
class DecoderContract(ABC):
    """What every decoder promises."""

    @abstractmethod
    def make(self) -> Decoder:
        """The decoder under test."""

    def values(self, spatial_dims: int) -> dict[str, np.ndarray]:
        """Maps with an object at least, (C, *S) floats by name; give those of your own heads here."""
        return example_maps(spatial_dims)[0]

    def maps(self, spatial_dims: int) -> Maps:
        """The values as the decoder reads them."""
        scale = example_maps(spatial_dims)[1]
        return Maps.of(self.values(spatial_dims), self.make().reads, (1.0,) * spatial_dims, scale)

    def test_objects_are_numbered_from_1_and_lie_in_the_foreground(self, spatial_dims: int) -> None:
        decoder, maps = self.make(), self.maps(spatial_dims)
        labels = decoder.decode(maps)
        assert labels.shape == maps.shape and labels.dtype == np.int32
        assert labels.max() >= 1 and np.unique(labels[labels > 0]).tolist() == [*range(1, labels.max() + 1)]
        assert np.bincount(labels.ravel())[1:].min() >= decoder.min_size
        foreground = decoder.foreground(maps)
        assert foreground.dtype == bool and not labels[~foreground].any()

    def test_boxes_are_parts_of_the_whole(self, spatial_dims: int) -> None:
        """Whatever their size, and also if several are assigned at once."""
        decoder, maps = self.make(), self.maps(spatial_dims)
        seeds = decoder.seeds(maps)
        assert seeds.shape == maps.shape and seeds.dtype == np.int32
        whole = decoder.assign(maps, seeds)
        boxes = [tile.write for size in (3, 7) for tile in tile_volume(maps.shape, (size,) * spatial_dims)]
        with ThreadPoolExecutor(2) as pool:
            for box, part in zip(boxes, pool.map(lambda box: decoder.assign(maps, seeds, box), boxes)):
                assert np.array_equal(part, whole[box.slices]), box
        part = decoder.decode(maps, boxes[-1])
        assert np.array_equal(part, decoder.decode(maps)[boxes[-1].slices])

    def test_a_box_reads_no_further_than_the_longest_walk(self, spatial_dims: int) -> None:
        decoder, maps = self.make(), self.maps(spatial_dims)
        seeds, box = decoder.seeds(maps), Box((0,) * spatial_dims, (2,) * spatial_dims)
        expected = decoder.assign(maps, seeds, box)
        near = box.grow(decoder.longest_walk(maps)).intersect(Box.of_shape(maps.shape))
        window = (slice(None), *near.slices)
        for array in (*maps.arrays.values(), seeds[None]):
            beyond = np.ones(array.shape, bool)
            beyond[window] = False
            array[beyond] = 1
        assert np.array_equal(decoder.assign(maps, seeds, box), expected)

    def test_maps_are_left_as_they_are_and_decide_everything(self, spatial_dims: int) -> None:
        decoder, maps, untouched = self.make(), self.maps(spatial_dims), self.maps(spatial_dims)
        assert np.array_equal(decoder.decode(maps), decoder.decode(maps))
        for name, array in untouched.arrays.items():
            assert np.array_equal(array, maps.arrays[name])

    def test_without_foreground_there_is_nothing(self, spatial_dims: int) -> None:
        decoder, maps = self.make(), self.maps(spatial_dims)
        for array in maps.arrays.values():
            array[:] = 0
        assert not decoder.decode(maps).any()

    def test_settings_that_are_tried_are_allowed(self, spatial_dims: int) -> None:
        decoder, maps = self.make(), self.maps(spatial_dims)
        for name, values in decoder.tried.items():
            assert values, f"{name} has no values to try"
            for value in values:
                other = replace(decoder, **{name: value})
                if set(other.reads) <= set(maps.arrays):  # else it is for networks with more heads
                    other.decode(maps)
