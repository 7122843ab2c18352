"""From a config to a model, and from a snapshot to a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skoots.api import TrainingOutcome, load_model
from skoots.api.build import (
    DataFacts,
    build_augmentations,
    build_model,
    decoder_of,
    needs_scale,
    open_volumes,
    with_scale,
)
from skoots.config import load_config
from skoots.data.augment import AUGMENTATIONS, Augmentation, Sequential, Window
from skoots.errors import ConfigError, SnapshotError
from skoots.instances import SkeletonDecoder
from skoots.instances.decoders.landing import LandingDecoder
from skoots.models.criteria.tversky import Dice, Tversky
from skoots.models.criteria.voxelwise import BCE
from skoots.models.criteria.weighted_sum import WeightedSum
from skoots.models.necks.bottleneck import ConvNeck
from skoots.models.segmentation_model import SegmentationModel
from skoots.snapshots import read_snapshot, write_snapshot

Make = Callable[..., dict[str, Any]]
FACTS = DataFacts(in_channels=1, spatial_dims=2, voxel_size=(1.0, 1.0))


def model_of(config: dict[str, Any], facts: DataFacts = FACTS) -> SegmentationModel:
    settings = load_config(config)
    return build_model(with_scale(settings, [5.0] * facts.spatial_dims), facts)


# The model --------------------------------------------------------------------------------------------------


def test_parts_are_built_from_what_others_publish(make_config: Make) -> None:
    model = model_of(
        make_config(model={"backbone": {"type": "UNet", "channels": [6, 8]}}),
        DataFacts(2, 3, (4.0, 1.0, 1.0)),
    )
    assert model.spatial_dims == 3
    assert model.stride == (1, 2, 2)  # from the voxel size
    maps = model.predict(model(torch.zeros(1, 2, 3, 5, 7)))
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "vector": (1, 3, 3, 5, 7), "semantic": (1, 1, 3, 5, 7), "skeleton": (1, 1, 3, 5, 7),
    }  # fmt: skip


def test_a_neck_stands_between(make_config: Make) -> None:
    config = make_config(model={"neck": {"type": "ConvNeck", "out_channels": 3, "kernel": 5}})
    model, plain = model_of(config), model_of(make_config())
    assert isinstance(model.neck, ConvNeck) and plain.neck is None
    assert model.heads["semantic"].conv.in_channels == 3 and plain.heads["semantic"].conv.in_channels == 4  # type: ignore[union-attr]
    assert model.receptive_field == tuple(n + 2 for n in plain.receptive_field)
    assert model(torch.zeros(1, 1, 8, 8))["vector"]["vector"].shape == (1, 2, 8, 8)


def test_output_channels_are_checked(make_config: Make) -> None:
    assert model_of(make_config(model={"backbone_output_channels": 4}))
    with pytest.raises(ConfigError) as error:
        model_of(make_config(model={"backbone_output_channels": 32}))
    sentence = str(error.value)
    assert "model.backbone_output_channels" in sentence and "says 32 and UNet gives 4" in sentence
    assert "Write 4" in sentence


def test_arguments_that_do_not_fit_together_are_named_with_their_path(make_config: Make) -> None:
    with pytest.raises(ConfigError, match=r"model\.backbone.*2 levels need 1 strides"):
        model_of(
            make_config(model={"backbone": {"type": "UNet", "channels": [4, 8], "strides": [[2, 2], [2, 2]]}})
        )
    with pytest.raises(ConfigError, match=r"model\.heads\.semantic.*must be odd"):
        model_of(make_config(model={"heads": {"semantic": {"type": "SemanticHead", "kernel": 2}}}))


@pytest.mark.parametrize("stats", [False, True])
@pytest.mark.parametrize("weights", [False, True])
def test_batch_norms_of_the_backbone_can_be_frozen(stats: bool, weights: bool, make_config: Make) -> None:
    backbone = {"type": "UNet", "channels": [4, 8], "freeze_bn_stats": stats, "freeze_bn_weights": weights}
    model = model_of(make_config(model={"backbone": backbone, "neck": {"type": "ConvNeck"}})).train()
    norms = [layer for layer in model.backbone.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert norms and all(layer.training != stats for layer in norms)
    assert all(
        layer.weight.requires_grad != weights and layer.bias.requires_grad != weights for layer in norms
    )
    others = {id(p) for layer in norms for p in layer.parameters()}
    assert all(p.requires_grad for p in model.parameters() if id(p) not in others)
    assert model.neck is not None and all(layer.training for layer in model.neck.modules())
    before = [layer.running_mean.clone() for layer in norms if layer.running_mean is not None]
    model(torch.randn(2, 1, 8, 8))
    after = [layer.running_mean for layer in norms if layer.running_mean is not None]
    assert all(torch.equal(a, b) == stats for a, b in zip(before, after))


# Criteria ---------------------------------------------------------------------------------------------------


def criterion_of(node: Any, make_config: Make) -> torch.nn.Module:
    model = model_of(make_config(model={"heads": {"semantic": {"type": "SemanticHead", "criterion": node}}}))
    return model.heads["semantic"].criterion  # type: ignore[return-value]


@pytest.mark.parametrize(
    "node", ["Dice", {"type": "Dice"}, [{"type": "Dice"}], {"semantic": {"type": "Dice"}}]
)
def test_one_criterion_is_itself(node: Any, make_config: Make) -> None:
    assert isinstance(criterion_of(node, make_config), Dice)


@pytest.mark.parametrize(
    "node",
    [
        [{"type": "Tversky", "alpha": 0.3, "beta": 0.7}, {"type": "BCE", "weight": 0.5}],
        {
            "a": {"type": "Tversky", "params": {"alpha": 0.3, "beta": 0.7}},
            "b": {"type": "BCE", "weight": 0.5},
        },
    ],
)
def test_several_criteria_are_their_weighted_sum(node: Any, make_config: Make) -> None:
    criterion = criterion_of(node, make_config)
    assert isinstance(criterion, WeightedSum) and criterion.weights == [1.0, 0.5]
    output, target = torch.rand(1, 1, 6, 6), (torch.rand(1, 1, 6, 6) > 0.5).float()
    expected = Tversky(0.3, 0.7)(output, target) + 0.5 * BCE()(output, target)
    assert float(criterion(output, target)) == pytest.approx(float(expected))


def test_the_weight_of_a_lone_criterion_counts(make_config: Make) -> None:
    criterion = criterion_of({"semantic": {"type": "Dice", "weight": 3.0}}, make_config)
    output, target = torch.rand(1, 1, 6, 6), torch.ones(1, 1, 6, 6)
    assert float(criterion(output, target)) == pytest.approx(3 * float(Dice()(output, target)))


def test_targets_and_predictors_are_nodes_too(make_config: Make) -> None:
    head = {
        "type": "SkeletonHead",
        "target_generator": {"type": "SkeletonMaskTarget", "radius": 2.5},
        "predictor": "IdentityPredictor",
    }
    model = model_of(make_config(model={"heads": {"skeleton": head}}))
    assert model.heads["skeleton"].target_generator.radius == 2.5  # type: ignore[union-attr]


# Scale, augmentation, decoding, data ------------------------------------------------------------------------


def test_only_an_undecided_scale_is_filled_in(make_config: Make) -> None:
    heads = {"vector": {"type": "VectorHead", "sigma": 3.0}, "wide": {"type": "VectorHead", "scale": 9.0}}
    config = load_config(make_config(model={"heads": heads}))
    assert needs_scale(config) == ["vector"]
    decided = with_scale(config, [3.0, 4.0])
    assert (
        decided.model.heads["vector"]["scale"] == [3.0, 4.0] and decided.model.heads["wide"]["scale"] == 9.0
    )
    assert needs_scale(decided) == [] and needs_scale(config) == ["vector"]  # the one given is left as it is


def test_augmentations(make_config: Make) -> None:
    def names(value: Any) -> list[str]:
        return [
            type(part).__name__
            for part in build_augmentations(load_config(make_config(data={"augment": value})))
        ]

    assert names("none") == [] and names([]) == []
    assert names(["Flip", {"type": "Noise", "rate": 1.0}]) == ["Flip", "Noise"]
    assert names("default")[:2] == ["Flip", "SwapAxes"]
    assert names("original")[:3] == ["Flip", "Affine", "Elastic"]


def test_a_sequence_of_augmentations_is_built_to_the_bottom(make_config: Make) -> None:
    inner = {"type": "Sequential", "params": {"transforms": ["Noise", {"type": "Elastic", "rate": 1.0}]}}
    nodes = ["Flip", {"type": "Sequential", "transforms": [inner, "Shear"]}]
    (first, second) = build_augmentations(load_config(make_config(data={"augment": nodes})))
    assert type(first).__name__ == "Flip" and isinstance(second, Sequential)
    assert [type(part).__name__ for part in second.spatial] == ["Elastic", "Shear"]
    assert second.spatial[0].rate == 1.0 and [type(part).__name__ for part in second.others] == ["Noise"]


def test_augmentations_that_no_device_can_do(make_config: Make) -> None:
    if "Mark" not in AUGMENTATIONS:

        @AUGMENTATIONS.register
        class Mark(Augmentation):
            def __call__(self, window: Window, rng: np.random.Generator) -> Window:
                return window

    data = {"augment": ["Flip", "Mark"], "augment_on": "device"}
    with pytest.raises(ConfigError, match="Mark cannot work on the device"):
        build_augmentations(load_config(make_config(data=data)))
    data["augment_on"] = "cpu"
    assert len(build_augmentations(load_config(make_config(data=data)))) == 2


@pytest.mark.parametrize(
    "decoding",
    [
        {"min_size": 7, "reach": 3.0},
        {"type": "SkeletonDecoder", "min_size": 7, "reach": 3.0, "steps": None},
        {"type": "SkeletonDecoder", "params": {"min_size": 7, "reach": 3.0}},
        {"type": None, "min_size": 7, "params": {"reach": 3.0}},
    ],
)
def test_decoder_of_config_and_changes(decoding: dict[str, Any], make_config: Make) -> None:
    config = load_config(make_config(inference={"decoding": decoding}))
    assert decoder_of(config) == SkeletonDecoder(min_size=7, reach=3.0)
    for changes in ({"min_size": 9}, {"params": {"min_size": 9}}, {"min_size": np.int64(9)}):
        assert decoder_of(config, changes) == SkeletonDecoder(min_size=9, reach=3.0)
    other = {"type": "LandingDecoder", "votes": 3}
    assert decoder_of(config, other) == LandingDecoder(votes=3)  # the settings belong to the other decoder
    assert decoder_of(config, {"type": "SkeletonDecoder"}) == decoder_of(config)
    assert decoder_of(load_config(config.resolved())) == decoder_of(config)


def test_the_decoder_is_the_published_one_unless_a_config_says_so(make_config: Make) -> None:
    for inference in ({}, {"decoding": {}}, {"decoding": None}, {"decoding": "SkeletonDecoder"}):
        config = load_config(make_config(inference=inference))
        assert config.inference.decoding == {"type": "SkeletonDecoder"}
        assert decoder_of(config) == SkeletonDecoder()
    for named in ("LandingDecoder", {"type": "LandingDecoder"}):
        assert decoder_of(load_config(make_config(inference={"decoding": named}))) == LandingDecoder()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"min_sise": 9}, "inference.decoding.min_sise: unknown key of SkeletonDecoder. Did you"),
        ({"steps": -1}, "inference.decoding.steps: is -1, must be an integer of at least 0"),
        ({"type": "LandinDecoder"}, "inference.decoding.type: .*Did you mean LandingDecoder"),
        ({"type": 3}, r"inference.decoding: names no part, is {.*3}. Add type: Name."),
        ({"type": None}, "inference.decoding: names no part"),
        ({"params": 3}, "inference.decoding: has params that are no mapping"),
        ({"votes": 3}, "inference.decoding.votes: unknown key of SkeletonDecoder"),
        ({"type": "LandingDecoder", "min_skeleton": 3}, "unknown key of LandingDecoder"),
        ({"type": "PersistenceDecoder", "steps": "3"}, 'steps: is "3", must be an integer'),
        ({"min_size": {1}}, "inference.decoding.min_size: is a set"),
    ],
)
def test_changes_that_no_decoder_takes(changes: dict[str, Any], sentence: str, make_config: Make) -> None:
    with pytest.raises(ConfigError, match=sentence):
        decoder_of(load_config(make_config()), changes)


def test_volumes_of_all_sources_with_their_samples(
    make_config: Make, write_pair: Callable[..., Any], tmp_path: Path
) -> None:
    write_pair(tmp_path / "a", "one", 1)
    write_pair(tmp_path / "b", "two", 2, extension="zarr")
    sources = [str(tmp_path / "a"), {"path": str(tmp_path / "b"), "samples_per_volume": 5}]
    opened = open_volumes(load_config(make_config(data={"train": sources})), "train")
    assert [(volume.name, count) for volume, count in opened] == [("one", 32), ("two", 5)]
    assert all(volume.voxel_size == (2.0, 1.0, 1.0) for volume, _ in opened)
    assert open_volumes(load_config(make_config()), "test") == []


# Snapshots --------------------------------------------------------------------------------------------------


def test_a_model_comes_back_as_it_was_saved(trained: TrainingOutcome) -> None:
    state = read_snapshot(trained.latest_snapshot)
    for reference in (
        trained.latest_snapshot,
        f"{trained.run_folder}:latest",
        str(trained.run_folder.parent) + ":latest",
    ):
        loaded = load_model(reference, "cpu")
        assert loaded.snapshot == trained.latest_snapshot and loaded.epoch == 8
        assert all(
            torch.equal(value, state["net"][name]) for name, value in loaded.model.state_dict().items()
        )
    assert not any(module.training for module in loaded.model.modules())
    assert loaded.facts == DataFacts(1, 3, (2.0, 1.0, 1.0))
    assert loaded.config.train_settings.epochs == 8
    assert loaded.device == torch.device("cpu")
    assert load_model(trained.run_folder).snapshot == trained.best_snapshot


def test_an_average_wins_over_the_last_weights(trained: TrainingOutcome, tmp_path: Path) -> None:
    state = read_snapshot(trained.latest_snapshot)
    state["ema_net"] = {name: value * 0 for name, value in state["net"].items()}
    loaded = load_model(write_snapshot(state, tmp_path / "average.pt"))
    assert all(not value.any() for value in loaded.model.parameters())


def test_weights_without_a_config_are_refused(trained: TrainingOutcome, tmp_path: Path) -> None:
    state = read_snapshot(trained.latest_snapshot)
    for key in ("cfg", "facts"):
        less = {name: value for name, value in state.items() if name != key}
        path = write_snapshot(less, tmp_path / f"{key}.pt")
        with pytest.raises(SnapshotError, match=f"{path} holds weights but no config"):
            load_model(path)


def test_weights_of_another_model_are_refused(trained: TrainingOutcome, tmp_path: Path) -> None:
    state = read_snapshot(trained.latest_snapshot)
    state["cfg"]["model"]["backbone"]["channels"] = [4, 9]
    path = write_snapshot(state, tmp_path / "other.pt")
    with pytest.raises(SnapshotError, match=f"{path} does not fit the model that its config describes"):
        load_model(path)


def test_code_that_a_snapshot_names_never_runs_unasked(
    trained: TrainingOutcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = tmp_path / "traces"
    traces.mkdir()
    plugin = tmp_path / "unasked_plugin.py"
    plugin.write_text(f"import pathlib\npathlib.Path({str(traces)!r}, 'ran').touch()\n")
    state = read_snapshot(trained.latest_snapshot)
    state["cfg"]["plugins"] = [str(plugin)]
    path = write_snapshot(state, tmp_path / "foreign.pt")
    with pytest.raises(ConfigError) as error:
        load_model(path)
    sentence = str(error.value)
    assert "plugins.0" in sentence and "it was not loaded" in sentence
    assert f"give it yourself: --plugin {plugin}" in sentence
    assert list(traces.iterdir()) == []

    moved = tmp_path / "elsewhere" / plugin.name  # the user's own copy stands in for the author's path
    moved.parent.mkdir()
    shutil.move(plugin, moved)
    assert load_model(path, plugins=[str(moved)]).config.plugins == [str(moved)]
    assert (traces / "ran").exists()


def test_a_module_that_a_snapshot_names_never_runs_unasked(
    trained: TrainingOutcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unasked_module.py").write_text("raise AssertionError('it ran')\n")
    monkeypatch.syspath_prepend(tmp_path)
    state = read_snapshot(trained.latest_snapshot)
    state["cfg"]["plugins"] = ["unasked_module"]
    with pytest.raises(ConfigError, match="'unasked_module' is code that this config asks for"):
        load_model(write_snapshot(state, tmp_path / "foreign.pt"))


def test_a_config_that_asks_for_more_than_its_weights_is_refused(
    trained: TrainingOutcome, tmp_path: Path
) -> None:
    """Before any of it is allocated: this would be terabytes."""
    state = {key: value for key, value in read_snapshot(trained.latest_snapshot).items() if key != "format"}
    model = state["cfg"]["model"]

    def load(backbone: dict[str, object], **facts: object) -> None:
        cfg = {**state["cfg"], "model": {**model, "backbone": {**model["backbone"], **backbone}}}
        path = write_snapshot({**state, "cfg": cfg, "facts": {**state["facts"], **facts}}, tmp_path / "s.pt")
        load_model(path, "cpu")

    load({})
    with pytest.raises(SnapshotError, match=r"s\.pt does not fit the model that its config describes"):
        load({"channels": [4] * 5_000})
    for channels in ([10**6, 10**6], [4, 10**12]):
        with pytest.raises(ConfigError, match="more than 4,096 at a level"):
            load({"channels": channels})
    with pytest.raises(SnapshotError, match="does not fit the model that its config describes"):
        load({}, in_channels=60_000, intensity={**state["facts"]["intensity"], "volumes": [],
             "pooled": {"shift": [0.0] * 60_000, "scale": [1.0] * 60_000, "compress": False}})  # fmt: skip


# Backbones of several features ------------------------------------------------------------------------------


def test_coarse_features_get_a_decoder(make_config: Make) -> None:
    pytest.importorskip("timm")
    backbone = {"type": "TimmEncoder", "model_name": "resnet10t", "levels": 2}
    model = model_of(make_config(model={"backbone": backbone, "backbone_output_channels": 64}))
    assert type(model.neck).__name__ == "UNetDecoder"
    assert model(torch.zeros(1, 1, 7, 9))["vector"]["vector"].shape == (1, 2, 7, 9)
    pyramid = make_config(model={"backbone": backbone, "neck": {"type": "FPN", "out_channels": 5}})
    assert model_of(pyramid).heads["semantic"].conv.in_channels == 5  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"model\.neck.*ConvNeck takes one feature"):
        model_of(make_config(model={"backbone": backbone, "neck": {"type": "ConvNeck"}}))
    with pytest.raises(ConfigError, match=r"model\.neck\.features.*unknown"):
        model_of(make_config(model={"backbone": backbone, "neck": {"type": "FPN", "features": []}}))
    volumes = DataFacts(2, 3, (4.0, 1.0, 1.0))
    fused = model_of(make_config(model={"backbone": backbone, "neck": {"type": "SliceFusion"}}), volumes)
    assert fused(torch.zeros(1, 2, 3, 7, 9))["vector"]["vector"].shape == (1, 3, 3, 7, 9)


def test_what_monai_is_called_elsewhere() -> None:
    from skoots.models.backbones.base import BACKBONES

    assert BACKBONES.name_of("MonaiNetwork") == "MonaiNet"
