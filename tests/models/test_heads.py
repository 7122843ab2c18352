"""Heads: their targets, their losses, and the model that sums them up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from skoots.data.augment import Window
from skoots.data.labelled_volume import make_sample
from skoots.models.backbones.base import Feature
from skoots.models.backbones.unet import UNet
from skoots.models.criteria.tversky import Dice, Tversky
from skoots.models.heads.base import HEADS
from skoots.models.heads.semantic import SemanticHead
from skoots.models.heads.skeleton import SkeletonHead
from skoots.models.heads.vector import VectorHead
from skoots.models.necks.bottleneck import ConvNeck
from skoots.models.segmentation_model import SegmentationModel
from skoots.models.targets.skeleton_mask import SkeletonMaskTarget
from skoots.samples import Batch
from skoots.skeletons import offset_to_prob, skeletonize
from skoots.skeletons.depth import relative_depth
from skoots.skeletons.mask import core_mask
from skoots.synthetic import make_volume

ONE_FEATURE = [Feature("features", 4, (1, 1, 1))]


def make_batch(shape=(12, 20, 20), voxel_size=None, seeds=(0, 1), unknown=0.2):
    """A batch of synthetic volumes, a part of each of them unknown."""
    voxel_size = voxel_size or (1.0,) * len(shape)
    samples = []
    for seed in seeds:
        image, labels = make_volume(shape, seed, radius=(2, 3))
        valid = np.ones(shape, bool)
        valid[: int(unknown * shape[0])] = False
        labels = np.where(valid, labels, 0)
        samples.append(
            make_sample(Window(image[None], labels, valid, skeletonize(labels, voxel_size), voxel_size))
        )
    return Batch.collate(samples)


def make_model(dims=3, **arguments):
    torch.manual_seed(0)
    backbone = UNet(spatial_dims=dims, channels=(4, 6))
    heads = {
        "vector": VectorHead(4, dims, scale=6.0),
        "semantic": SemanticHead(4, dims),
        "skeleton": SkeletonHead(4, dims),
    }
    return SegmentationModel(backbone, heads, **arguments)


def exact_outputs(model, batch):
    """What a perfect network would say."""
    vector = batch.offset / torch.tensor(model.vector_scale).view(1, -1, *(1,) * (batch.labels.ndim - 1))
    relative = relative_depth(batch.labels, batch.offset, batch.voxel_size)
    skeleton = core_mask(batch.labels, batch.offset, relative, batch.voxel_size)
    return {
        "vector": {"vector": vector},
        "semantic": {"semantic": batch.foreground},
        "skeleton": {"skeleton": skeleton.unsqueeze(1).float()},
    }


@pytest.mark.parametrize(
    "shape, voxel_size", [((12, 20, 20), None), ((6, 20, 20), (3, 1, 1)), ((32, 32), None)]
)
def test_exact_outputs_cost_nothing(shape, voxel_size):
    model, batch = make_model(len(shape)), make_batch(shape, voxel_size)
    outputs = exact_outputs(model, batch)
    total, parts = model.loss(outputs, model.targets(batch), batch, epoch=1)
    assert list(parts) == ["vector", "semantic", "skeleton"]
    assert total.item() == pytest.approx(0, abs=1e-4)


def test_every_head_learns():
    model, batch = make_model(), make_batch((8, 16, 16), seeds=(0,))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses = []
    for _ in range(30):
        total, parts = model.loss(model(batch.images), model.targets(batch), batch, epoch=1)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append({k: v.item() for k, v in parts.items()})
    assert all(losses[-1][name] < 0.95 * losses[0][name] for name in losses[0]), losses
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_unknown_voxels_have_no_influence_on_any_head():
    model, batch = make_model(), make_batch()
    outputs, targets = model(batch.images), model.targets(batch)
    disturbed = {
        head: {k: torch.where(batch.valid.unsqueeze(1), v, torch.rand_like(v)) for k, v in output.items()}
        for head, output in outputs.items()
    }
    _, parts = model.loss(outputs, targets, batch, 1)
    _, others = model.loss(disturbed, targets, batch, 1)
    assert all(torch.allclose(parts[name], others[name]) for name in parts)


def test_a_batch_without_objects_or_without_known_voxels_is_finite():
    model, batch = make_model(), make_batch()
    empty = Batch(
        batch.images,
        batch.labels * 0,
        batch.offset * 0,
        batch.inscribed * 0,
        batch.valid,
        batch.voxel_size,
        batch.origins,
    )
    for odd in (empty, replace(empty, valid=batch.valid & False)):
        model.zero_grad()
        total, _ = model.loss(model(odd.images), model.targets(odd), odd, 1)
        total.backward()
        assert total.isfinite()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_weight_and_start_epoch():
    model, batch = make_model(), make_batch()
    model.heads["vector"].weight, model.heads["skeleton"].start_epoch = 3.0, 5
    outputs, targets = exact_outputs(model, batch), model.targets(batch)
    outputs["vector"]["vector"] = outputs["vector"]["vector"] + 0.3
    outputs["skeleton"]["skeleton"] = outputs["skeleton"]["skeleton"] * 0.5
    before, parts = model.loss(outputs, targets, batch, epoch=4)
    after, _ = model.loss(outputs, targets, batch, epoch=5)
    assert parts["skeleton"] > 0.1
    assert before.item() == pytest.approx((3 * parts["vector"] + parts["semantic"]).item(), rel=1e-5)
    assert after.item() == pytest.approx((before + parts["skeleton"]).item(), rel=1e-5)


def test_before_any_head_counts_the_loss_is_zero_with_a_gradient_of_zero():
    model, batch = make_model(), make_batch()
    for head in model.heads.values():
        head.start_epoch = 2
    total, parts = model.loss(model(batch.images), model.targets(batch), batch, epoch=1)
    total.backward()
    assert total.item() == 0 and set(parts) == {"vector", "semantic", "skeleton"}
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


class TestVectorHead:
    def test_sigma_decays_once_an_epoch_has_passed(self):
        head = VectorHead(2, 2, scale=5, sigma=8.0, sigma_decay=[(0.5, 3), (0.1, 10)])
        sigmas = [head.sigma_at(epoch)[0] for epoch in (1, 3, 4, 10, 11)]
        assert sigmas == pytest.approx([8, 8, 4, 4, 0.4])

    def test_lengths_are_physical_or_voxels_per_axis(self):
        head = VectorHead(2, 3, voxel_size=(4, 1, 2), scale=12, sigma=[3, 2, 1])
        assert head.scale.tolist() == [3, 12, 6] and head.sigma_at(1) == (3, 2, 1)

    def test_scale_is_saved_with_the_weights_and_auto_must_be_decided(self):
        assert "scale" in VectorHead(2, 2, scale=5).state_dict()
        with pytest.raises(ValueError, match="scale 'auto' must be decided from data first"):
            VectorHead(2, 2)

    def test_the_loss_is_the_published_one(self):
        batch = make_batch(unknown=0)
        head = VectorHead(2, 3, scale=6.0, sigma=2.5, criterion=Tversky(0.25, 0.75))
        vector = torch.rand_like(batch.offset) * 2 - 1
        probability = offset_to_prob([6.0] * 3, vector, batch.offset, [2.5] * 3) * batch.foreground
        expected = Tversky(0.25, 0.75)(probability, batch.foreground)
        loss = head.loss({"vector": vector}, head.targets(batch), batch, epoch=1)
        assert loss.item() == pytest.approx(expected.item())

    def test_the_distance_term_by_hand(self):
        batch = make_batch()
        arguments = dict(scale=6.0, sigma=[2.0, 3.0, 4.0], sigma_decay=[(0.5, 1)])
        plain, pulled = VectorHead(2, 3, **arguments), VectorHead(2, 3, distance_weight=0.5, **arguments)
        vector = torch.zeros_like(batch.offset)
        difference = [
            (
                pulled.loss({"vector": vector}, plain.targets(batch), batch, epoch)
                - plain.loss({"vector": vector}, plain.targets(batch), batch, epoch)
            ).item()
            for epoch in (1, 9)
        ]
        steps = batch.offset.movedim(1, -1)[(batch.labels > 0) & batch.valid] / torch.tensor([2.0, 3.0, 4.0])
        expected = 0.5 * (steps.square().sum(-1) + 1e-4).sqrt().mean().item()
        assert difference == pytest.approx([expected, expected], rel=1e-4)  # sigma's decay does not change it


def test_default_criteria():
    vector, semantic, skeleton = VectorHead(2, scale=5), SemanticHead(2), SkeletonHead(2)
    assert (vector.criterion.alpha, vector.criterion.beta) == (0.25, 0.75)
    assert isinstance(semantic.criterion, Tversky)
    assert [type(term).__name__ for term in skeleton.criterion.terms] == ["Tversky", "BCE"]
    assert isinstance(SemanticHead(2, criterion=Dice()).criterion, Dice)
    assert {"VectorHead", "SemanticHead", "SkeletonHead"} <= set(HEADS.names())


def test_skeleton_target_takes_a_radius():
    batch = make_batch()
    thin, wide = (SkeletonMaskTarget(radius)(batch)["skeleton"] for radius in (1.0, 3.0))
    assert thin.shape == wide.shape == batch.foreground.shape
    assert thin.sum() < wide.sum() < batch.foreground.sum()


def test_facts_of_the_model():
    model = make_model(neck=ConvNeck(ONE_FEATURE, 3, kernel=5))
    assert model.spatial_dims == 3 and model.stride == (2, 2, 2)
    assert model.receptive_field == tuple(r + 2 + 1 for r in model.backbone.receptive_field)
    assert model.vector_scale == (6, 6, 6)
    assert model.vector_sigma(1) == (4, 4, 4) and model.finest_channels == 4
    plain = SegmentationModel(UNet(channels=(2,)), {"semantic": SemanticHead(2)})
    assert plain.vector_scale is None and plain.vector_sigma(1) is None and plain.finest_channels == 2


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def test_frozen_statistics_stay_in_training():
    model, batch = make_model(freeze_bn_stats=True, neck=ConvNeck(ONE_FEATURE, 3)), make_batch()
    before = [n.running_mean.clone() for n in norms(model.backbone)]
    model.train()
    model(batch.images)
    assert all(torch.equal(n.running_mean, b) for n, b in zip(norms(model.backbone), before))
    assert norms(model.neck)[0].running_mean.any()  # only the backbone's are frozen
    assert all(n.weight.requires_grad for n in norms(model.backbone))


def test_free_statistics_move_and_frozen_weights_do_not():
    model, batch = make_model(freeze_bn_weights=True).train(), make_batch()
    model(batch.images)
    assert all(n.running_mean.any() for n in norms(model.backbone))
    assert not any(p.requires_grad for n in norms(model.backbone) for p in n.parameters())
    assert model.heads["vector"].conv.weight.requires_grad
